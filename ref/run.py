"""The exact evaluator: what every integer of a model's feature maps is."""

from __future__ import annotations

import math
from collections.abc import Iterator

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

#: Working memory of the evaluator in bytes, results not counted: more misses the caches more often.
WORKING_MEMORY = 32 << 20


def quantize_input(model: Model, x: np.ndarray) -> np.ndarray:
    """The network's integer input, int64 (N, C, H, W), from the integers ``x`` of a data file.

    ``x`` is (N, ...) with a shape that `is_sample_shape` takes. Raises `UserError` otherwise.
    """
    tensor, rule = model.input_tensor, model.input
    if x.dtype.kind not in "iu" or not is_sample_shape(x.shape[1:], model):
        raise UserError(f"the input is {x.dtype.name} of shape {x.shape}; the network "
                        f"{model.name!r} takes integers of shape (samples, "
                        f"{', '.join(map(str, rule.shape))})")
    scaled = x.astype(np.int64).reshape(-1, *model.sample_shape) * rule.multiplier
    if rule.shift:
        scaled = (scaled + (1 << (rule.shift - 1))) >> rule.shift
    planes = 1 << rule.low_bits
    scaled = np.clip(scaled, tensor.lo * planes, tensor.hi * planes + planes - 1)
    return split_planes(scaled, rule.low_bits) if rule.low_bits else scaled


def run(model: Model, x: np.ndarray) -> np.ndarray:
    """The network's integer result for data-file integers ``x``: int64 (N, C, H, W).

    A classifier's result is (N, classes, 1, 1); `logits` gives it as (N, classes).
    """
    results = []
    for start, stop in _batches(model, len(x)):
        live = {model.input.tensor: quantize_input(model, x[start:stop])}
        for index, layer in enumerate(model.layers):
            live[layer.output] = run_layer(layer, *(live[name] for name in layer.inputs))
            later = {name for rest in model.layers[index + 1:] for name in rest.inputs}
            live = {name: live[name] for name in live if name in later | {layer.output}}
        results.append(live[model.layers[-1].output])
    return _join(results, model.output_tensor.shape)


def logits(model: Model, x: np.ndarray) -> np.ndarray:
    """The class scores of a network that ends in a vector: int64 (N, classes).

    Raises `UserError` when the network ends in a map larger than 1x1.
    """
    if model.output_tensor.shape[1:] != (1, 1):
        raise UserError(f"the network {model.name!r} ends in a map of shape "
                        f"{model.output_tensor.shape}, not in class scores; use run")
    return run(model, x)[:, :, 0, 0]


def run_layers(model: Model, x: np.ndarray, arithmetic: Arithmetic = SHIFTWISE
               ) -> dict[str, np.ndarray]:
    """Every feature map of the network, its integer input included, by tensor name.

    Each is int64 (N, C, H, W). All of them are held at once: give few samples of a large network.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in model.tensors}
    for start, stop in _batches(model, len(x)):
        maps = {model.input.tensor: quantize_input(model, x[start:stop])}
        for layer in model.layers:
            maps[layer.output] = run_layer(layer, *(maps[name] for name in layer.inputs),
                                           arithmetic=arithmetic)
        for name, values in maps.items():
            parts[name].append(values)
    return {name: _join(values, model.tensors[name].shape) for name, values in parts.items()}


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


def _batches(model: Model, samples: int) -> Iterator[tuple[int, int]]:
    """Ranges of samples whose working memory stays within `WORKING_MEMORY`."""
    per_sample = 1
    for layer in model.layers:
        before = sum(math.prod(model.tensors[name].shape) for name in layer.inputs)
        after = math.prod(model.tensors[layer.output].shape)
        patches = 0
        if isinstance(layer, Conv2d):    # its products' operands in float64, at worst
            rows_columns = math.prod(model.tensors[layer.output].shape[1:])
            patches = before * 8 + 8 * rows_columns * layer.groups * layer.weight[0].size
        per_sample = max(per_sample, 8 * (before + 3 * after) + patches)
    step = max(1, WORKING_MEMORY // per_sample)
    for start in range(0, samples, step):
        yield start, min(start + step, samples)


def _join(parts: list[np.ndarray], shape: tuple[int, int, int]) -> np.ndarray:
    """The batches one after the other; no samples give an empty array."""
    return np.concatenate(parts) if parts else np.empty((0, *shape), np.int64)
