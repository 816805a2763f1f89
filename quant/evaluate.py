"""The float network evaluated in numpy, tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from ref.data import Data, has_sample_shape
from ref.errors import UserError
from ref.ops import space_to_depth

from .graph import (
    FloatAdd,
    FloatAveragePool,
    FloatConcat,
    FloatConv,
    FloatLayer,
    FloatMaxPool,
    FloatNetwork,
    FloatSpaceToDepth,
    FloatWindowed,
    Leaky,
    cap_of,
    is_rectified,
)

#: What is done to each layer's result, given its name and value (N, C, H, W).
Rounding = Callable[[str, np.ndarray], np.ndarray]
#: Values one batch of the largest tensor may hold: bounds the memory of an evaluation, and keeps
#: small maps in the caches.
BATCH_VALUES = 1 << 19


def real_input(network: FloatNetwork, data: Data, dtype: type[np.floating] = np.float32
               ) -> np.ndarray:
    """The network's real input (N, C, H, W) from a data file's integers.

    Raises `UserError` when the samples have another shape than the network's input.
    """
    shape = data.x.shape[1:]
    if shape != network.own_input_shape and not has_sample_shape(shape, network.input_shape):
        raise UserError(
            f"{data.source}'s samples have shape {shape}, and the network {network.name!r} takes "
            f"{network.own_input_shape}; store x with the network's own input shape")
    if data.x_scale.size > 1 or data.x_zero_point.size > 1:
        channels = network.input_shape[0]
        for name in ("x_scale", "x_zero_point"):
            if getattr(data, name).size not in (1, channels):
                raise UserError(f"{data.source}'s {name} has {getattr(data, name).size} entries, "
                                f"and the network's input has {channels} channels; give one "
                                "of each")
    return data.reshaped(network.input_shape).real(dtype)


def _exact(name: str, value: np.ndarray) -> np.ndarray:
    """No rounding."""
    return value


def evaluate_tensors(network: FloatNetwork, x: np.ndarray, rounding: Rounding = _exact
                     ) -> Iterator[tuple[str, np.ndarray]]:
    """Name and value (N, C, H, W) of every layer's result in order, for a real input of that form.

    ``rounding`` changes each of them before later layers read it.
    Computes in the dtype of ``x``; holds what later layers read, the caller what it wants to keep.
    """
    live = {network.input: x * network.input_gain.reshape(-1, 1, 1).astype(x.dtype)
            + network.input_offset.reshape(-1, 1, 1).astype(x.dtype)}
    last = {name: index for index, layer in enumerate(network.layers) for name in layer.inputs}
    for index, layer in enumerate(network.layers):
        value = rounding(layer.output,
                         evaluate_layer(layer, *(live[name] for name in layer.inputs)))
        live[layer.output] = value
        live = {name: live[name] for name in live if last.get(name, -1) > index}
        yield layer.output, value


def reevaluate(network: FloatNetwork, maps: dict[str, np.ndarray], changed: str,
               value: np.ndarray) -> np.ndarray:
    """The network's result when the tensor ``changed`` has another ``value``.

    ``maps`` holds every tensor (N, C, H, W) as it was; only what depends on the change is computed.
    """
    live = {changed: value}
    for layer in network.layers:
        if layer.output != changed and not live.keys().isdisjoint(layer.inputs):
            live[layer.output] = evaluate_layer(layer, *(live.get(name, maps[name])
                                                         for name in layer.inputs))
    return live.get(network.output, maps[network.output])


def evaluate(network: FloatNetwork, x: np.ndarray, rounding: Rounding = _exact) -> np.ndarray:
    """The network's real result (N, C, H, W) for a real input (N, C, H, W).

    ``rounding`` as for `evaluate_tensors`.
    """
    results = [value for start, stop in batches(network, len(x))
               for name, value in evaluate_tensors(network, x[start:stop], rounding)
               if name == network.output]
    return np.concatenate(results)


def batches(network: FloatNetwork, samples: int) -> Iterator[tuple[int, int]]:
    """Ranges of samples small enough for memory (see `BATCH_VALUES`)."""
    shapes = network.shapes()
    largest = 1
    for layer in network.layers:
        channels, height, width = shapes[layer.input]
        taps = 1
        if isinstance(layer, FloatConv) and not layer.channelwise:      # it gathers its patches
            taps = math.prod(layer.window.kernel)
        rows, columns = shapes[layer.output][1:]
        largest = max(largest, channels * height * width,
                      shapes[layer.output][0] * rows * columns, channels * taps * rows * columns)
    step = max(1, BATCH_VALUES // largest)
    for start in range(0, samples, step):
        yield start, min(start + step, samples)


def evaluate_layer(layer: FloatLayer, *sources: np.ndarray) -> np.ndarray:
    """One layer's result (N, O, rows, columns), after its activation, for maps (N, C, H, W)."""
    x = sources[0]
    if isinstance(layer, FloatConv | FloatAdd):
        result = _convolve(layer, x) if isinstance(layer, FloatConv) else x + sources[1]
        if is_rectified(layer.activation):
            caps = cap_of(layer.activation).astype(x.dtype).reshape(-1, 1, 1)
            np.clip(result, 0, caps, out=result)
        elif isinstance(layer.activation, Leaky):
            slope = np.reshape(layer.activation.slope, (-1, 1, 1)).astype(x.dtype)
            np.multiply(result, slope, out=result,
                        where=result < 0)
        return result
    if isinstance(layer, FloatConcat):
        return np.concatenate(sources, axis=1)
    if isinstance(layer, FloatSpaceToDepth):
        return space_to_depth(x)
    if isinstance(layer, FloatAveragePool):
        size = layer.window.kernel[0] * layer.window.kernel[1]
        return np.sum(list(_taps(layer, x, 0)), axis=0, dtype=x.dtype) / x.dtype.type(size)
    if isinstance(layer, FloatMaxPool):
        return np.max(list(_taps(layer, x, -np.inf)), axis=0)
    raise TypeError(f"layer {layer.name!r} is of unknown kind {type(layer).__name__}")


