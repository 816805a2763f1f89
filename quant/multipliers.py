"""Narrow multipliers: of the ratios near the one asked for, that with which weights lose least."""

from __future__ import annotations

import numpy as np

from .dyadic import ANY_RATIO, ROUNDED, Span, largest_ratio, narrow_ratios
from .weights import LayerCode, round_weights


def narrow_multipliers(weight: np.ndarray, unit: np.ndarray, step: np.ndarray, code: LayerCode,
                       energy: np.ndarray, bits: int, fitting: bool, span: Span = ANY_RATIO
                       ) -> tuple[np.ndarray, int]:
    """Multipliers (O,) of ``bits`` significant bits for the rows of ``weight`` (O, K), and shift.

    ``unit`` (O,) is the weights' step that was asked for, ``step`` (O,) the result's, whose product
    with the ratio becomes the weights' step; which of `narrow_ratios` is taken is decided by the
    squared error of the nearest levels, weighted by ``energy`` (O, K). Where ``fitting`` no step is
    smaller than asked, so that sums that fit an accumulator still do. Ratios lie within ``span``.
    """
    candidates, shift = narrow_ratios(np.minimum(unit / step, largest_ratio(bits)), bits, span)
    best, least = candidates.max(axis=0), np.full(len(weight), np.inf)
    for candidate in candidates:
        made = candidate * 2.0 ** -shift * step
        error = weight - round_weights(weight, made, code) * made[:, None]
        loss = (error ** 2 * energy).sum(axis=1)
        better = (loss < least) & (not fitting or made > unit * (1 - ROUNDED))
        best[better], least[better] = candidate[better], loss[better]
    return best, shift
