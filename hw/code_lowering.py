"""Layers of networks in codes as steps of an engine of codes (`hw.code_array`)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ref.errors import UserError
from ref.model import AveragePool2d, Conv2d, Layer, Model

from .ausn.code_product import ACTIVATIONS, WEIGHTS, lacks
from .code_maps import HALF, LEVELS, PLACES, ByteMap, CodeMap, order_of
from .config import FRACTION_BITS, EngineConfig
from .lowering import clips, expand_groups, largest_weight
from .program import STORED_OFFSET
from .step import Lowering, Map, Step

#: Largest magnitudes of weights of the blocks, beside lanes that shift and alone.
LARGEST, LARGEST_ALONE = 7, 127
#: Most bits of multipliers, with which an iCE40UP5K is full, and most shifts of an engine.
MOST_MULTIPLIER_BITS, MOST_SHIFTS = 8, 4


def in_codes(model: Model) -> bool:
    """Whether a model has activations in codes, and so is for an engine of codes."""
    rules = (getattr(layer, "requantization", layer) for layer in model.layers)
    return any(getattr(rule, "code", None) is not None for rule in rules)


def lower_codes(model: Model, config: EngineConfig) -> Lowering:
    """A model as steps. Raises `UserError` naming a layer the engine cannot run."""
    for layer in model.layers:
        check_layer(layer, model)
    orders = lane_orders(model)
    steps: list[Step] = []
    for layer in model.layers:
        steps += layer_steps(layer, model, orders, config)
    maps: dict[str, Map] = {}
    for name, tensor in model.tensors.items():
        if name in orders:
            maps[name] = CodeMap(tensor.shape, tensor.signed, order=orders[name])
        else:
            maps[name] = ByteMap(tensor.shape, tensor.signed,
                                 repeated=name == model.input.tensor)
    return Lowering(steps, maps)


def check_layer(layer: Layer, model: Model) -> None:
    """Raise `UserError` for a layer that the engine cannot run, whatever its weights."""
    if not isinstance(layer, Conv2d | AveragePool2d):
        raise UserError(f"layer {layer.name}: the engine of AUSN activations runs convolutions and "
                        "average pools only; use linear activations")
    rule, target = layer.requantization, model.tensors[layer.output]
    first, last = layer is model.layers[0], layer is model.layers[-1]
    if last == (rule.code is not None) or rule.code not in (None, ACTIVATIONS):
        raise UserError(f"layer {layer.name}: all results but the network's must be AUSN levels of "
                        f"{ACTIVATIONS.bits} bits, {ACTIVATIONS.exponent} of them of the exponent")
    if rule.code is None:
        bounded = target.bits > 8 or clips(rule, target)
    else:
        bounded = bool(np.any(rule.lo != 0) or np.any(rule.code.bytes[2 * rule.hi] != LEVELS[-1]))
    if bounded or rule.multiplier_negative is not None:
        raise UserError(f"layer {layer.name} has clip bounds or a leaky ReLU, which the engine of "
                        "AUSN activations has not; use linear activations")
    if first and (last or not isinstance(layer, Conv2d) or layer.depthwise):
        raise UserError(f"layer {layer.name}: the engine of AUSN activations begins with a "
                        "convolution that is not depthwise, and does not end with it")
    if last and (isinstance(layer, AveragePool2d) or layer.depthwise):
        raise UserError(f"layer {layer.name}: the engine of AUSN activations ends with a "
                        "convolution that is not depthwise")
    if (first or last) and isinstance(layer, Conv2d) and largest_weight(layer) > LARGEST_ALONE:
        raise UserError(f"layer {layer.name} has weights up to {largest_weight(layer)} and the "
                        f"engine multiplies by integers up to {LARGEST_ALONE}")


def lane_orders(model: Model) -> dict[str, tuple[int, ...]]:
    """The order of channels of each map in codes.

    A depthwise layer or a pool keeps its source's: all layers that it leads through must be able
    to make a channel in the same lanes. Raises `UserError` naming a layer with a channel that no
    lanes can make.
    """
    roots: dict[str, str] = {}
    able: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for layer in model.layers[:-1]:
        assert isinstance(layer, Conv2d | AveragePool2d)
        source, keeps = layer.inputs[0], isinstance(layer, AveragePool2d) or layer.depthwise
        root = roots[layer.output] = roots[source] if keeps else layer.output
        able.setdefault(root, (np.ones(model.tensors[layer.output].shape[0], bool),) * 2)
        if isinstance(layer, AveragePool2d) or source == model.input.tensor:
            continue                             # weights of 1; the blocks alone
        magnitudes = np.abs(layer.weight.astype(np.int64)).reshape(len(layer.weight), -1)
        multiplied, shifted = able[root]
        multiplied = multiplied & (magnitudes <= LARGEST).all(axis=1)
        shifted = shifted & np.isin(magnitudes, WEIGHTS.levels).all(axis=1)
        if not (multiplied | shifted).all():
            raise UserError(
                f"layer {layer.name} has weights in channel "
                f"{int(np.argmin(multiplied | shifted))} that are neither up to {LARGEST} nor AUSN "
                f"levels of {WEIGHTS.bits + 1} bits throughout; use the preset mixed4")
        able[root] = multiplied, shifted
    orders = {root: order_of(*both) for root, both in able.items()}
    return {name: orders[root] for name, root in roots.items()}


@dataclass(frozen=True)
class Lanes:
    """The output channels that lanes make, -1: none; of each lane of a step, in groups of a word.
    """

    channels: np.ndarray

    def of(self, values: np.ndarray) -> np.ndarray:
        """The lanes' own of what there is for each channel; 0 where they have none."""
        present = (self.channels >= 0).reshape(-1, *(1,) * (values.ndim - 1))
        return np.where(present, values[self.channels], 0)