def _taps(layer: FloatWindowed, x: np.ndarray, padding: float) -> Iterator[np.ndarray]:
    """For each tap of the kernel, row by row, the view (N, C, rows, columns) of what it meets."""
    top, left, bottom, right = layer.window.pads
    rows, columns = layer.window.output_size(*x.shape[2:])
    if any(layer.window.pads):
        x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=padding)
    down, across = layer.window.stride
    for row in range(layer.window.kernel[0]):
        for column in range(layer.window.kernel[1]):
            yield x[:, :, row:row + (rows - 1) * down + 1:down,
                    column:column + (columns - 1) * across + 1:across]


def _convolve(layer: FloatConv, x: np.ndarray) -> np.ndarray:
    """The convolution with its bias, before the activation."""
    samples = len(x)
    outputs, fan_in, height, width = layer.weight.shape
    rows, columns = layer.window.output_size(*x.shape[2:])
    weight = layer.weight.astype(x.dtype)
    bias = layer.bias.astype(x.dtype).reshape(-1, 1, 1)
    if layer.channelwise:
        source = layer.input_of_output[:, 0]
        if not np.array_equal(source, np.arange(x.shape[1])):
            x = x[:, source]
        result = np.empty((samples, outputs, rows, columns), x.dtype)
        result[:] = bias
        product = np.empty_like(result)
        flat = weight.reshape(outputs, -1, 1, 1)
        for index, tap in enumerate(_taps(layer, x, 0)):
            result += np.multiply(tap, flat[:, index], out=product)
        return result
    if height * width == 1:
        patches = next(_taps(layer, x, 0))
    else:
        patches = np.stack(list(_taps(layer, x, 0)), axis=2)   # (N, C, taps, rows, columns)
    patches = patches.reshape(samples, layer.groups, fan_in * height * width, rows * columns)
    matrix = weight.reshape(layer.groups, outputs // layer.groups, -1)
    result = np.matmul(matrix, patches).reshape(samples, outputs, rows, columns)
    result += bias
    return result
