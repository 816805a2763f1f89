"""Weights as integers of a code: the step of each output channel and the nearest levels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ref.ausn import EXPONENT_BITS, AusnCode

from .presets import Settings

#: Candidate steps, as shares of the one that represents the largest weight exactly at the end.
CANDIDATES = np.linspace(0.2, 1.0, 81)
#: Codes with more magnitudes than this clip little: half of the largest step is small enough.
FEW_LEVELS = 8
#: Share of the loss of integers that fit a byte which wider ones must not reach: the engine
#: multiplies by bytes. With a step per channel wider ones lost 0.7 to 5 times as much in the layers
#: of MobileNetV1-0.25-128 (5 bits), with one per layer 0.05 to 4.
WIDE_LOSS = 0.5
#: Bits of the exponent of codes for lanes that shift and add (`hw.code_array`), whose levels are
#: narrow.
LANES_EXPONENT = 2


@dataclass(frozen=True)
class LinearCode:
    """Linear weights: the integers of the narrow range of ``weight_bits`` bits."""

    weight_bits: int                        # 2..8

    @property
    def largest(self) -> int:
        """The largest integer."""
        return (1 << (self.weight_bits - 1)) - 1

    @property
    def dtype(self) -> np.dtype:
        """The integers' type."""
        return np.dtype(np.int8)

    @cached_property
    def levels(self) -> np.ndarray:
        """All magnitudes, int64, growing."""
        return np.arange(self.largest + 1)

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """The integer nearest to each real value, float64 of the same shape."""
        return np.clip(np.rint(values), -self.largest, self.largest)


#: What weights can be stored as: magnitudes ``levels``, found by ``nearest``.
WeightCode = LinearCode | AusnCode


@dataclass(frozen=True, eq=False)
class MixedCode:
    """A code for each output channel: ``ausn`` for those that are ``coded`` (O,), else ``linear``.
    """

    coded: np.ndarray
    ausn: AusnCode
    linear: LinearCode

    @property
    def dtype(self) -> np.dtype:
        """The integers' type, that of the wider ones."""
        return self.ausn.dtype

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """The level nearest to each real value, float64 of the same shape.

        The shape's first axes are those of the output channels, in order.
        """
        rows = values.reshape(len(self.coded), -1)
        found = np.empty(rows.shape)
        found[self.coded] = self.ausn.nearest(rows[self.coded])
        found[~self.coded] = self.linear.nearest(rows[~self.coded])
        return found.reshape(values.shape)

    def rows(self, chosen: np.ndarray) -> MixedCode:
        """The same for some output channels."""
        return MixedCode(self.coded[chosen], self.ausn, self.linear)


#: What the weights of a layer can be rounded to.
LayerCode = WeightCode | MixedCode


def weight_codes(settings: Settings) -> tuple[WeightCode, ...]:
    """The codes that a layer may choose from: for AUSN, every split but the linear one.

    That would gate as many terms as the weight has bits, which is the multiplier AUSN replaces.
    The coded channels of mixed weights have the one split of lanes that shift and add.
    """
    if settings.weight_code == "linear":
        return (LinearCode(settings.weight_bits),)
    magnitude = settings.weight_bits - 1
    if settings.weight_code == "mixed":
        return (AusnCode(LANES_EXPONENT, magnitude - LANES_EXPONENT),)
    return tuple(AusnCode(exponent, magnitude - exponent) for exponent in EXPONENT_BITS[1:]
                 if exponent <= magnitude)


def best_code(codes: tuple[WeightCode, ...], weight: np.ndarray, energy: np.ndarray
              ) -> tuple[WeightCode, np.ndarray, np.ndarray]:
    """The code of the rows of ``weight`` (O, K) that loses least, their steps and losses, (O,).

    Integers wider than a byte are taken only at less than `WIDE_LOSS` of the others' loss.
    """
    found = [(code, *weight_steps(weight, code, energy)) for code in codes]
    return min(found, key=lambda one: float(one[2].sum()) / (
        WIDE_LOSS if one[0].dtype.itemsize > 1 else 1.0))


def weight_steps(weight: np.ndarray, code: WeightCode, energy: np.ndarray
                 ) -> tuple[np.ndarray, np.ndarray]:
    """The step of each row of ``weight`` (O, K) that loses least, and what it loses, (O,) each.

    A search over `CANDIDATES`: the loss is the squared error of the nearest levels, those beyond
    the largest included, weighted by ``energy`` (O, K), the mean square of the input each weight
    meets (AUSN's sum of clipping and rounding error). A row of zeros has the step 0. A trained
    quantizer would take its place here.

    The learned quantizer LLSQ (ICLR 2020) compares a step with its half and its double and moves
    by a tenth; run to convergence from its own start, without training, it stops in the first
    valley, as it does when the three points close in on one (its three points, factor 2 to 1.005).
    Signal over noise of the scores on 100 public test samples each, greedy rounding, for this
    search, candidates down to one half only, LLSQ's, and LLSQ's closing in:

    | | KWS | VWW with ReLU6 | MobileNetV1-0.25-128 |
    |---|---|---|---|
    | 8 bits | 25.7, 25.7, 25.8, 25.5 | 27.3, 27.3, 26.7, 26.9 | 23.1, 23.1, 23.2, 23.2 |
    | 4 bits | 22.8, 22.8, 22.9, 22.8 | 13.7, 13.8, 13.4, 14.0 | 8.9, 8.9, 8.9, 8.8 |
    | 3 bits | 17.9, 17.9, 17.0, 17.8 | 9.6, 8.5, 8.8, 8.1 | 4.9, 4.2, 4.3, 4.8 |
    | 2 bits | 9.1, 9.4, 9.8, 9.0 | 1.7, 1.7, 0.0, 0.6 | 0.0, 0.0, 0.0, 0.0 |
    """
    full = np.abs(weight).max(axis=1) / code.largest
    best, least = full.copy(), np.full(len(weight), np.inf)
    few = len(code.levels) <= FEW_LEVELS
    for share in CANDIDATES[::-1] if few else CANDIDATES[CANDIDATES >= 0.5][::-1]:
        step = full * share
        error = weight - round_weights(weight, step, code) * step[:, None]
        loss = (error ** 2 * energy).sum(axis=1)
        better = loss < least
        best[better], least[better] = step[better], loss[better]
    return best, least


def round_weights(weight: np.ndarray, step: np.ndarray, code: LayerCode) -> np.ndarray:
    """The levels nearest to ``weight`` (O, ...) in units of ``step`` (O,), float64."""
    divisor = np.where(step > 0, step, 1.0).reshape(-1, *(1,) * (weight.ndim - 1))
    return code.nearest(weight / divisor)
