"""onnxruntime's QLinearConv as an oracle of single convolutions.

QLinearConv multiplies the sum by a float32 scale and rounds half to even; with ``x_scale = y_scale
= 1`` and ``w_scale = multiplier * 2^-shift``, exact in float32, it computes the requantization of
this project but for the rounding of one float32 product. A result of less than 2^8 steps is wrong
by less than `TOLERANCE` of a step through it: a difference is legal only where the exact quotient
lies that close to one half.
"""

from __future__ import annotations

import numpy as np

from .model import Conv2d, Model, Tensor
from .onnx_integer import IR_VERSION, OPSET
from .ops import conv2d
from .oracles import Runner, integer_runner

#: How far from one half a quotient's fraction may lie where QLinearConv differs.
TOLERANCE = 2.0 ** -16


def layer_refusal(layer: Conv2d, source: Tensor, result: Tensor) -> str | None:
    """Why QLinearConv cannot express a convolution; None when it can."""
    if layer.weight.dtype != np.int8:
        return "weights wider than 8 bits"
    if result.bits > 8 or source.bits > 8:
        return "a map wider than 8 bits"
    if layer.requantization.multiplier_negative is not None:
        return "leaky ReLU"
    if layer.requantization.code is not None:
        return "results rounded to AUSN levels"
    if any(layer.window.pads) and len(set(layer.pad_value.tolist())) > 1:
        return "padding of different values per channel"
    return None


class QLinearConv:
    """One convolution of a model in onnxruntime."""

    def __init__(self, model: Model, layer: Conv2d) -> None:
        """Build and load the graph of ``layer``, one for which `layer_refusal` is None."""
        from onnx import TensorProto, helper, numpy_helper

        self.layer = layer
        self.source, self.result = model.tensors[layer.inputs[0]], model.tensors[layer.output]
        # Maps travel as unsigned bytes, signed ones raised by 128: those products never saturate.
        self.raised, self.offset = (128 * int(tensor.signed)
                                    for tensor in (self.source, self.result))
        rule = layer.requantization
        pad = int(layer.pad_value[0]) if any(layer.window.pads) else 0
        bias = rule.bias + pad * layer.weight.astype(np.int64).sum(axis=(1, 2, 3))
        constants = {
            "one": np.float32(1), "x_zero": np.uint8(pad + self.raised), "w": layer.weight,
            "w_scale": np.ldexp(rule.multiplier.astype(np.float64), -rule.shift).astype(np.float32),
            "w_zero": np.zeros(len(layer.weight), np.int8), "y_zero": np.uint8(self.offset),
            "bias": bias.astype(np.int32)}
        node = helper.make_node(
            "QLinearConv", ["x", "one", "x_zero", "w", "w_scale", "w_zero", "one", "y_zero",
                            "bias"], ["y"],
            group=layer.groups, strides=layer.window.stride, pads=layer.window.pads)
        graph = helper.make_graph(
            [node], layer.name,
            [helper.make_tensor_value_info("x", TensorProto.UINT8, ["N", *self.source.shape])],
            [helper.make_tensor_value_info("y", TensorProto.UINT8, ["N", *self.result.shape])],
            [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()])
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)],
                                  ir_version=IR_VERSION)
        self.run: Runner = integer_runner(proto)

    def results(self, x: np.ndarray, expected: np.ndarray) -> np.ndarray:
        """The layer's results for its integer inputs ``x`` (N, C, H, W), clip bounds applied.

        Where QLinearConv differs legally from ``expected``, ours, it is ours that is returned.
        """
        rule = self.layer.requantization
        column = (-1, 1, 1)
        given = np.clip(self.rounded(x), rule.lo.reshape(column), rule.hi.reshape(column))
        if (given != expected).any():
            sums = conv2d(x, self.layer.weight, self.layer.window, self.layer.pad_value,
                          self.layer.groups) + rule.bias.reshape(column)
            fraction = (sums * rule.multiplier.reshape(column) & ((1 << rule.shift) - 1))
            near = np.abs(np.ldexp(fraction.astype(np.float64), -rule.shift) - 0.5) <= TOLERANCE
            given = np.where(near & (np.abs(given - expected) == 1), expected, given)
        return given

    def rounded(self, x: np.ndarray) -> np.ndarray:
        """QLinearConv's own results, saturated at 8 bits, int64."""
        return self.run((x + self.raised).astype(np.uint8))["y"].astype(np.int64) - self.offset
