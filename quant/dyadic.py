"""Dyadic numbers: the multipliers and shifts that requantizers and the input rule can express."""

from __future__ import annotations

import math

import numpy as np

from ref.model import GUARD_BITS, MULTIPLIER_BITS, SHIFTS

#: Largest multiplier; odd, as every multiplier of a requantizer is.
LARGEST_MULTIPLIER = (1 << MULTIPLIER_BITS) - 1
#: Largest factor that the multipliers of a sum have in common; 16 bits with the guard bits.
LARGEST_SUM_FACTOR = ((1 << 16) - 1) >> GUARD_BITS
#: Largest ratio a requantizer can express.
LARGEST_RATIO = LARGEST_MULTIPLIER / (1 << min(SHIFTS))
#: Significant bits of multipliers that are narrower than `MULTIPLIER_BITS`.
NARROW_BITS = range(1, 9)
#: Powers of two that the narrow multipliers of a layer have: so many shifts hardware needs for it.
POWERS = 4
#: Narrow multipliers tried for a ratio, by their places from the one at or below it.
PLACES = range(-1, 3)
#: Least and largest ratio of a layer's narrow multipliers, powers of two.
Span = tuple[float, float]
#: No bounds but the multipliers' own.
ANY_RATIO: Span = (0.0, math.inf)
#: Relative error of a ratio that is one of these and has been rounded.
ROUNDED = 2.0 ** -40


def requantizer_ratio(ratio: np.ndarray, nearest: np.ndarray | bool = False
                      ) -> tuple[np.ndarray, int]:
    """Odd ``multiplier`` (O,) int64 and ``shift`` with ``multiplier / 2^shift >= ratio``, closest.

    ``ratio`` (O,) is float64 in ``(0, LARGEST_RATIO]``. The shift is the largest of `SHIFTS` with
    which the largest multiplier has at most 15 bits, so its precision is best; a ratio below
    ``2^-shift`` becomes ``2^-shift``. Where ``nearest`` it may also be smaller than the one asked.
    Scaling by a power of two is exact in float64.
    """
    largest = float(ratio.max())
    if not 0 < largest <= LARGEST_RATIO:
        raise ValueError(f"ratio {largest:g} is outside (0, {LARGEST_RATIO:g}]")
    limit = LARGEST_MULTIPLIER + (0.5 if np.all(nearest) else 0)
    shift = max(shift for shift in SHIFTS if math.ldexp(largest, shift) <= limit)
    exact = np.ldexp(ratio, shift)
    odd = np.where(nearest, 2 * np.rint((exact - 1) / 2) + 1, np.ceil(exact).astype(np.int64) | 1)
    return np.clip(odd, 1, LARGEST_MULTIPLIER).astype(np.int64), shift


def largest_ratio(bits: int) -> float:
    """The largest ratio of a multiplier of ``bits`` significant bits, `LARGEST_RATIO` at most."""
    return float(((1 << bits) - 1 << MULTIPLIER_BITS - bits) / (1 << min(SHIFTS)))


def narrow_ratios(ratio: np.ndarray, bits: int, span: Span = ANY_RATIO
                  ) -> tuple[np.ndarray, int]:
    """Narrow multipliers around ``ratio`` (O,), int64 (len(PLACES), O), and the shift of all.

    Each is a significand of ``bits`` bits, of which the first is 1, times a power of two; the
    powers of all are `POWERS` following ones. So ``(acc + bias) * multiplier >> shift`` is a
    product with the significand and one of as many shifts, with ``bits`` of 1 a shift alone.
    (Where a power is below 1 the significand ends in zeros for it.) ``ratio`` is in
    ``(0, largest_ratio(bits)]``; a smaller one than the powers reach gets the smallest multiplier.
    Those outside ``span`` are replaced by its ends.
    """
    ratio = np.clip(ratio, *span)
    largest = float(ratio.max())
    if not 0 < largest <= largest_ratio(bits):
        raise ValueError(f"ratio {largest:g} is outside (0, {largest_ratio(bits):g}]")
    most = (1 << bits) - 1 << MULTIPLIER_BITS - bits
    shift = max(shift for shift in SHIFTS if math.ldexp(largest, shift) <= most)
    exact = np.ldexp(ratio, shift) * (1 + ROUNDED)
    places = np.array(PLACES)[:, None]
    exponent = np.maximum(np.frexp(exact)[1] - bits, 0)             # of the last significant bit
    found = np.ldexp(np.floor(np.ldexp(exact, -exponent)) + places, exponent)
    # Places above the last significand are those of the next power of two.
    step = np.ldexp(1.0, np.maximum(np.frexp(found)[1] - bits, 0))
    found = np.clip(np.ceil(found / step) * step, 1, most)
    found = np.clip(found, *np.ldexp(span, shift)).astype(np.int64)
    return np.maximum(found, 1 << max(0, int(found.max()).bit_length() - POWERS)), shift


def sum_ratios(steps: np.ndarray, wanted: np.ndarray, shared: bool, largest_weight: int
               ) -> tuple[np.ndarray, int, np.ndarray]:
    """``multiplier`` (2, C) and ``shift`` of an `ref.model.Add`, and the result's steps (C,).

    ``steps`` (2, C) are those of the operands, ``wanted`` (C,) asked of the result. A step that
    would need a larger ratio than can be expressed is raised, all alike where they are ``shared``.
    For ``largest_weight`` see `sum_multipliers`.
    """
    step = np.maximum(wanted, steps.max(axis=0) / (LARGEST_RATIO * 2 ** GUARD_BITS))
    if shared:
        step = np.full_like(step, step.max())
    ratio = steps / step / 2 ** GUARD_BITS
    shift = max(shift for shift in SHIFTS
                if math.ldexp(float(ratio.max()), shift) <= LARGEST_MULTIPLIER + 0.25)
    return sum_multipliers(np.ldexp(ratio, shift), largest_weight), shift, step


def sum_multipliers(exact: np.ndarray, largest_weight: int) -> np.ndarray:
    """Multipliers (2, C) int64 near ``exact``: in each channel two weights times a common factor.

    Hardware multiplies by the weights, whole numbers up to ``largest_weight``, and by the factor
    after the addition. The factor is the one of many that comes nearest in both operands together.
    """
    weights = np.arange(largest_weight // 2, largest_weight + 1)[:, None]
    factor = np.clip(np.rint(exact.max(axis=0) / weights), 1, LARGEST_SUM_FACTOR)[:, None]
    largest = np.minimum(largest_weight, LARGEST_MULTIPLIER // factor)
    found = factor * np.clip(np.rint(exact / factor), 1, largest)           # (factors, 2, C)
    best = np.abs(found - exact).sum(axis=1).argmin(axis=0)
    return found[best, :, np.arange(exact.shape[1])].T.astype(np.int64)


def input_ratio(step: float) -> tuple[int, int]:
    """``multiplier`` and ``shift`` of the input rule that divides integers by about ``step`` >= 1.

    The multiplier has at most 15 bits, the shift is at most the largest of `SHIFTS`. A step of 1
    gives (1, 0): the integers pass unchanged.
    """
    if step <= 1:
        return 1, 0
    shift = min(max(SHIFTS), math.floor(math.log2(LARGEST_MULTIPLIER * step)))
    return min(LARGEST_MULTIPLIER, max(1, round(math.ldexp(1 / step, shift)))), shift
