"""Constants of an already quantized ONNX file: their integers, kept beside their real values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper

from ref.errors import UserError

#: Smallest and largest integer of the types a quantized file may round to.
LIMITS = {"int8": (-128, 127), "uint8": (0, 255), "int4": (-8, 7), "uint4": (0, 15)}


@dataclass(frozen=True, eq=False)
class StoredConstant:
    """A constant behind a DequantizeLinear: integers without their zero point, and their scales.

    Both are float64 of the constant's shape; the real value is their product.
    """

    integers: np.ndarray
    scale: np.ndarray

    @property
    def real(self) -> np.ndarray:
        """The real values."""
        return self.integers * self.scale

    def map(self, rearrange: Callable[[np.ndarray], np.ndarray]) -> StoredConstant:
        """The constant after an operator that only moves its elements."""
        return StoredConstant(rearrange(self.integers), rearrange(self.scale))


@dataclass(frozen=True, eq=False)
class Grid:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear node, and its integers' type.

    ``scale`` is () or has the rank of the value, 1 along all axes but one; the zero point is one.
    """

    scale: np.ndarray
    zero: int
    dtype: str

    def same(self, other: Grid) -> bool:
        """Whether it gives the same values to the same integers."""
        return self.zero == other.zero and np.array_equal(self.scale, other.scale)


def grid_of(node: NodeProto, constants: dict[str, np.ndarray], dimensions: int, name: str) -> Grid:
    """The grid of a quantizing node ``name``, which acts on a value of so many ``dimensions``.

    Raises `UserError` for scales from data, one per block, not above 0, or unlike zero points.
    """
    values = {attribute.name: helper.get_attribute_value(attribute)
              for attribute in node.attribute}
    given = [constants.get(part) for part in node.input[1:3] if part]
    if not given or any(part is None for part in given):
        raise UserError(f"{name} takes its scale or zero point from data; quantize the network "
                        "statically")
    scale = np.asarray(given[0], np.float64)
    zeros = np.asarray(given[1]) if len(given) > 1 else np.zeros((), np.uint8)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise UserError(f"{name} has a scale that is not a number above 0; quantize the network "
                        "again")
    points = np.unique(zeros.astype(np.int64))
    if scale.ndim > 1 or values.get("block_size", 0) or len(points) != 1:
        raise UserError(f"{name} has scales per block or unlike zero points; quantize the network "
                        "with one scale per tensor or per channel and one zero point")
    if scale.size == 1:
        scale = scale.reshape(())
    else:
        axis = values.get("axis", 1) % dimensions
        scale = scale.reshape([-1 if index == axis else 1 for index in range(dimensions)])
    return Grid(scale, int(points[0]), zeros.dtype.name)


def fold_quantizer(node: NodeProto, constants: dict[str, np.ndarray],
                   stored: dict[str, StoredConstant], name: str) -> None:
    """Compute a quantizing node ``name`` of a constant, in float64.

    The result of DequantizeLinear is put into ``stored`` too.
    """
    value = np.asarray(constants[node.input[0]])
    grid = grid_of(node, constants, value.ndim, name)
    if node.op_type == "QuantizeLinear":
        if grid.dtype not in LIMITS:
            raise UserError(f"{name} rounds a constant to {grid.dtype}; only "
                            f"{', '.join(LIMITS)} are supported")
        constants[node.output[0]] = np.clip(np.rint(value / grid.scale) + grid.zero,
                                            *LIMITS[grid.dtype])
        return
    integers = value.astype(np.float64) - grid.zero
    made = StoredConstant(integers, np.broadcast_to(grid.scale, integers.shape))
    stored[node.output[0]] = made
    constants[node.output[0]] = made.real
