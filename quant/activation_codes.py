"""AUSN activations: the split of the bits and the steps that lose least on the calibration data.

Source: AUSN, arXiv 2007.03903 (see `ref.ausn`), which codes activations as it codes weights; how
the code of a map is found is our choice.
"""

from __future__ import annotations

import numpy as np

from ref.ausn import EXPONENT_BITS, AusnCode

from .calibrate import BINS, Statistics
from .ranges import EQUAL_LEVELS, FLOOR, channel_ranges, tensor_range
from .weights import LANES_EXPONENT

#: Candidate ranges of the "mse" method, as shares of the largest value.
CANDIDATES = np.linspace(0.3, 1.0, 15)
#: Bins that the values of all channels are counted in again where they share a step.
SHARED_BINS = 4096


def activation_codes(bits: int, lanes: bool = False) -> tuple[AusnCode, ...]:
    """Every code of ``bits`` (2..7) bits whose levels are bytes.

    For ``lanes`` that shift and add (`hw.code_array`) the one with two bits of the exponent, whose
    levels are narrow.
    """
    codes = (AusnCode(exponent, bits - exponent) for exponent in EXPONENT_BITS if exponent <= bits)
    return tuple(code for code in codes
                 if code.largest < 256 and (not lanes or code.exponent == LANES_EXPONENT))


def coded_steps(maps: list[Statistics], method: str, bits: int, apart: bool,
                lanes: bool = False) -> tuple[AusnCode, np.ndarray]:
    """The code of a map of values >= 0, and the steps of its bytes: (C,) or, shared, ().

    ``apart`` gives each channel of the one map its own step; else all of all ``maps`` share one.
    For ``lanes`` see `activation_codes`. The "mse" method searches the range with the code, the
    others fix it. Code and ranges have the least squared error; apart, relative to each channel's
    own squares, so that all count.
    """
    values, counts = _values(maps, apart)
    squares = np.maximum((values ** 2 * counts).sum(axis=1), np.finfo(float).tiny)
    best: tuple[float, AusnCode, np.ndarray] | None = None
    for code in activation_codes(bits, lanes):
        if method == "mse":
            ranges, errors = _search(values, counts, code)
        else:
            ranges = (channel_ranges(maps[0], method, code.largest) if apart else
                      np.array([max(tensor_range(one, method, code.largest) for one in maps)]))
            errors = _errors(values, counts, code, ranges)
        total = float((errors / squares).sum())
        if best is None or total < best[0]:
            best = total, code, ranges
    assert best is not None
    ranges = np.maximum(best[2], (best[2].max() or 1.0) * FLOOR) / best[1].bytes[-1]
    return best[1], ranges if apart else ranges[0]


def _search(values: np.ndarray, counts: np.ndarray, code: AusnCode
            ) -> tuple[np.ndarray, np.ndarray]:
    """The range of each row of `CANDIDATES` with the least error, and that error, (rows,) each."""
    largest = values.max(axis=1)
    candidates = [largest * share for share in CANDIDATES]
    errors = np.array([_errors(values, counts, code, ranges) for ranges in candidates])
    chosen = errors.argmin(axis=0)
    return largest * CANDIDATES[chosen], errors.min(axis=0)


def _errors(values: np.ndarray, counts: np.ndarray, code: AusnCode, ranges: np.ndarray
            ) -> np.ndarray:
    """Squared error of each row's values when its range is the largest level's, (rows,).

    Values beyond weigh more, for the reason and by the rule of `quant.ranges.EQUAL_LEVELS`.
    """
    step = (np.where(ranges > 0, ranges, 1.0) / code.largest)[:, None]
    weight = np.where(values > ranges[:, None], max(1.0, len(code.levels) / EQUAL_LEVELS), 1.0)
    return ((values - code.nearest(values / step) * step) ** 2 * counts * weight).sum(axis=1)


def _values(maps: list[Statistics], apart: bool) -> tuple[np.ndarray, np.ndarray]:
    """Values (rows, bins), the middles of histogram bins, and how often each occurs."""
    middles = [one.lo[:, None] + (one.hi - one.lo)[:, None] * (np.arange(BINS) + 0.5) / BINS
               for one in maps]
    if apart:
        return middles[0], maps[0].histogram
    values = np.concatenate([one.ravel() for one in middles])
    counts, edges = np.histogram(values, SHARED_BINS, (0.0, float(values.max()) or 1.0),
                                 weights=np.concatenate([one.histogram.ravel() for one in maps]))
    return ((edges[1:] + edges[:-1]) / 2)[None], counts[None]