def layer_steps(layer: Layer, model: Model, orders: dict[str, tuple[int, ...]],
                config: EngineConfig) -> list[Step]:
    """The steps of a layer: one, or two that each make half the channels in the blocks alone."""
    source = layer.inputs[0]
    if layer is model.layers[-1]:
        outputs = model.tensors[layer.output].shape[0]
        quads = np.pad(np.arange(outputs), (0, -outputs % HALF), constant_values=-1)
        return [step_of(layer, model, beside(quads), orders, config)]
    order = np.array(orders[layer.output])
    if source != model.input.tensor:
        return [step_of(layer, model, order, orders, config)]
    halves = order.reshape(-1, 2, HALF)
    return [replace(step_of(layer, model, beside(halves[:, half].ravel()), orders, config),
                    upper_half=bool(half)) for half in range(2)]


def beside(channels: np.ndarray) -> np.ndarray:
    """Channels for the blocks' lanes, with lanes that shift and make nothing beside them."""
    quads = channels.reshape(-1, HALF)
    return np.concatenate([quads, np.full_like(quads, -1)], axis=1).ravel()


def step_of(layer: Layer, model: Model, channels: np.ndarray, orders: dict[str, tuple[int, ...]],
            config: EngineConfig) -> Step:
    """A step whose lanes make these channels, group after group."""
    assert isinstance(layer, Conv2d | AveragePool2d)
    source, target = model.tensors[layer.inputs[0]], model.tensors[layer.output]
    byte_input, byte_result = source.name not in orders, target.name not in orders
    lanes, rule = Lanes(channels), layer.requantization
    inputs = np.arange(source.shape[0]) if byte_input else np.array(orders[source.name])
    if isinstance(layer, AveragePool2d):
        ones = np.ones((source.shape[0], 1, *layer.window.kernel), np.int64)
        weight, depthwise, macs = lanes.of(ones), True, 0
        pad = np.zeros(len(inputs), np.int64)
    else:
        dense, depthwise = expand_groups(layer).astype(np.int64), layer.depthwise
        weight = lanes.of(dense)
        if not depthwise:
            weight = np.where((inputs >= 0)[:, None, None], weight[:, inputs], 0)
        macs = target.shape[1] * target.shape[2] * layer.weight.size
        macs = macs * int((channels >= 0).sum()) // target.shape[0]
        pad = np.zeros(len(inputs), np.int64)
        if byte_input:
            pad = layer.pad_value + (STORED_OFFSET if source.signed else 0)
    bias = lanes.of(rule.bias.astype(np.int64))
    if byte_input:
        offset = STORED_OFFSET if source.signed else 0
        bias = bias - offset * weight.sum((1, 2, 3))
        bias = bias << FRACTION_BITS
    elif not byte_result:
        shifting = np.arange(len(channels)) % PLACES >= HALF
        missing = (np.vectorize(lacks, otypes=[np.int64])(weight)).sum((1, 2, 3))
        bias = bias + np.where(shifting, missing << FRACTION_BITS, 0)
    check_sums(layer, bias, byte_input, config)
    multiplier, shift = scaled(layer, byte_input, config)
    return Step(
        name=layer.name, sources=(source.name,), target=target.name,
        shape=(len(inputs), *source.shape[1:]), result=(len(channels), *target.shape[1:]),
        window=layer.window, weight=weight, depthwise=depthwise, maximum=False,
        hold=isinstance(layer, AveragePool2d), pad=pad, bias=bias,
        multiplier=lanes.of(multiplier), shift=shift, lo=0, hi=np.full(len(channels), 255),
        signed_output=byte_result and target.signed, macs=macs,
        byte_input=byte_input, byte_result=byte_result)


