"""The operator cases that the ONNX project publishes, run by this project's integer operators."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx

from ref import Requantization, Window, ops
from ref.linear import dequantize_linear, quantize_linear

#: Beginnings of the names of types that hold no integers.
REFUSED_TYPES = ("FLOAT8", "FLOAT4")


def refusal(node: onnx.NodeProto, types: list[str]) -> str | None:
    """Why a case is not one of integers as this project has them; None when it is."""
    if any(kind.startswith(REFUSED_TYPES) for kind in types):
        return "floating-point numbers of 4 or 8 bits are not integers"
    if any(attribute.name == "block_size" and attribute.i for attribute in node.attribute):
        return "scales per block: a tensor has one scale, or one per channel"
    return None


def run_node(node: onnx.NodeProto, inputs: dict[str, np.ndarray], limits: tuple[int, int]
             ) -> np.ndarray:
    """The node's result by this project's operators; ``limits`` are its type's bounds."""
    attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
    operands = [inputs[name] for name in node.input]
    return OPERATORS[node.op_type](operands, attributes, limits)


def _conv_integer(operands: list[np.ndarray], attributes: dict[str, Any], _: tuple[int, int]
                  ) -> np.ndarray:
    """ConvInteger: the evaluator's sums, the input's zero point taken out by the weights' sum."""
    x, w, x_zero, w_zero = [*operands, *[np.zeros(1, np.int64)] * (4 - len(operands))]
    return _sums(x, w, x_zero, w_zero, attributes)


def _qlinear_conv(operands: list[np.ndarray], attributes: dict[str, Any],
                  limits: tuple[int, int]) -> np.ndarray:
    """QLinearConv: the sums, then the evaluator's requantization."""
    x, x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero = operands
    sums = _sums(x, w, x_zero, w_zero, attributes)
    return _requantized(sums, x_scale * w_scale / y_scale, y_zero, limits)


def _matmul_integer(operands: list[np.ndarray], _: dict[str, Any], __: tuple[int, int]
                    ) -> np.ndarray:
    """MatMulInteger: a fully connected layer whose samples are the rows."""
    return _products(*operands)


def _qlinear_matmul(operands: list[np.ndarray], _: dict[str, Any], limits: tuple[int, int]
                    ) -> np.ndarray:
    """QLinearMatMul: the same with the evaluator's requantization."""
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = operands
    sums = _products(a, b, a_zero, b_zero)
    scale = np.asarray(a_scale * b_scale / y_scale, np.float64)
    flat = _requantized(sums.reshape(-1, 1), scale, y_zero, limits)
    return flat.reshape(sums.shape)


def _sums(x: np.ndarray, w: np.ndarray, x_zero: np.ndarray, w_zero: np.ndarray,
          attributes: dict[str, Any]) -> np.ndarray:
    """Sums of products of what is left when the zero points are subtracted."""
    weight = w.astype(np.int64) - w_zero.astype(np.int64).reshape(-1, 1, 1, 1)
    zero = int(x_zero.reshape(-1)[0])
    window = Window(tuple(w.shape[2:]), tuple(attributes.get("strides", (1, 1))),
                    tuple(attributes.get("pads", (0, 0, 0, 0))))
    sums = ops.conv2d(x.astype(np.int64), weight, window, np.full(x.shape[1], zero),
                      attributes.get("group", 1))
    return sums - zero * weight.sum(axis=(1, 2, 3)).reshape(1, -1, 1, 1)


def _products(a: np.ndarray, b: np.ndarray, a_zero: np.ndarray, b_zero: np.ndarray) -> np.ndarray:
    """Matrix products over the last two axes, one pair of matrices at a time."""
    pairs = zip(a.reshape(-1, *a.shape[-2:]), b.reshape(-1, *b.shape[-2:]), strict=True)
    sums = [_sums(rows[:, :, None, None], columns.T[:, :, None, None], a_zero, b_zero, {})
            for rows, columns in pairs]
    return np.stack(sums).reshape(*a.shape[:-1], b.shape[-1])


def _requantized(sums: np.ndarray, ratio: np.ndarray, zero: np.ndarray, limits: tuple[int, int]
                 ) -> np.ndarray:
    """`ref.ops.requantize` with the dyadic number of 15 bits next to a real ratio."""
    value = float(np.asarray(ratio).reshape(()))
    shift = 14 - math.frexp(value)[1] + 1
    offset = int(zero.reshape(()))
    channels = np.ones(sums.shape[1], np.int64)
    rule = Requantization(0 * channels, channels * round(math.ldexp(value, shift)), shift,
                          channels * (limits[0] - offset), channels * (limits[1] - offset))
    return ops.requantize(sums, rule) + offset


def _quantize(operands: list[np.ndarray], attributes: dict[str, Any], limits: tuple[int, int]
              ) -> np.ndarray:
    """QuantizeLinear."""
    x, scale, zero = operands
    return quantize_linear(x, scale, zero, *limits, attributes.get("axis", 1))


def _dequantize(operands: list[np.ndarray], attributes: dict[str, Any], _: tuple[int, int]
                ) -> np.ndarray:
    """DequantizeLinear."""
    x, scale, zero = operands
    return dequantize_linear(x.astype(np.int64), scale, zero.astype(np.int64),
                             attributes.get("axis", 1))


#: How this project computes each operator.
OPERATORS: dict[str, Callable[[list[np.ndarray], dict[str, Any], tuple[int, int]], np.ndarray]] = {
    "ConvInteger": _conv_integer, "MatMulInteger": _matmul_integer,
    "QLinearConv": _qlinear_conv, "QLinearMatMul": _qlinear_matmul,
    "QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
