"""Interval bounds of feature maps and accumulators, and the proof of an accumulator's width.

With bounds ``[xlo, xhi]`` of each input channel, ``acc + bias`` of an output channel reaches
``bias + sum max(w * xlo, w * xhi)`` at most, and takes that value on the input that has ``xhi``
where the weight is positive and ``xlo`` where it is negative. Additions before the last may wrap
around in two's complement: the final value is right whenever it fits.
"""

from __future__ import annotations

import numpy as np

from .model import (
    BLOCK,
    AccumulatorProof,
    Add,
    AveragePool2d,
    Concat,
    Conv2d,
    Input,
    Layer,
    MaxPool2d,
    Model,
    Requantization,
    SpaceToDepth,
    Tensor,
    Window,
)
from .ops import add, conv2d, requantize

#: Smallest and largest value per channel, two int64 arrays (C,).
Bounds = tuple[np.ndarray, np.ndarray]


def signed_bits(lo: int, hi: int) -> int:
    """Smallest two's-complement width that holds every integer of ``[lo, hi]``."""
    return 1 + max((~lo if lo < 0 else lo).bit_length(), (~hi if hi < 0 else hi).bit_length())


def input_bounds(rule: Input, tensor: Tensor) -> Bounds:
    """Bounds of the network's integer input: the data type's range through the input's rounding."""
    limits = np.iinfo(rule.dtype)
    half, planes = (1 << rule.shift) >> 1, 1 << rule.low_bits
    lo, hi = (min(max((limit * rule.multiplier + half) >> rule.shift, tensor.lo * planes),
                  tensor.hi * planes + planes - 1)
              for limit in (int(limits.min), int(limits.max)))
    channels = tensor.shape[0]
    if not rule.low_bits:
        return np.full(channels, lo, np.int64), np.full(channels, hi, np.int64)
    # Within one step of the high plane the low one is limited too.
    first, last = (lo % planes, hi % planes) if lo // planes == hi // planes else (0, planes - 1)
    return (np.tile(np.array([lo // planes, first], np.int64), channels // 2),
            np.tile(np.array([hi // planes, last], np.int64), channels // 2))


def accumulator_bounds(weight: np.ndarray, bias: np.ndarray, lo: np.ndarray, hi: np.ndarray,
                       pad_value: np.ndarray | None, groups: int) -> Bounds:
    """Bounds of ``acc + bias`` per output channel, (O,) each.

    ``weight`` is (O, I / groups, kernel height, kernel width) integers, ``bias`` (O,), ``lo`` and
    ``hi`` (I,) bound the input, ``pad_value`` (I,) is what padding writes (None: no padding).
    """
    xlo, xhi = _input_windows(weight, lo, hi, pad_value, groups)
    wide = weight.astype(np.int64)
    low, high = wide * xlo, wide * xhi
    return (bias + np.minimum(low, high).sum(axis=(1, 2, 3)),
            bias + np.maximum(low, high).sum(axis=(1, 2, 3)))


def accumulator_proof(weight: np.ndarray, bias: np.ndarray, lo: np.ndarray, hi: np.ndarray,
                      pad_value: np.ndarray | None, groups: int) -> AccumulatorProof:
    """The proof for a layer of these weights and input bounds; arguments of `accumulator_bounds`.

    ``bits`` is the smallest two's-complement width that holds every possible ``acc + bias``.
    """
    lows, highs = accumulator_bounds(weight, bias, lo, hi, pad_value, groups)
    lowest, highest = int(lows.min()), int(highs.max())
    upward = abs(highest) >= abs(lowest)
    channel = int(highs.argmax() if upward else lows.argmin())
    xlo, xhi = (np.broadcast_to(bound, weight.shape)[channel]
                for bound in _input_windows(weight, lo, hi, pad_value, groups))
    witness = np.where((weight[channel] > 0) == upward, xhi, xlo)
    return AccumulatorProof(signed_bits(lowest, highest), lowest, highest, channel, witness)


def requantized_bounds(bounds: Bounds, requantization: Requantization) -> Bounds:
    """Bounds of the requantized result of accumulators within ``bounds``, both per channel.

    ``bounds`` include the bias. Requantization never decreases where its argument grows, so the
    ends of the interval give the ends of the result.
    """
    lo, hi = (requantize((bound - requantization.bias)[None], requantization)[0]
              for bound in bounds)
    return lo, hi


def layer_operands(layer: Conv2d | AveragePool2d, channels: int
                   ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, int]:
    """``weight, bias, pad_value, groups`` of a layer, as `accumulator_bounds` takes them.

    An average pool is the depthwise convolution of ``channels`` channels whose weights are ones.
    """
    if isinstance(layer, Conv2d):
        weight, pad_value, groups = layer.weight, layer.pad_value, layer.groups
    else:
        weight = np.ones((channels, 1, *layer.window.kernel), np.int8)
        pad_value, groups = np.zeros(channels, np.int64), channels
    return (weight, layer.requantization.bias, pad_value if any(layer.window.pads) else None,
            groups)


def reach_bound(layer: Conv2d | AveragePool2d, proof: AccumulatorProof, channels: int) -> int:
    """``acc + bias`` of the proof's channel on its witness, computed by the evaluator's operator.

    ``channels`` is how many the layer reads.
    """
    weight, bias, _, groups = layer_operands(layer, channels)
    kernel = (weight.shape[2], weight.shape[3])
    x = np.zeros((1, groups, channels // groups, *kernel), np.int64)
    x[0, proof.channel // (len(weight) // groups)] = proof.witness
    sums = conv2d(x.reshape(1, channels, *kernel), weight, Window(kernel),
                  np.zeros(channels, np.int64), groups)
    return int(sums[0, proof.channel, 0, 0] + bias[proof.channel])


def layer_bounds(layer: Layer, *sources: Bounds) -> Bounds:
    """Bounds of a layer's result per channel, from those of its inputs."""
    bounds = sources[0]
    match layer:
        case Conv2d() | AveragePool2d():
            weight, bias, pad_value, groups = layer_operands(layer, len(bounds[0]))
            sums = accumulator_bounds(weight, bias, *bounds, pad_value, groups)
            return requantized_bounds(sums, layer.requantization)
        case MaxPool2d():
            return bounds
        case Add():              # never decreases where an operand grows
            lo, hi = (add(one[None], other[None], layer)[0]
                      for one, other in zip(*sources, strict=True))
            return lo, hi
        case Concat():
            lo, hi = (np.concatenate([operand[end] for operand in sources]) for end in range(2))
            return lo, hi
        case SpaceToDepth():
            lo, hi = (np.tile(bound, BLOCK * BLOCK) for bound in bounds)
            return lo, hi
    raise TypeError(f"layer {layer.name!r} is of unknown kind {type(layer).__name__}")


def propagate(model: Model) -> dict[str, Bounds]:
    """Bounds of every feature map of the model per channel, by tensor name, for every input."""
    bounds = {model.input.tensor: input_bounds(model.input, model.input_tensor)}
    for layer in model.layers:
        bounds[layer.output] = layer_bounds(layer, *(bounds[name] for name in layer.inputs))
    return bounds


def _input_windows(weight: np.ndarray, lo: np.ndarray, hi: np.ndarray,
                   pad_value: np.ndarray | None, groups: int) -> Bounds:
    """Bounds of the values each weight meets, broadcastable to ``weight``; padding widens them."""
    if pad_value is not None:
        lo, hi = np.minimum(lo, pad_value), np.maximum(hi, pad_value)
    outputs_per_group = weight.shape[0] // groups
    lows, highs = (np.repeat(bound.reshape(groups, -1), outputs_per_group, axis=0)[:, :, None, None]
                   for bound in (lo.astype(np.int64), hi.astype(np.int64)))
    return lows, highs
