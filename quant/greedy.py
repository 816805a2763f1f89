"""Greedy rounding without training: each weight's error is made good by the weights after it.

Weights that read the same inputs are rounded one input at a time; what a rounding changes in the
layer's sums on the calibration data is taken out of the weights not yet rounded, by least squares.
This is the greedy idea of GPFQ (Lybrand and Saab, 2021) in the second-order form of optimal brain
quantization and GPTQ (arXiv 2210.17323), whose Cholesky factor gives all corrections at once. Two
things are ours: before rounding, the weights are fitted so that the *integer* network's inputs give
the float network's sums, as far as that holds on samples the fit did not see; and the mean error
goes into the bias exactly (`Moments.bias`).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from .weights import LayerCode

#: Share of the mean input energy added to the moments: keeps the corrections of weights that few
#: samples determine small.
DAMPING = 0.02
#: The same for the fit to the integer network's inputs, per weight and sample: candidates, of which
#: each layer gets the one that helps most on the other half of the samples, or no fit at all. What
#: few bits did to a layer's inputs is worth a fit; at 8 bits it is mostly chance, and fitting it
#: costs the keyword spotter 1.5 dB.
FIT_DAMPINGS = (1.0, 10.0, 100.0, 1000.0)
#: Parts of the samples, of which all others decide a fit that each judges.
PARTS = 2
#: Rows of a layer's weights, evenly spread, that decide how far it is fitted.
JUDGES = 32
#: Smallest mean input energy, in squared input steps: inputs that are always constant have 0.
SMALLEST = 1e-6
#: Columns corrected at once; the others follow block by block.
BLOCK = 64


@dataclass(frozen=True, eq=False)
class Moments:
    """Second moments of what a layer's weights meet on the calibration data, in input steps.

    ``integer`` and ``cross`` are (P, G, K, K) for G groups of weights with K inputs each:
    covariances of the integer network's inputs with themselves and with the float network's (row:
    float), of each of P parts of the samples around the mean of all. ``integer_mean`` and
    ``real_mean`` are (G, K); ``samples`` is how many windows were seen.
    """

    integer: np.ndarray
    cross: np.ndarray
    integer_mean: np.ndarray
    real_mean: np.ndarray
    samples: int

    @classmethod
    def of(cls, integer: np.ndarray, real: np.ndarray) -> Moments:
        """The moments of windows (G, samples, K) of the integer and of the float network.

        Overwrites both. The products are computed in their type, the moments are float64.
        """
        means = [windows.mean(axis=1, dtype=np.float64) for windows in (integer, real)]
        for windows, mean in zip((integer, real), means, strict=True):
            windows -= mean.astype(windows.dtype)[:, None]
        samples = integer.shape[1]
        ends = np.linspace(0, samples, min(PARTS, samples) + 1).astype(int)
        parts = [slice(start, end) for start, end in pairwise(ends)]
        own, cross = (np.stack([windows[:, part].transpose(0, 2, 1) @ integer[:, part]
                                for part in parts]).astype(np.float64) * len(parts) / samples
                      for windows in (integer, real))
        return cls(own, cross, means[0], means[1], samples)

    def round(self, weight: np.ndarray, unit: np.ndarray, code: LayerCode) -> np.ndarray:
        """Levels of ``code`` for ``weight`` (O, ...) in units of ``unit`` (O,), float64."""
        groups, fan_in = self.integer_mean.shape
        rows = self.fitted(weight / np.where(unit > 0, unit, 1.0).reshape(
            -1, *(1,) * (weight.ndim - 1))).reshape(groups, -1, fan_in)
        whole, scale = self.integer.mean(axis=0), self._scale()
        energy = whole.diagonal(axis1=1, axis2=2)
        order = np.argsort(-energy, axis=1, kind="stable")      # the inputs that matter most first
        damped = whole + DAMPING * scale
        damped = np.take_along_axis(np.take_along_axis(damped, order[:, :, None], 1),
                                    order[:, None, :], 2)
        factor = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
        rows = np.take_along_axis(rows, order[:, None, :], 2)
        rounded = _round_in_order(rows, factor, code)
        result = np.empty_like(rounded)
        np.put_along_axis(result, np.broadcast_to(order[:, None, :], rows.shape), rounded, 2)
        return result.reshape(weight.shape)

    def _scale(self) -> np.ndarray:
        """The identity times the mean input energy, (G, K, K)."""
        energy = self.integer.mean(axis=0).diagonal(axis1=1, axis2=2)
        return (np.maximum(energy.mean(axis=1), SMALLEST)[:, None, None]
                * np.eye(self.integer_mean.shape[1]))

    def fitted(self, weight: np.ndarray) -> np.ndarray:
        """``weight`` (O, ...) changed so that the integer inputs give the float network's sums."""
        groups, fan_in = self.integer_mean.shape
        rows, scale = weight.reshape(groups, -1, fan_in), self._scale()
        parts, everything = len(self.integer), np.arange(len(self.integer))
        asked = self.cross - self.integer

        def change(rows: np.ndarray, seen: np.ndarray, damping: float) -> np.ndarray:
            """What to add to ``rows``: least squares over the parts ``seen``."""
            share = rows.shape[2] / (self.samples * len(seen) / parts)
            damped = self.integer[seen].mean(axis=0) + (DAMPING + damping * share) * scale
            lost = rows @ asked[seen].mean(axis=0)
            return np.linalg.solve(damped, lost.transpose(0, 2, 1)).transpose(0, 2, 1)

        judges = rows[:, ::-(-rows.shape[1] // JUDGES)]
        best, least = None, 0.0             # error of no fit, less what no fit can change
        for damping in FIT_DAMPINGS if parts > 1 else ():
            error = 0.0
            for part in everything:
                made = change(judges, np.delete(everything, part), damping)
                lost = judges @ asked[part]
                error += float(((made @ self.integer[part] - 2 * lost) * made).sum())
            if error < least:
                best, least = damping, error
        if best is None:
            return weight
        return (rows + change(rows, everything, best)).reshape(weight.shape)

    def bias(self, weight: np.ndarray, integers: np.ndarray, unit: np.ndarray) -> np.ndarray:
        """What to add to the sums of ``integers`` so that their mean is the float network's, (O,).

        In accumulator steps ``unit``, the layer's own bias not counted.
        """
        groups, fan_in = self.integer_mean.shape
        wanted = (weight.reshape(groups, -1, fan_in) @ self.real_mean[:, :, None]).ravel() / unit
        return wanted - (integers.reshape(groups, -1, fan_in)
                         @ self.integer_mean[:, :, None]).ravel()


def _round_in_order(rows: np.ndarray, factor: np.ndarray, code: LayerCode) -> np.ndarray:
    """``rows`` (G, R, K) rounded to levels from the first column to the last.

    ``factor`` (G, K, K) is the upper Cholesky factor of the inverse moments.
    """
    rows, rounded = rows.copy(), np.empty_like(rows)
    fan_in = rows.shape[2]
    for start in range(0, fan_in, BLOCK):
        stop = min(start + BLOCK, fan_in)
        errors = np.empty((*rows.shape[:2], stop - start))
        for column in range(start, stop):
            value = rows[:, :, column]
            rounded[:, :, column] = code.nearest(value)
            pivot = factor[:, column, column][:, None]
            error = (value - rounded[:, :, column]) / pivot
            rows[:, :, column:stop] -= error[:, :, None] * factor[:, None, column, column:stop]
            errors[:, :, column - start] = error
        rows[:, :, stop:] -= errors @ factor[:, start:stop, stop:]
    return rounded
