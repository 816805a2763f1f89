"""Calibration samples on their way through the float network and the integer one being made."""

from __future__ import annotations

import numpy as np

from ref.layers import run_layer
from ref.model import Layer

from .evaluate import batches, evaluate_layer
from .graph import FloatConv, FloatLayer, FloatNetwork
from .greedy import Moments
from .layers import Quantized

#: Calibration samples that are followed.
TRACED_SAMPLES = 200
#: Positions of the windows that moments are taken over, over all samples.
POSITIONS = 8192


class Trace:
    """Maps of the float and the integer network on the same samples, layer by layer.

    ``real[name]`` is float32 (N, C, H, W) of the balanced network, ``integer[name]`` the integers.
    """

    def __init__(self, network: FloatNetwork, real: np.ndarray, integer: np.ndarray) -> None:
        """Start with what the first layers of ``network`` read."""
        self.network = network
        self.real = {network.input: real}
        self.integer = {network.input: integer}

    def advance(self, layer: FloatLayer, made: Layer) -> None:
        """Run a layer in both networks; what no later layer reads is dropped."""
        real, integer = [], []
        for start, stop in self._batches():
            real.append(evaluate_layer(layer, *(self.real[name][start:stop]
                                                for name in layer.inputs)))
            integer.append(run_layer(made, *(self.integer[name][start:stop].astype(np.int64)
                                             for name in layer.inputs)).astype(np.int16))
        self.real[layer.output] = np.concatenate(real)
        self.integer[layer.output] = np.concatenate(integer)
        done = self.network.layers.index(layer)
        later = {name for rest in self.network.layers[done + 1:] for name in rest.inputs}
        for name in set(self.real) - later:
            del self.real[name], self.integer[name]

    def moments(self, layer: FloatConv, source: Quantized) -> Moments:
        """Moments of what the weights of ``layer`` meet, over `POSITIONS` windows."""
        pad = np.clip(np.rint(source.zero), source.tensor.lo, source.tensor.hi)
        integer = windows(layer, self.integer[layer.input], pad)
        real = windows(layer, self.real[layer.input], np.zeros(len(pad)))
        real = real / source.step[:, None]
        samples, channels = integer.shape[:2]
        count = layer.groups if not layer.channelwise else channels
        return Moments.of(*(part.reshape(samples, count, -1).transpose(1, 0, 2)
                            for part in (integer, real)))

    def _batches(self) -> list[tuple[int, int]]:
        """Ranges of samples small enough for memory."""
        samples = len(next(iter(self.real.values())))
        return list(batches(self.network, samples))


def windows(layer: FloatConv, maps: np.ndarray, pad: np.ndarray) -> np.ndarray:
    """What `POSITIONS` windows of a layer's maps hold, float64 (positions, channels, taps).

    ``maps`` is (N, C, H, W), ``pad`` (C,) what padding writes.
    """
    top, left, bottom, right = layer.window.pads
    samples, channels, height, width = maps.shape
    padded = np.empty((samples, channels, height + top + bottom, width + left + right),
                      maps.dtype)
    padded[:] = pad[:, None, None]
    padded[:, :, top:top + height, left:left + width] = maps
    rows, columns = layer.window.output_size(height, width)
    total = samples * rows * columns
    chosen = np.arange(total) if total <= POSITIONS else np.sort(
        np.random.default_rng(0).choice(total, POSITIONS, replace=False))
    sample, row, column = np.unravel_index(chosen, (samples, rows, columns))
    down, across = layer.window.stride
    taps = [padded[sample, :, row * down + y, column * across + x]
            for y in range(layer.window.kernel[0]) for x in range(layer.window.kernel[1])]
    return np.stack(taps, axis=2).astype(np.float64)
