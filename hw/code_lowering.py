"""Layers of networks in codes as steps of an engine of codes (`hw.code_array`)."""

from dataclasses import dataclass

import numpy as np

from ref.errors import UserError
from ref.model import SHIFTS, AveragePool2d, Conv2d, Layer, Model, Tensor

from .ausn.code_product import ACTIVATIONS, WEIGHTS, lacks
from .code_maps import HALF, LEVELS, PLACES, ByteMap, CodeMap, able_lanes, order_of
from .config import CODE_SHIFTS, FRACTION_BITS, MOST_SHIFT, EngineConfig
from .lowering import OTHER_PRESET, check_width, clips, expand_groups, largest_weight
from .program import STORED_OFFSET
from .step import Lowering, Map, Step

#: Largest magnitudes of weights of the blocks, beside lanes that shift and alone.
LARGEST, LARGEST_ALONE = 7, 127
#: What to do about scales that the preset for this engine would not have chosen.
AGAIN = "quantize it with the preset mixed4, or another one (--preset w8a8 or w4a8)"


def in_codes(model: Model) -> bool:
    """Whether a model has activations in codes, and so is for an engine of codes."""
    rules = (getattr(layer, "requantization", layer) for layer in model.layers)
    return any(getattr(rule, "code", None) is not None for rule in rules)


def lower_codes(model: Model, config: EngineConfig) -> Lowering:
    """A model as steps. Raises `UserError` naming a layer the engine cannot run."""
    for layer in model.layers:
        check_layer(layer, model)
    orders = lane_orders(model)
    steps = [layer_step(layer, model, orders, config) for layer in model.layers]
    maps: dict[str, Map] = {}
    for name, tensor in model.tensors.items():
        if name in orders:
            maps[name] = CodeMap(tensor.shape, tensor.signed, order=orders[name])
        else:
            maps[name] = ByteMap(tensor.shape, tensor.signed,
                                 alone=name == model.input.tensor)
    return Lowering(steps, maps)


def check_layer(layer: Layer, model: Model) -> None:
    """Raise `UserError` for a layer that the engine cannot run, whatever its weights."""
    if not isinstance(layer, Conv2d | AveragePool2d):
        raise UserError(f"layer {layer.name}: the engine of AUSN activations runs convolutions and "
                        f"average pools only; {OTHER_PRESET}")
    rule, target = layer.requantization, model.tensors[layer.output]
    check_width(layer, target)
    check_code(layer, target, last=layer is model.layers[-1])
    if rule.code is None:
        bounded = clips(rule, target)
    else:
        bounded = bool(np.any(rule.lo != 0) or np.any(rule.code.bytes[2 * rule.hi] != LEVELS[-1]))
    if bounded or rule.multiplier_negative is not None:
        what = "clip bounds" if rule.multiplier_negative is None else "a leaky ReLU"
        raise UserError(f"layer {layer.name} has {what}, which the engine of AUSN activations has "
                        f"not; {OTHER_PRESET}")
    if layer is model.layers[0] or layer is model.layers[-1]:
        check_end(layer, model)


def check_code(layer: Conv2d | AveragePool2d, target: Tensor, *, last: bool) -> None:
    """Raise `UserError` for results in another code than the engine's, or the ``last`` in any."""
    code = layer.requantization.code
    if last and code is not None:
        raise UserError(f"layer {layer.name}, the last, has a result in AUSN levels, and the "
                        "engine of AUSN activations ends in bytes; use the preset mixed4")
    if last or code == ACTIVATIONS:
        return
    if code is not None:
        raise UserError(f"layer {layer.name} has a result in AUSN levels of {code.bits} bits, "
                        f"{code.exponent} of the exponent, and the engine has those of "
                        f"{ACTIVATIONS.bits}, {ACTIVATIONS.exponent} of the exponent; use the "
                        "preset mixed4")
    if target.signed:
        raise UserError(f"layer {layer.name} has no ReLU behind it, which the engine of AUSN "
                        f"activations needs behind all layers but the last; {OTHER_PRESET}")
    raise UserError(f"layer {layer.name} has a linear result, and the engine of AUSN activations "
                    "needs AUSN levels of all layers but the last; use the preset mixed4 for all "
                    "layers, or another one (--preset w8a8 or w4a8)")


