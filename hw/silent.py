"""Channels whose result is a constant: they need no weights and no wide accumulator."""

from dataclasses import replace

import numpy as np

from ref.bounds import Bounds, accumulator_proof, layer_bounds, layer_operands, propagate
from ref.model import Conv2d, Model

#: The multiplier of a constant result: the largest there is, so that its bias is small.
MULTIPLIER = (1 << 15) - 1


def without_large_constants(model: Model) -> Model:
    """The same function, with small biases and no weights in channels whose result is constant.

    A network may have channels without weights, or with ones that no input makes count; any bias
    and multiplier with the right product gives their result. A quantizer's choice can be far beyond
    what other channels' sums reach, and would decide how wide every accumulator and multiplier of
    an engine must be.
    """
    bounds = propagate(model)
    return replace(model, layers=tuple(
        _narrowed(layer, bounds[layer.inputs[0]]) if isinstance(layer, Conv2d) else layer
        for layer in model.layers))


def _narrowed(layer: Conv2d, source: Bounds) -> Conv2d:
    rule = layer.requantization
    lowest, highest = layer_bounds(layer, source)
    silent = lowest == highest
    if not silent.any() or rule.code is not None or rule.multiplier_negative is not None:
        return layer
    bias = ((lowest << rule.shift) + MULTIPLIER // 2) // MULTIPLIER     # off by half of it at most
    rule = replace(rule, bias=np.where(silent, bias, rule.bias),
                   multiplier=np.where(silent, MULTIPLIER, rule.multiplier))
    weight = np.where(silent[:, None, None, None], 0, layer.weight).astype(layer.weight.dtype)
    narrowed = replace(layer, weight=weight, requantization=rule)
    weight, biases, pad_value, groups = layer_operands(narrowed, len(source[0]))
    return replace(narrowed, proof=accumulator_proof(weight, biases, *source, pad_value, groups))
