"""Calibration: what values each channel of each tensor of the float network takes on real data."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ref.data import Data
from ref.errors import UserError

from .evaluate import batches, evaluate_tensors, real_input
from .graph import FloatNetwork
from .progress import Tell, untold

#: Histogram bins per channel, between its smallest and its largest value.
BINS = 512
#: How a clipping range is found from the statistics (see `quant.ranges`).
METHODS = ("max", "percentile", "mse")


@dataclass(frozen=True, eq=False)
class Statistics:
    """Values of one tensor, per channel; all (C,) float64 but the histogram.

    ``histogram`` (C, BINS) counts values in equal bins between ``lo`` and ``hi``.
    """

    lo: np.ndarray
    hi: np.ndarray
    mean: np.ndarray
    square: np.ndarray                      # mean of the squared value
    histogram: np.ndarray

    def scaled(self, factor: np.ndarray) -> Statistics:
        """The statistics of the tensor with channel i multiplied by ``factor[i]`` > 0."""
        return Statistics(self.lo * factor, self.hi * factor, self.mean * factor,
                          self.square * factor ** 2, self.histogram)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Statistics of every tensor by name, and of the integers ``x`` of the data file.

    ``input`` describes ``x`` itself, in its integer units; ``tensors`` the results of the layers.
    """

    method: str
    samples: int
    dtype: str
    x_scale: np.ndarray                     # () or (C,) float64
    x_zero_point: np.ndarray                # () or (C,) float64
    input: Statistics
    tensors: dict[str, Statistics]

    def scaled(self, factors: dict[str, np.ndarray]) -> Calibration:
        """The calibration of a network whose tensors' channels were multiplied by ``factors``."""
        return replace(self, tensors={
            name: statistics.scaled(factors[name]) if name in factors else statistics
            for name, statistics in self.tensors.items()})


def calibrate(network: FloatNetwork, data: Data, method: str = "mse",
              progress: Tell = untold) -> Calibration:
    """Evaluate the float network on ``data`` and collect the statistics of every tensor.

    ``method`` (one of `METHODS`) is how ranges will be found from them. Two passes over the
    samples, which ``progress`` hears of: ranges, then histograms. Raises `UserError` for data of
    the wrong shape or results that are not finite.
    """
    if method not in METHODS:
        raise UserError(f"calibration method {method!r} is unknown; use one of "
                        f"{', '.join(METHODS)}")
    real = real_input(network, data)
    integers = data.x.reshape(-1, *network.input_shape).astype(np.float64)
    ranges: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    progress("calibrate", 0, 2 * len(real))
    for start, stop in batches(network, len(real)):
        for name, value in evaluate_tensors(network, real[start:stop]):
            lo, hi = value.min(axis=(0, 2, 3)), value.max(axis=(0, 2, 3))
            if name in ranges:
                lo, hi = np.minimum(lo, ranges[name][0]), np.maximum(hi, ranges[name][1])
            ranges[name] = lo, hi
        progress("calibrate", stop, 2 * len(real))
    for name, (lo, hi) in ranges.items():
        if not (np.isfinite(lo).all() and np.isfinite(hi).all()):
            raise UserError(f"tensor {name!r} of the float network {network.name!r} is not finite "
                            "on the calibration data; check the network and the data's scale")
    collected = {name: _Collector(lo.astype(np.float64), hi.astype(np.float64))
                 for name, (lo, hi) in ranges.items()}
    for start, stop in batches(network, len(real)):
        for name, value in evaluate_tensors(network, real[start:stop]):
            collected[name].add(value)
        progress("calibrate", len(real) + stop, 2 * len(real))
    whole = _Collector(integers.min(axis=(0, 2, 3)), integers.max(axis=(0, 2, 3)))
    whole.add(integers)
    return Calibration(method, len(data.x), data.x.dtype.name, data.x_scale, data.x_zero_point,
                       whole.statistics(),
                       {name: part.statistics() for name, part in collected.items()})


class _Collector:
    """Sums and histograms of one tensor, batch after batch."""

    def __init__(self, lo: np.ndarray, hi: np.ndarray) -> None:
        self.lo, self.hi = lo, hi
        self.count = 0
        self.sum = np.zeros(len(lo))
        self.squares = np.zeros(len(lo))
        self.histogram = np.zeros((len(lo), BINS), np.int64)

    def add(self, value: np.ndarray) -> None:
        """Count the values (N, C, H, W) of a batch."""
        channels = len(self.lo)
        self.count += value.size // channels
        self.sum += value.sum(axis=(0, 2, 3), dtype=np.float64)
        self.squares += np.einsum("nchw,nchw->c", value, value, dtype=np.float64)
        bins = BINS / np.where(self.hi > self.lo, self.hi - self.lo, 1.0)
        lo, bins = (part.astype(value.dtype)[:, None, None] for part in (self.lo, bins))
        index = np.minimum(((value - lo) * bins).astype(np.int64), BINS - 1)
        index += (np.arange(channels) * BINS)[:, None, None]
        self.histogram += np.bincount(index.ravel(), minlength=channels * BINS
                                      ).reshape(channels, BINS)

    def statistics(self) -> Statistics:
        """What was collected."""
        return Statistics(self.lo, self.hi, self.sum / self.count, self.squares / self.count,
                          self.histogram)
