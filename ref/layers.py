"""Single layers of the integer model in numpy, and its input: what every evaluator rests on."""

from __future__ import annotations

import numpy as np

from .arithmetic import SHIFTWISE, Arithmetic
from .data import is_sample_shape
from .errors import UserError
from .model import Add, AveragePool2d, Concat, Conv2d, Layer, MaxPool2d, Model, SpaceToDepth
from .ops import (
    add,
    average_pool2d,
    conv2d,
    max_pool2d,
    requantize,
    space_to_depth,
    split_planes,
)


def quantize_input(model: Model, x: np.ndarray) -> np.ndarray:
    """The network's integer input, int64 (N, C, H, W), from the integers ``x`` of a data file.

    ``x`` is (N, ...) with a shape that `is_sample_shape` takes. Raises `UserError` otherwise.
    """
    check_input(model, x)
    tensor, rule = model.input_tensor, model.input
    scaled = x.astype(np.int64).reshape(-1, *model.sample_shape) * rule.multiplier
    if rule.shift:
        scaled = (scaled + (1 << (rule.shift - 1))) >> rule.shift
    planes = 1 << rule.low_bits
    scaled = np.clip(scaled, tensor.lo * planes, tensor.hi * planes + planes - 1)
    return split_planes(scaled, rule.low_bits) if rule.low_bits else scaled


def check_input(model: Model, x: np.ndarray) -> None:
    """Raise `UserError` unless ``x`` holds integers of samples of the network."""
    if x.dtype.kind not in "iu" or not is_sample_shape(x.shape[1:], model):
        raise UserError(f"the input is {x.dtype.name} of shape {x.shape}; the network "
                        f"{model.name!r} takes integers of shape (samples, "
                        f"{', '.join(map(str, model.input.shape))})")


def run_layer(layer: Layer, *sources: np.ndarray, arithmetic: Arithmetic = SHIFTWISE
              ) -> np.ndarray:
    """One layer on the integers of its inputs, (N, C, H, W) each: int64 (N, O, rows, columns)."""
    x = sources[0]
    match layer:
        case Conv2d():
            sums = conv2d(x, layer.weight, layer.window, layer.pad_value, layer.groups)
            return requantize(sums, layer.requantization, arithmetic)
        case AveragePool2d():
            return requantize(average_pool2d(x, layer.window), layer.requantization, arithmetic)
        case MaxPool2d():
            return max_pool2d(x, layer.window)
        case Add():
            return add(sources[0], sources[1], layer, arithmetic)
        case Concat():
            return np.concatenate(sources, axis=1)
        case SpaceToDepth():
            return space_to_depth(x)
    raise TypeError(f"layer {layer.name!r} is of unknown kind {type(layer).__name__}")
