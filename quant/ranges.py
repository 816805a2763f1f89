"""Clipping ranges from calibrated statistics: the largest magnitude a tensor must represent."""

from __future__ import annotations

import numpy as np

from .calibrate import BINS, Statistics

#: Share of the values a percentile range keeps (99.9 % is known to cost 9 points where 99.99 % does
#: not).
PERCENTILE = 0.9999
#: Candidate clipping ranges of the "mse" method, as shares of the largest magnitude.
#: The starts of the learned quantizer LLSQ (ICLR 2020: the maximum, half of it at 3 bits and below)
#: in their place gave, with 8-bit weights, 8.2 instead of 15.6 dB of signal over noise of the
#: scores at 4 bits and 7.1 instead of 9.9 at 3 on KWS, 5.2 instead of 6.4 and -1.7 instead of 1.4
#: on VWW with ReLU6; smaller shares than 0.3 and the exact error of each bin gave no more.
CANDIDATES = np.linspace(0.3, 1.0, 71)
#: The clipping error weighs more than the rounding error in the "mse" method, by the number of
#: integers up to the range over this, but never less. Rounding errors are independent and add up in
#: power; clipped values lie side by side and err the same way, so in the sums of later layers their
#: errors add up in amplitude, the more so the rarer they are, which they are the finer the step is.
#: Measured with float weights and 8-bit activations, signal over noise of the result for weights 1,
#: 4, 16, 64 and no clipping: SkyNet 19.0, 20.6, 21.2, 21.5, 21.2 dB; KWS 31.3, 32.7, 32.6, 32.3,
#: 32.2; VWW 20.1, 20.5, 20.9, 20.6, 20.6; MNIST 32.8, 32.5, 33.3, 32.7, 32.7; MobileNetV1-0.25
#: 21.8, 21.8, 21.6, 21.9, 21.5; CIFAR-10 36.9, 37.0, 36.6, 36.0, 36.5. With 8-bit weights and
#: 4-bit activations, for weights 1, 2, 4 and 16: KWS 18.5, 18.3, 17.8, 16.3; VWW with ReLU6 10.8,
#: 10.1, 10.5, 9.5; MNIST 18.7, 18.4, 18.5, 18.5; ResNet-8 17.9, 17.1, 16.8, 16.1.
EQUAL_LEVELS = 16
#: Smallest range of a channel relative to the largest of its tensor: a channel that is dead on the
#: calibration data (down to 1e-13 in trained networks) must not get a scale that blows up the
#: constants of the layers around it.
FLOOR = 2.0 ** -8


def tensor_range(statistics: Statistics, method: str, largest: int) -> float:
    """One clipping range for all channels: the magnitude that the integer ``largest`` stands for.

    ``method`` is one of `quant.calibrate.METHODS`.
    """
    magnitude, count = _magnitudes(statistics)
    return _range(magnitude.ravel(), count.ravel(), method, largest) or 1.0


def channel_ranges(statistics: Statistics, method: str, largest: int) -> np.ndarray:
    """A clipping range per channel, (C,), none below `FLOOR` of the largest."""
    magnitude, count = _magnitudes(statistics)
    ranges = np.array([_range(*channel, method, largest)
                       for channel in zip(magnitude, count, strict=True)])
    return np.maximum(ranges, (ranges.max() or 1.0) * FLOOR)


def _magnitudes(statistics: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """Magnitude of the outer edge of each histogram bin and its count, (C, BINS) each."""
    width = (statistics.hi - statistics.lo)[:, None] / BINS
    lower = statistics.lo[:, None] + width * np.arange(BINS)
    return np.maximum(np.abs(lower), np.abs(lower + width)), statistics.histogram


def _range(magnitude: np.ndarray, count: np.ndarray, method: str, largest: int) -> float:
    """The clipping range of values given by their magnitudes and counts, (bins,) each."""
    used = count > 0
    magnitude, count = magnitude[used], count[used]
    reach = float(magnitude.max())
    if method == "max" or reach == 0:
        return reach
    if method == "percentile":
        order = np.argsort(magnitude, kind="stable")
        kept = np.cumsum(count[order])
        return float(magnitude[order][np.searchsorted(kept, PERCENTILE * kept[-1])])
    ranges, weight = reach * CANDIDATES, max(1.0, largest / EQUAL_LEVELS)
    clipped = np.maximum(magnitude - ranges[:, None], 0.0) ** 2 @ (count / count.sum())
    return float(ranges[np.argmin(weight * clipped + (ranges / largest) ** 2 / 12)])
