"""Linear symmetric weights: the step of each output channel and the rounded integers."""

from __future__ import annotations

import numpy as np

#: Candidate steps, as shares of the one that represents the largest weight exactly at the end.
CANDIDATES = np.linspace(0.5, 1.0, 51)


def weight_steps(weight: np.ndarray, bits: int, energy: np.ndarray) -> np.ndarray:
    """The step of each row of ``weight`` (O, K) that loses least, (O,); 0 for a row of zeros.

    A search over `CANDIDATES`: the loss is the squared error of the ``bits``-bit narrow-range
    integers, weighted by ``energy`` (O, K), the mean square of the input each weight meets (the
    linear quantizer's local search of LLSQ, ICLR 2020, run to convergence without training).
    """
    largest = (1 << (bits - 1)) - 1
    full = np.abs(weight).max(axis=1) / largest
    best, least = full.copy(), np.full(len(weight), np.inf)
    for share in CANDIDATES[::-1]:
        step = full * share
        error = weight - round_weights(weight, step, bits) * step[:, None]
        loss = (error ** 2 * energy).sum(axis=1)
        better = loss < least
        best[better], least[better] = step[better], loss[better]
    return best


def round_weights(weight: np.ndarray, step: np.ndarray, bits: int) -> np.ndarray:
    """``weight`` (O, ...) in units of ``step`` (O,), rounded into the narrow range, float64."""
    largest = (1 << (bits - 1)) - 1
    divisor = np.where(step > 0, step, 1.0).reshape(-1, *(1,) * (weight.ndim - 1))
    return np.clip(np.rint(weight / divisor), -largest, largest)