def check_end(layer: Conv2d | AveragePool2d, model: Model) -> None:
    """Raise `UserError` for a first or last layer that cannot read or write bytes."""
    wrong, place = None, "first" if layer is model.layers[0] else "last"
    if len(model.layers) == 1:
        wrong = "the only one"
    elif isinstance(layer, AveragePool2d):
        wrong = "a pool"
    elif layer.depthwise:
        wrong = "depthwise"
    if wrong is not None:
        raise UserError(f"layer {layer.name}, the {place}, is {wrong}, and the engine of AUSN "
                        "activations begins and ends with two convolutions that are not depthwise "
                        f"(or fully connected layers); {OTHER_PRESET}")
    assert isinstance(layer, Conv2d)
    if place == "last" and largest_weight(layer) > LARGEST_ALONE:
        raise UserError(f"layer {layer.name} has weights up to {largest_weight(layer)} and the "
                        f"engine multiplies by integers up to {LARGEST_ALONE}; use the preset "
                        "mixed4")


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
        if isinstance(layer, AveragePool2d):
            continue                             # weights of 1
        able[root] = able_lanes(layer, able[root], LARGEST, WEIGHTS, "; use the preset mixed4")
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


def layer_step(layer: Layer, model: Model, orders: dict[str, tuple[int, ...]],
               config: EngineConfig) -> Step:
    """The step of a layer. The last one is made by the blocks alone."""
    if layer is model.layers[-1]:
        channels = beside(np.arange(model.tensors[layer.output].shape[0]))
    else:
        channels = np.array(orders[layer.output])
    return step_of(layer, model, channels, orders, config)


def beside(channels: np.ndarray) -> np.ndarray:
    """Channels for the blocks' lanes, with lanes that shift and make nothing beside them."""
    quads = np.pad(channels, (0, -len(channels) % HALF), constant_values=-1).reshape(-1, HALF)
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
        pad = np.zeros(len(inputs), np.int64)
        if byte_input:
            pad = layer.pad_value + (STORED_OFFSET if source.signed else 0)
    bias = lanes.of(rule.bias.astype(np.int64))
    if not byte_result:
        shifting = np.arange(len(channels)) % PLACES >= HALF
        missing = np.vectorize(lacks, otypes=[np.int64])(weight).sum((1, 2, 3)) * shifting
        if byte_input:
            offset = STORED_OFFSET if source.signed else 0
            bias = (bias - offset * weight.sum((1, 2, 3)) + missing) << FRACTION_BITS
        else:
            bias = bias + (missing << FRACTION_BITS)
    check_sums(layer, bias, byte_input, config)
    shifts = channel_shifts(layer, model)
    if not np.isin(shifts, config.shifts).all():
        raise UserError(f"layer {layer.name} is scaled by shifts that this engine is built "
                        "without; build one for this network")
    return Step(
        name=layer.name, sources=(source.name,), target=target.name,
        shape=(len(inputs), *source.shape[1:]), result=(len(channels), *target.shape[1:]),
        window=layer.window, weight=weight, depthwise=depthwise, maximum=False,
        hold=isinstance(layer, AveragePool2d), pad=pad, bias=bias,
        multiplier=np.ones(len(channels), np.int64), shift=SHIFTS[0], lo=0,
        hi=np.full(len(channels), 255), shifts=lanes.of(shifts),
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


def channel_shifts(layer: Conv2d | AveragePool2d, model: Model) -> np.ndarray:
    """The engine's shift for each output channel, (O,).

    Sums of products of bytes are multiplied by 2^3 beforehand, codes are of levels of 2^3. Raises
    `UserError` where a multiplier is no power of two.
    """
    rule = layer.requantization
    powers = np.log2(rule.multiplier).astype(np.int64)
    if np.any(rule.multiplier != 1 << powers):
        raise UserError(f"layer {layer.name} has multipliers that are no powers of two, and the "
                        "engine of AUSN activations only shifts; use the preset mixed4")
    byte_input = layer is model.layers[0]
    return rule.shift + FRACTION_BITS * (byte_input + (rule.code is not None)) - powers


def fitted_shifts(model: Model) -> tuple[int, ...]:
    """The shifts that an engine for a model has. Raises `UserError` when they are too many."""
    needed: set[int] = set()
    for layer in model.layers:
        check_layer(layer, model)
        assert isinstance(layer, Conv2d | AveragePool2d)
        own = sorted(set(channel_shifts(layer, model).tolist()))
        if not 1 <= own[0] <= own[-1] <= MOST_SHIFT:
            raise UserError(f"layer {layer.name} scales sums by shifts of {own[0]} to {own[-1]} "
                            "and the engine of AUSN activations has those of 1 to "
                            f"{MOST_SHIFT}; {AGAIN}")
        needed.update(own)
    if len(needed) > CODE_SHIFTS:
        raise UserError(f"network {model.name} scales sums by {len(needed)} different shifts "
                        f"({min(needed)} to {max(needed)}) and the engine of AUSN activations has "
                        f"up to {CODE_SHIFTS}; {AGAIN}")
    return tuple(sorted(needed))
