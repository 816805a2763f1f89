"""Integer layers as the engine sees them: one kind of step, in stored bytes."""

import numpy as np

from ref.bounds import Bounds, accumulator_bounds, layer_operands, propagate, signed_bits
from ref.errors import UserError
from ref.model import (
    Add,
    AveragePool2d,
    Concat,
    Conv2d,
    Layer,
    MaxPool2d,
    Model,
    Requantization,
    SpaceToDepth,
    Tensor,
)

from .config import EngineConfig
from .joins import add_step, maps_of, move_steps
from .program import STORED_OFFSET
from .step import Lowering, Step, unchanged

#: What to do about a network in codes that no engine runs as it is.
OTHER_PRESET = "choose another preset (--preset w8a8 or w4a8)"


def lower(model: Model, config: EngineConfig) -> Lowering:
    """A model as steps. Raises `UserError` naming a layer the engine cannot run."""
    word = config.channels
    maps = maps_of(model, word)
    bounds = propagate(model)
    steps = []
    for layer in model.layers:
        source, target = model.tensors[layer.inputs[0]], model.tensors[layer.output]
        match layer:
            case MaxPool2d():
                if not config.maximum:
                    raise UserError(f"layer {layer.name}: this engine is built without max "
                                    "pooling; build one for this network")
                steps.append(unchanged(layer.name, source, layer.output, layer.window,
                                       maximum=True))
            case Concat() | SpaceToDepth():
                steps += move_steps(layer, model, maps, word)
            case Add():
                check_rounding(layer, target, layer, config)
                steps.append(add_step(layer, model, config))
            case Conv2d() | AveragePool2d():
                check_rounding(layer, target, layer.requantization, config)
                steps.append(summing_step(layer, source, target, bounds[source.name], config))
            case _:
                raise TypeError(f"layer {layer.name!r} is of unknown kind {type(layer).__name__}")
    return Lowering(steps, maps)


def check_rounding(layer: Layer, target: Tensor, rule: Requantization | Add,
                   config: EngineConfig) -> None:
    """Raise `UserError` for a result that the engine cannot round or clip to."""
    check_width(layer, target)
    if rule.code is not None:
        raise UserError(f"layer {layer.name}: the engine does not round results to AUSN levels; "
                        "build for iCEBreaker, which has one that does (--board icebreaker), or "
                        f"{OTHER_PRESET}")
    if np.any(rule.lo != rule.lo[0]):
        raise UserError(f"layer {layer.name}: the lower clip bound must be the same for all "
                        "channels")
    if rule.shift not in config.shifts:
        raise UserError(f"layer {layer.name} is scaled by a shift of {rule.shift} and this engine "
                        "is built without; build one for this network")
    if clips(rule, target) and not config.clips:
        raise UserError(f"layer {layer.name} has clip bounds and this engine is built without; "
                        "build one for this network")


def check_width(layer: Layer, target: Tensor) -> None:
    """Raise `UserError` for a result of more bits than a byte's."""
    if target.bits > 8:
        raise UserError(f"layer {layer.name}: the engine does not write results of {target.bits} "
                        "bits; end the network in a vector of class scores")


def clips(rule: Requantization | Add, target: Tensor) -> bool:
    """Whether a result has bounds within those of the byte that stores it."""
    stored = STORED_OFFSET if target.signed else 0
    return bool(np.any(rule.lo + stored != 0) or np.any(rule.hi + stored != 255))


def summing_step(layer: Conv2d | AveragePool2d, source: Tensor, target: Tensor, bounds: Bounds,
                 config: EngineConfig) -> Step:
    """Sums of products, rounded once; ``bounds`` are those of the ``source``."""
    if layer.proof.bits > config.biased_bits:
        raise UserError(
            f"layer {layer.name} needs an accumulator of {layer.proof.bits} bits and the engine "
            f"has {config.biased_bits}; use fewer weight bits (--preset)")
    bits = stored_sum_bits(layer, source, bounds)
    if config.bias_bits and bits > config.accumulator_bits:
        raise UserError(f"layer {layer.name} needs an accumulator of {bits} bits without the bias "
                        f"and this engine has {config.accumulator_bits}; build one for this "
                        "network")
    offset = STORED_OFFSET if source.signed else 0
    if isinstance(layer, Conv2d):
        if largest_weight(layer) > config.largest_weight and not config.mixed:  # `lane_orders` asks
            raise UserError(
                f"layer {layer.name} has weights up to {largest_weight(layer)} and the engine "
                f"multiplies by integers up to {config.largest_weight}; use a linear preset of "
                f"{config.weight_bits} weight bits or fewer (--preset)")
        weight, depthwise = expand_groups(layer), layer.depthwise
        pad = layer.pad_value + offset
        macs = target.shape[1] * target.shape[2] * layer.weight.size
    else:
        weight = np.ones((source.shape[0], 1, *layer.window.kernel), np.int64)
        depthwise, pad, macs = True, np.full(source.shape[0], offset), 0
    constants = layer.requantization
    if constants.multiplier_negative is not None and not config.leaky:
        raise UserError(f"layer {layer.name}: this engine is built without leaky ReLU; build one "
                        "for this network")
    stored = STORED_OFFSET if target.signed else 0
    return Step(
        name=layer.name, sources=(source.name,), target=target.name,
        shape=source.shape, result=target.shape, window=layer.window,
        weight=weight.astype(np.int64), depthwise=depthwise, maximum=False,
        hold=isinstance(layer, AveragePool2d), pad=pad,
        bias=constants.bias - offset * weight.sum((1, 2, 3), dtype=np.int64),
        multiplier=constants.multiplier, multiplier_negative=constants.multiplier_negative,
        shift=constants.shift,
        lo=int(constants.lo[0]) + stored, hi=constants.hi + stored,
        signed_output=target.signed, macs=macs)


def stored_sum_bits(layer: Conv2d | AveragePool2d, source: Tensor, bounds: Bounds) -> int:
    """Bits of the layer's sums of products with activations as stored, before the bias.

    ``bounds`` are those of the ``source``. They matter where the sum with the bias is wider;
    otherwise sums may wrap.
    """
    stored = STORED_OFFSET if source.signed else 0
    weight, bias, pad_value, groups = layer_operands(layer, source.shape[0])
    lowest, highest = bounds
    lows, highs = accumulator_bounds(
        weight, np.zeros_like(bias), lowest + stored, highest + stored,
        None if pad_value is None else pad_value + stored, groups)
    return signed_bits(int(lows.min()), int(highs.max()))


def largest_weight(layer: Conv2d) -> int:
    """The largest magnitude of a layer's weights."""
    return int(np.abs(layer.weight.astype(np.int64)).max())


def expand_groups(layer: Conv2d) -> np.ndarray:
    """Weights (O, I, kh, kw) of a grouped convolution as a dense one; depthwise unchanged."""
    if layer.groups == 1 or layer.depthwise:
        return layer.weight
    outputs, inputs = layer.weight.shape[:2]
    dense = np.zeros((outputs, inputs * layer.groups, *layer.weight.shape[2:]), np.int64)
    for group in range(layer.groups):
        rows = slice(group * outputs // layer.groups, (group + 1) * outputs // layer.groups)
        dense[rows, group * inputs:(group + 1) * inputs] = layer.weight[rows]
    return dense
