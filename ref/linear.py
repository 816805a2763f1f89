"""The affine map between real numbers and stored integers, as ONNX defines it."""

from __future__ import annotations

import numpy as np


def quantize_linear(real: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, lo: int, hi: int,
                    axis: int = 1) -> np.ndarray:
    """``clip(rint(real / scale) + zero_point, lo, hi)``, int64: ONNX QuantizeLinear.

    ``scale`` and ``zero_point`` are one number or one per entry of ``axis``; the quotient has the
    dtype of ``real`` and ``scale`` and is rounded half to even.
    """
    scale, zero_point = (_along(values, real.ndim, axis) for values in (scale, zero_point))
    return np.clip(np.rint(real / scale).astype(np.float64) + zero_point, lo, hi).astype(np.int64)


def dequantize_linear(integers: np.ndarray, scale: np.ndarray, zero_point: np.ndarray,
                      axis: int = 1) -> np.ndarray:
    """``(integers - zero_point) * scale`` in the dtype of ``scale``: ONNX DequantizeLinear."""
    scale, zero_point = (_along(values, integers.ndim, axis) for values in (scale, zero_point))
    return (integers.astype(scale.dtype) - zero_point.astype(scale.dtype)) * scale


def _along(values: np.ndarray, dimensions: int, axis: int) -> np.ndarray:
    """One number, or one per entry of an axis, shaped to meet an array of that many dimensions."""
    if values.size == 1:
        return values.reshape(())
    return values.reshape([-1 if index == axis else 1 for index in range(dimensions)])
