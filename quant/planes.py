"""Inputs wider than 8 bits as two 8-bit planes that the first convolutions read side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .graph import FloatConv, FloatNetwork
from .presets import Settings


def on_planes(network: FloatNetwork) -> FloatNetwork:
    """The network whose first convolutions read every channel of the input twice, in two planes.

    Both planes have the channel's own weights: the sum of their real values is the channel's.
    """
    channels, height, width = network.input_shape
    layers = tuple(replace(layer, weight=np.repeat(layer.weight, 2, axis=1))
                   if isinstance(layer, FloatConv) and layer.input == network.input else layer
                   for layer in network.layers)
    return replace(network, input_shape=(2 * channels, height, width), layers=layers,
                   input_gain=np.repeat(network.input_gain, 2),
                   input_offset=np.repeat(network.input_offset, 2))


def low_plane_bits(network: FloatNetwork, needed: int, settings: Settings) -> int:
    """Bits of the low plane, 0 (one plane is best) .. ``settings.input_bits - 8``.

    ``needed`` are the bits that the data take. Of the possible numbers k it is the one with the
    least noise in the first convolutions' sums, the smallest of equals. Data that do not fit
    ``8 + k`` bits are divided by a step, whose rounding has the power ``step^2 / 12``. The low
    plane's weights are the high plane's divided by 2^k, on the same grid: their rounding is seen by
    the low plane's integers, spread over 0 .. 2^k - 1. With 8-bit weights k = 4 is about the most
    that pays, with fewer weight bits less. 0 where something else than a convolution reads the
    input, or one whose weights came as integers.
    """
    readers = [layer for layer in network.readers(network.input)
               if isinstance(layer, FloatConv) and layer.weight_step is None]
    if len(readers) < len(network.readers(network.input)):
        return 0

    def noise(low_bits: int) -> float:
        step = 2.0 ** max(0, needed - 8 - low_bits)
        rounding = len(readers) * step ** 2 / 12 if step > 1 else 0.0
        for layer in readers:
            largest = (1 << (settings.of(layer.name).weight_bits - 1)) - 1
            unit = step * 2 ** low_bits / largest           # of the high weights, the largest 1
            rounding += (unit ** 2 / 12 * _peak(layer, settings.weight_scale)
                         * (4 ** low_bits - 1) / 12)
        return rounding

    return min(range(settings.input_bits - 8 + 1), key=noise)


def _peak(layer: FloatConv, weight_scale: str) -> float:
    """Square of the largest weight of a step over the rows' mean square, the mean over all rows."""
    square = layer.weight.reshape(len(layer.weight), -1) ** 2
    largest = square.max(axis=1)
    if weight_scale == "tensor":
        largest = np.full_like(largest, largest.max())
    used = square.any(axis=1)
    return float((largest[used] / square[used].mean(axis=1)).mean()) if used.any() else 1.0