def check_sums(layer: Conv2d | AveragePool2d, bias: np.ndarray, byte_input: bool,
               config: EngineConfig) -> None:
    """Raise `UserError` where a sum with its bias, or the bias alone, is too wide."""
    whole = config.accumulator_bits + FRACTION_BITS
    limit = config.accumulator_bits if byte_input else whole
    if layer.proof.bits > limit:
        raise UserError(f"layer {layer.name} needs an accumulator of {layer.proof.bits} bits and "
                        f"the engine has {limit}; use fewer accumulator bits (--accumulator-bits)")
    if not byte_input and np.any(np.abs(bias) >= 1 << whole - 1):
        raise UserError(f"layer {layer.name} has a bias of more than {whole} bits, which the "
                        "engine has not; quantize the network again")


def shift_range(layer: Conv2d | AveragePool2d, byte_input: bool, multiplier_bits: int) -> range:
    """The engine's shifts with which it can scale a layer's sums, possibly none.

    Multipliers are divided by powers of two until they have ``multiplier_bits``, if they can be.
    """
    multipliers = layer.requantization.multiplier
    common = int(np.gcd.reduce(multipliers))
    most = (common & -common).bit_length() - 1
    least = max(0, int(multipliers.max()).bit_length() - multiplier_bits)
    whole = whole_shift(layer, byte_input)
    return range(whole - most, whole - least + 1)


def whole_shift(layer: Conv2d | AveragePool2d, byte_input: bool) -> int:
    """The engine's shift for a layer's multipliers as they are.

    Sums of products of bytes are multiplied by 2^3 beforehand, codes are of levels of 2^3.
    """
    rule = layer.requantization
    return rule.shift + FRACTION_BITS * (byte_input + (rule.code is not None))


def scaled(layer: Conv2d | AveragePool2d, byte_input: bool, config: EngineConfig
           ) -> tuple[np.ndarray, int]:
    """Multipliers (O,) and shift as the engine has them."""
    possible = shift_range(layer, byte_input, config.multiplier_bits)
    chosen = next((shift for shift in config.shifts if shift in possible), None)
    if chosen is None:
        raise UserError(f"layer {layer.name} is scaled by multipliers of more bits than this "
                        "engine has, or by another shift; build one for this network")
    return layer.requantization.multiplier >> whole_shift(layer, byte_input) - chosen, chosen


def fitted_scaling(model: Model) -> tuple[int, tuple[int, ...]]:
    """As few multiplier bits, and with them shifts, as an engine for a model can have.

    Raises `UserError` naming a layer whose multipliers have too many, or when no few shifts do.
    """
    for layer in model.layers:
        check_layer(layer, model)
    for bits in range(1, MOST_MULTIPLIER_BITS + 1):
        ranges = scalings(model, bits)
        shifts = covering(ranges.values())
        if all(ranges.values()) and len(shifts) <= MOST_SHIFTS:
            return bits, shifts
    for name, possible in ranges.items():
        if not possible:
            raise UserError(f"layer {name} has multipliers of more than {MOST_MULTIPLIER_BITS} "
                            "bits, which the engine of AUSN activations has not; use the preset "
                            "mixed4")
    raise UserError(f"the layers are scaled by more than {MOST_SHIFTS} shifts, which the engine of "
                    "AUSN activations has not; use the preset mixed4")


def scalings(model: Model, multiplier_bits: int) -> dict[str, range]:
    """The shifts with which an engine of so many multiplier bits can scale each layer."""
    ranges = {}
    for layer in model.layers:
        assert isinstance(layer, Conv2d | AveragePool2d)
        ranges[layer.name] = shift_range(layer, layer is model.layers[0], multiplier_bits)
    return ranges


def covering(ranges: Iterable[range]) -> tuple[int, ...]:
    """As few numbers as possible of which each range has one: the last ones of ranges that end
    first."""
    chosen: list[int] = []
    for one in sorted(ranges, key=lambda one: one.stop):
        if not chosen or chosen[-1] not in one:
            chosen.append(one.stop - 1)
    return tuple(chosen)
