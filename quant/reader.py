"""Float calibration samples as integers: onnxruntime's CalibrationDataReader and plain arrays.

The quantizer calibrates on the integers that the hardware will be fed. Floats usually are such
integers in disguise (pixels divided by 255 and normalized, features divided by 128), and `as_data`
finds the grid they lie on, so that nothing is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ref.data import DTYPES, Data
from ref.errors import UserError

from .graph import FloatNetwork

#: Fewer distinct values than this lie on some grid by chance.
FEWEST_VALUES = 16
#: A grid's step is the smallest distance of two values, or that divided by at most this.
LARGEST_DIVISOR = 16
#: Relative error of a float32 value after the few operations that made it.
TOLERANCE = 4 * float(np.finfo(np.float32).eps)
#: Range of the int16 grid of values that lie on no other, over their largest magnitude.
HEADROOM = 2.0


class CalibrationDataReader(Protocol):
    """What of onnxruntime.quantization.CalibrationDataReader is used."""

    def get_next(self) -> dict[str, Any] | None:
        """The next samples, {input name: array (N, ...)}, or None after the last."""


def read_samples(reader: CalibrationDataReader, network: FloatNetwork) -> np.ndarray:
    """All samples of a reader, (N, ...), batches one after the other; the reader is used up.

    Raises `UserError` when it has none, gives another input than the network's or several, or
    changes its samples' shape.
    """
    parts: list[np.ndarray] = []
    while (given := reader.get_next()) is not None:
        if list(given) != [network.input]:
            raise UserError(f"the calibration reader gives the inputs {', '.join(given) or 'none'}"
                            f", and the network {network.name!r} has one, {network.input!r}; give "
                            "that one")
        part = np.asarray(given[network.input])
        if part.ndim < 2 or (parts and part.shape[1:] != parts[0].shape[1:]):
            raise UserError(f"the calibration reader's batch {len(parts)} has shape {part.shape}"
                            f"{f' after {parts[0].shape}' if parts else ''}; give (samples, "
                            f"{', '.join(map(str, network.own_input_shape))}) each time")
        parts.append(part)
    if not parts:
        raise UserError("the calibration reader gives no samples; make a new one, since a reader "
                        "can be used only once, and check its data")
    return np.concatenate(parts)


def as_data(values: np.ndarray, source: str = "the calibration array") -> Data:
    """Samples (N, ...) as data of integers whose real value they are.

    Integers are their own real values. Floats get, in this order, the first that holds them all:

    - uint8 or int8 on one grid through 0, or uint8 on one grid elsewhere;
    - uint8 on a grid per channel (axis 1), as of normalized images;
    - int16 on one grid through 0;
    - otherwise the int16 grid of twice their largest magnitude, to which they are rounded.

    A grid holds values that differ from it by no more than float32 explains. Where the values do
    not take all 256 steps of a uint8 grid that 0 is not on, half of the spare ones are below them.
    Raises `UserError` for values that are not finite, and for anything else than numbers.
    """
    if values.dtype.name in DTYPES and values.ndim > 1 and values.size:
        return Data(values, None, np.ones(()), np.zeros(()), source)
    if values.dtype.kind != "f" or values.ndim < 2 or not values.size:
        raise UserError(f"{source} is {values.dtype.name} of shape {values.shape}; give integers "
                        "of at most 32 bits or floats, whose first axis holds the samples")
    if not np.isfinite(values).all():
        raise UserError(f"{source} holds values that are not finite; mend or leave out those "
                        "samples")
    whole = find_grid(values)
    if whole is not None and whole.steps < 256:
        for dtype in ("uint8", "int8"):
            limits = np.iinfo(dtype)
            if whole.through_zero and limits.min <= whole.first <= limits.max - whole.steps:
                return _on_grids(values, [whole], [whole.first], dtype, source)
        return _on_grids(values, [whole], [whole.spare], "uint8", source)
    grids = [grid for channel in range(values.shape[1])
             if (grid := find_grid(values[:, channel])) is not None and grid.steps < 256]
    if len(grids) == values.shape[1]:
        return _on_grids(values, grids, [grid.spare for grid in grids], "uint8", source)
    limit = int(np.iinfo(np.int16).max)
    if whole is None or not whole.through_zero or not (
            -limit <= whole.first <= limit - whole.steps):
        step = float(np.abs(values).max()) * HEADROOM / limit or 1.0
        whole = Grid(step, -limit, 2 * limit)
    return _on_grids(values, [whole], [whole.first], "int16", source)


@dataclass(frozen=True)
class Grid:
    """The values ``(first + k) * step`` for k = 0 .. ``steps``."""

    step: float
    first: float
    steps: int

    @property
    def through_zero(self) -> bool:
        """Whether 0 is on the grid, if continued."""
        return float(self.first).is_integer()

    @property
    def spare(self) -> int:
        """Steps that a byte leaves below the values where it leaves as many above."""
        return (255 - self.steps) // 2


def find_grid(values: np.ndarray) -> Grid | None:
    """The coarsest grid of at most 2^16 values that holds all of ``values``; None without one.

    The distances from the smallest value are multiples of the step. It is first taken for the
    smallest distance of neighbours, or a fraction of that, and then fitted to more and more
    distant values: rounding errors become small against the distance.
    """
    tolerance = TOLERANCE * float(np.abs(values).max())
    distinct = np.unique(values.astype(np.float64))
    distance = distinct - distinct[0]
    gaps = np.diff(distinct)
    gaps = gaps[gaps > 2 * tolerance]
    if len(gaps) + 1 < FEWEST_VALUES:
        return None
    for divisor in range(1, LARGEST_DIVISOR + 1):
        step = _fitted_step(distance, float(gaps.min()) / divisor)
        index = np.rint(distance / step)
        if index[-1] >= 1 << 16:
            return None
        if np.abs(distance - index * step).max() <= 2 * tolerance:
            first = distinct[0] / step
            if abs(first - round(first)) * step <= 2 * tolerance:
                first = float(round(first))
            return Grid(step, first, int(index[-1]))
    return None


def _fitted_step(distance: np.ndarray, step: float) -> float:
    """The step fitted by least squares to distances in order, the small ones first."""
    reach = 8.0
    while reach < 1 << 17:
        near = distance[:np.searchsorted(distance, step * reach)]
        index = np.rint(near / step)
        if index.any():
            step = float(near @ index / (index @ index))
        reach *= 4
    return step


def _on_grids(values: np.ndarray, grids: list[Grid], bases: list[float], dtype: str, source: str
              ) -> Data:
    """The values as integers that are the base where a grid begins; a grid for all or per channel.
    """
    column = (-1,) + (1,) * (values.ndim - 2)
    step, first = (np.array([getattr(grid, name) for grid in grids], np.float64)
                   for name in ("step", "first"))
    base = np.array(bases, np.float64)
    x = np.rint(values / step.reshape(column) - (first - base).reshape(column)).astype(dtype)
    if len(grids) == 1:
        step, first, base = step[0], first[0], base[0]
    return Data(x, None, np.asarray(step), np.asarray(base - first), source)
