"""The scales an exported network's maps have: one per map, powers of two where the choice is free.

What the integers between two layers stand for is a matter of units: multiplying a map's scales by
anything and the weights around it by the inverse changes no integer. The exports choose units in
which every map has one scale, as tools want it (the integer model may have one per channel, for
depthwise layers and after balancing), and that scale is a power of two, so that the weights'
scales, which hold the requantizers' ``multiplier / 2^shift``, are exact in float32. Not free are
the input's and the result's scales, which stay the float network's, and those of maps that are
added or averaged: there the integer operator's own ratios decide.
"""

from __future__ import annotations

import math

import numpy as np

from ref.model import GUARD_BITS, Add, AveragePool2d, Conv2d, Layer, Model


def map_scales(model: Model) -> dict[str, float]:
    """The scale of every map by tensor name, float32 values.

    A scale per channel of the input or the result is left to a multiplication around the map; an
    input of two planes is made of plain integers.
    """
    result, source = model.output_tensor.name, model.input.tensor
    scales = {result: _one(model.output_tensor.scale),
              source: 1.0 if model.input.low_bits else _one(input_scale(model))}
    for layer in reversed(model.layers[:-1]):
        tensor = model.tensors[layer.output]
        wanted = [operand_scales(reader, scales[reader.output])[reader.inputs.index(tensor.name)]
                  for reader in model.layers
                  if tensor.name in reader.inputs and not isinstance(reader, Conv2d)]
        common = [one for one in wanted if is_uniform(one)]
        scales[tensor.name] = _one(common[0]) if common else power_of_two(tensor.scale)
    return scales


def input_scale(model: Model) -> np.ndarray:
    """What one step of the data's integers, scaled to the input, is in real units, () or (C,)."""
    rule = model.input
    return np.asarray(rule.x_scale / math.ldexp(rule.multiplier, -rule.shift))


def operand_scales(layer: Layer, result: float) -> list[np.ndarray]:
    """The scales, () or (C,), with which the operands of a layer without weights give its result.

    ``result`` is the result's scale. With them the float operator's value is the integer
    operator's before its rounding, times ``result``.
    """
    if isinstance(layer, AveragePool2d):
        rule, size = layer.requantization, math.prod(layer.window.kernel)
        return [as_float32(size * rule.multiplier * 2.0 ** -rule.shift * result)]
    if isinstance(layer, Add):
        return [as_float32(ratio * 2.0 ** (GUARD_BITS - layer.shift) * result)
                for ratio in layer.multiplier]
    return [np.array(result)] * len(layer.inputs)


def power_of_two(scale: np.ndarray) -> float:
    """The power of two nearest to the largest of ``scale``."""
    return math.ldexp(1.0, round(math.log2(float(scale.max()))))


def is_uniform(values: np.ndarray) -> bool:
    """Whether all values are the same."""
    return bool((values == values.flat[0]).all())


def as_float32(values: np.ndarray) -> np.ndarray:
    """The nearest float32 values, as float64."""
    return np.asarray(values, np.float32).astype(np.float64)


def _one(scale: np.ndarray) -> float:
    """The one value of ``scale`` in float32, or a power of two where its values differ."""
    return float(as_float32(scale).flat[0]) if is_uniform(scale) else power_of_two(scale)
