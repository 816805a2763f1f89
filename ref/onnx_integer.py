"""The pure-integer ONNX graph of a model: the same integers from evaluators nobody here wrote.

Only integer operators occur. A requantization is Add, Mul, Add, Div, Sub, Max, Min on int64: ONNX
division truncates, so ``K * 2^s`` keeps the dividend positive and ``K`` is subtracted afterwards.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from .ausn import AusnCode
from .model import (
    BLOCK,
    GUARD_BITS,
    Add,
    AveragePool2d,
    Concat,
    Conv2d,
    Layer,
    MaxPool2d,
    Model,
    SpaceToDepth,
    Tensor,
    Window,
)
from .onnx_graph import Graph, onnx_type

if TYPE_CHECKING:
    import onnx

#: Newest operator set and file format that onnxruntime 1.20 and later read.
OPSET, IR_VERSION = 21, 10

#: Weights are stored as ``w + 128`` with this zero point: on x86 processors without VNNI,
#: onnxruntime's products of unsigned and signed bytes saturate, those of unsigned bytes do not.
WEIGHT_ZERO_POINT = 128
#: Weights beyond 8 bits are two planes of 8-bit ones, the higher times this number.
PLANE = 128

_SPATIAL = (2, 3)


def integer_onnx(model: Model) -> onnx.ModelProto:
    """The model as an ONNX graph of integer operators.

    Its input has the name of the model's input tensor, the data file's integer type and shape, with
    any number of samples (`Input.shape`). Its output has the name of the last tensor, the type
    int8, uint8 or, for more than 8 bits, int16, and the shape (N, O, rows, columns), or (N, O) for
    a 1x1 map. Every feature map appears under its tensor's name; the integer input under
    `rounded_input`. Multiplied by ``metadata_props["output_scale"]`` (JSON: a number, or a list
    with one per channel) the output is real.
    """
    from onnx import checker, helper

    graph = _Graph()
    source, result = model.input_tensor, model.output_tensor
    _add_input(graph, model)
    for layer in model.layers:
        names = [rounded_input(model) if name == source.name else name for name in layer.inputs]
        last = layer is model.layers[-1] and result.shape[1:] == (1, 1)
        output = f"{layer.output}/map" if last else layer.output
        _add_layer(graph, model, layer, names, output)
        if last:
            graph.node("Reshape", [output, graph.constant(f"{output}/shape", [0, result.shape[0]])],
                       result.name)
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes, model.name or "network",
            [helper.make_tensor_value_info(source.name, onnx_type(model.input.dtype),
                                           ["N", *model.input.shape])],
            [helper.make_tensor_value_info(result.name, onnx_type(_storage(result)),
                                           _graph_shape(result))],
            graph.initializers),
        producer_name="shiftwise", ir_version=IR_VERSION,
        opset_imports=[helper.make_opsetid("", OPSET)])
    helper.set_model_props(proto, {"output_scale": json.dumps(result.scale.tolist())})
    checker.check_model(proto, full_check=True)
    return proto


def rounded_input(model: Model) -> str:
    """Name of the integer input (N, C, H, W) after its rounding in the graph of `integer_onnx`."""
    return f"{model.input.tensor}/rounded"


class _Graph(Graph):
    """A graph of integers."""

    def product(self, value: str, output: str, multiplier: np.ndarray) -> str:
        """An int64 ``value`` times a constant that is broadcast against it."""
        return self.node("Mul", [value, self.constant(f"{output}/multiplier", multiplier)],
                         f"{output}/product")

    def rounded(self, value: str, output: str, shift: int, lo: np.ndarray, hi: np.ndarray,
                smallest: int, dtype: str, code: AusnCode | None = None) -> str:
        """``clip((value + 2^(shift-1)) >> shift, lo, hi)`` of an int64 ``value`` as ``dtype``.

        ``smallest`` is a lower bound of ``value``; the constants are broadcast against it. With a
        ``code`` it is ``code.bytes[clip(value >> (shift-1), 2 lo, 2 hi)]``.
        """
        rounding = 1 << shift >> 1
        if code is not None:
            shift, rounding, lo, hi = shift - 1, 0, 2 * lo, 2 * hi
        if shift:
            lift = max(0, -smallest >> shift) + 1    # K
            half = rounding + (lift << shift)
            value = self.node("Add", [value, self.constant(f"{output}/half", half)],
                              f"{output}/lifted")
            value = self.node("Div", [value, self.constant(f"{output}/divisor", 1 << shift)],
                              f"{output}/quotient")
            value = self.node("Sub", [value, self.constant(f"{output}/lift", lift)],
                              f"{output}/rounded")
        value = self.node("Max", [value, self.constant(f"{output}/lo", lo)], f"{output}/raised")
        value = self.node("Min", [value, self.constant(f"{output}/hi", hi)], f"{output}/clipped")
        if code is not None:
            table = self.constant(f"{output}/levels", code.bytes, dtype)
            return self.node("Gather", [table, value], output)
        return self.cast(value, output, dtype)


def _add_input(graph: _Graph, model: Model) -> None:
    """From the data file's integers to the network's integer input."""
    tensor, rule = model.input_tensor, model.input
    value, output, planes = tensor.name, rounded_input(model), 1 << rule.low_bits
    if rule.shape != model.sample_shape:
        value = graph.node("Reshape", [value, graph.constant(f"{output}/shape",
                                                             [0, *model.sample_shape])],
                           f"{output}/map")
    limits = np.iinfo(rule.dtype)
    if (rule.multiplier, rule.shift, rule.low_bits) == (1, 0, 0) and (
            tensor.lo <= limits.min and limits.max <= tensor.hi):
        graph.node("Identity", [value], output)
        return
    value = graph.cast(value, f"{output}/wide", "int64")
    value = graph.product(value, output, np.array(rule.multiplier))
    lo, hi = np.array(tensor.lo * planes), np.array(tensor.hi * planes + planes - 1)
    smallest = int(limits.min) * rule.multiplier
    if rule.low_bits:
        value = graph.rounded(value, f"{output}/whole", rule.shift, lo, hi, smallest, "int64")
        _add_planes(graph, model, value, output)
    else:
        graph.rounded(value, output, rule.shift, lo, hi, smallest, _storage(tensor))


def _add_planes(graph: _Graph, model: Model, value: str, output: str) -> None:
    """The high and the low plane of the int64 ``value``, channel by channel."""
    tensor, planes = model.input_tensor, 1 << model.input.low_bits
    lift = -tensor.lo                                # keeps the dividend positive
    raised = graph.node("Add", [value, graph.constant(f"{output}/lift", lift * planes)],
                        f"{output}/raised")
    divisor = graph.constant(f"{output}/planes", planes)
    low = graph.node("Mod", [raised, divisor], f"{output}/low")
    high = graph.node("Sub", [graph.node("Div", [raised, divisor], f"{output}/quotient"),
                              graph.constant(f"{output}/lowest", lift)], f"{output}/high")
    axis = graph.constant(f"{output}/axis", [2])
    both = graph.node("Concat", [graph.node("Unsqueeze", [part, axis], f"{part}/axis")
                                 for part in (high, low)], f"{output}/both", axis=2)
    shape = graph.constant(f"{output}/interleaved", [0, *tensor.shape])
    graph.cast(graph.node("Reshape", [both, shape], f"{output}/joined"), output, _storage(tensor))


def _add_layer(graph: _Graph, model: Model, layer: Layer, values: list[str], output: str) -> None:
    """One layer reading ``values`` and making ``output``."""
    source, result, value = model.tensors[layer.inputs[0]], model.tensors[layer.output], values[0]
    channels = source.shape[0]
    match layer:
        case Conv2d():
            value, window = _add_frame(graph, layer, source, value, output)
            value = _add_products(graph, layer, window, value, output)
        case AveragePool2d():
            ones = np.ones((channels, 1, *layer.window.kernel))
            value = _add_convolution(graph, value, output, ones, 0, layer.window, channels)
            value = graph.cast(value, f"{output}/wide", "int64")
        case MaxPool2d():
            _add_max_pool(graph, layer, source, result, value, output)
            return
        case Add():
            _add_sum(graph, layer, model, values, output)
            return
        case Concat():
            graph.node("Concat", values, output, axis=1)
            return
        case SpaceToDepth():
            _add_space_to_depth(graph, source, result, value, output)
            return
        case _:
            raise TypeError(f"layer {layer.name!r} is of unknown kind {type(layer).__name__}")
    _add_requantization(graph, layer, result, value, output)


def _add_requantization(graph: _Graph, layer: Conv2d | AveragePool2d, result: Tensor, value: str,
                        output: str) -> None:
    """Bias, multiplication, rounding and clip of the int64 sums ``value``.

    A leaky ReLU is the sum of its branches: ``max(v, 0) * m + min(v, 0) * m_negative``.
    """
    rule = layer.requantization
    bias, multiplier, lo, hi = (constant.reshape(-1, 1, 1) for constant in
                                (rule.bias, rule.multiplier, rule.lo, rule.hi))
    value = graph.node("Add", [value, graph.constant(f"{output}/bias", bias)],
                       f"{output}/accumulator")
    largest = multiplier.max()
    if rule.multiplier_negative is None:
        value = graph.product(value, output, multiplier)
    else:
        negative, zero = f"{output}/negative", graph.constant(f"{output}/zero", 0)
        largest = rule.multiplier_negative.max()
        branches = [
            graph.product(graph.node("Max", [value, zero], f"{output}/above"), output, multiplier),
            graph.product(graph.node("Min", [value, zero], f"{output}/below"), negative,
                          rule.multiplier_negative.reshape(-1, 1, 1))]
        value = graph.node("Add", branches, f"{output}/branches")
    graph.rounded(value, output, rule.shift, lo, hi, layer.proof.lo * int(largest),
                  _storage(result), rule.code)


def _add_sum(graph: _Graph, layer: Add, model: Model, values: list[str], output: str) -> None:
    """The sum of two maps, each times its multiplier and guard bits."""
    products, smallest = [], 0
    for index, (value, name) in enumerate(zip(values, layer.inputs, strict=True)):
        operand, ratio = f"{output}/operand_{index}", layer.multiplier[index] << GUARD_BITS
        smallest += model.tensors[name].lo * int(ratio.max())
        value = graph.cast(value, f"{operand}/wide", "int64")
        products.append(graph.product(value, operand, ratio.reshape(-1, 1, 1)))
    value = graph.node("Add", products, f"{output}/sum")
    graph.rounded(value, output, layer.shift, layer.lo.reshape(-1, 1, 1),
                  layer.hi.reshape(-1, 1, 1), smallest, _storage(model.tensors[layer.output]),
                  layer.code)


def _add_space_to_depth(graph: _Graph, source: Tensor, result: Tensor, value: str, output: str
                        ) -> None:
    """Reshape, Transpose, Reshape: onnxruntime has no SpaceToDepth for integers."""
    channels, rows, columns = source.shape[0], *result.shape[1:]
    value = graph.node("Reshape", [value, graph.constant(
        f"{output}/squares", [0, channels, rows, BLOCK, columns, BLOCK])], f"{output}/split")
    value = graph.node("Transpose", [value], f"{output}/moved", perm=[0, 3, 5, 1, 2, 4])
    graph.node("Reshape", [value, graph.constant(f"{output}/size", [0, *result.shape])], output)


def _add_products(graph: _Graph, layer: Conv2d, window: Window, value: str, output: str) -> str:
    """The int64 sums of products of a convolution; weights beyond 8 bits as `PLANE` says."""
    weight = layer.weight.astype(np.int64)
    if layer.weight.dtype == np.int8:
        return graph.cast(_add_convolution(graph, value, output, weight + WEIGHT_ZERO_POINT,
                                           WEIGHT_ZERO_POINT, window, layer.groups),
                          f"{output}/wide", "int64")
    high, low = np.divmod(weight, PLANE)
    planes = [graph.cast(_add_convolution(graph, value, f"{output}/{name}",
                                          plane + WEIGHT_ZERO_POINT, WEIGHT_ZERO_POINT, window,
                                          layer.groups),
                         f"{output}/{name}/wide", "int64")
              for name, plane in (("high", high), ("low", low))]
    planes[0] = graph.product(planes[0], f"{output}/high", np.array(PLANE))
    return graph.node("Add", planes, f"{output}/joined")


def _add_convolution(graph: _Graph, value: str, output: str, weight: np.ndarray, zero_point: int,
                     window: Window, groups: int) -> str:
    """ConvInteger with 8-bit unsigned weights; what it pads with is 0."""
    return graph.node(
        "ConvInteger",
        [value, graph.constant(f"{output}/weight", weight, "uint8"), "",
         graph.constant(f"{output}/zero_point", zero_point, "uint8")],
        f"{output}/sum", group=groups, kernel_shape=list(window.kernel),
        strides=list(window.stride), pads=list(window.pads))


def _add_frame(graph: _Graph, layer: Conv2d, source: Tensor, value: str, output: str
               ) -> tuple[str, Window]:
    """Write padding that is not 0 around the map; gives the map and the window left to apply.

    A map padded with zeros plus a constant that is 0 inside the frame is exact for any values.
    """
    window = layer.window
    if not any(window.pads) or not layer.pad_value.any():
        return value, window
    top, left, bottom, right = window.pads
    frame = np.zeros(source.shape, np.int64)
    frame = np.pad(frame + 1, ((0, 0), (top, bottom), (left, right))) ^ 1
    pads = graph.constant(f"{output}/pads", [top, left, bottom, right])
    axes = graph.constant(f"{output}/axes", _SPATIAL)
    value = graph.cast(value, f"{output}/signed", "int32")
    value = graph.node("Pad", [value, pads, "", axes], f"{output}/padded")
    value = graph.node("Add", [value, graph.constant(
        f"{output}/frame", frame * layer.pad_value.reshape(-1, 1, 1), "int32")],
        f"{output}/framed_wide")
    value = graph.cast(value, f"{output}/framed", _storage(source))
    return value, Window(window.kernel, window.stride)


def _add_max_pool(graph: _Graph, layer: MaxPool2d, source: Tensor, result: Tensor, value: str,
                  output: str) -> None:
    """Largest value of each window as Max over shifted slices; padding is the smallest value.

    MaxPool itself would do, but onnx.reference cannot run it on signed integers (it pads with NaN).
    """
    window = layer.window
    value = graph.cast(value, f"{output}/wide", "int32")
    axes = graph.constant(f"{output}/axes", _SPATIAL)
    if any(window.pads):
        value = graph.node(
            "Pad", [value, graph.constant(f"{output}/pads", window.pads),
                    graph.constant(f"{output}/lowest", source.lo, "int32"), axes],
            f"{output}/padded")
    steps = graph.constant(f"{output}/steps", window.stride)
    spans = [(size - 1) * stride + 1 for size, stride in zip(result.shape[1:], window.stride,
                                                             strict=True)]
    taps = []
    for y in range(window.kernel[0]):
        for x in range(window.kernel[1]):
            tap = f"{output}/tap_{y}_{x}"
            taps.append(graph.node(
                "Slice", [value, graph.constant(f"{tap}/starts", [y, x]),
                          graph.constant(f"{tap}/ends", [y + spans[0], x + spans[1]]), axes, steps],
                tap))
    graph.cast(graph.node("Max", taps, f"{output}/largest"), output, _storage(result))


def _storage(tensor: Tensor) -> str:
    """The numpy type that holds a tensor's integers."""
    if tensor.bits > 8:
        return "int16"
    return "int8" if tensor.signed else "uint8"


def _graph_shape(tensor: Tensor) -> list[int | str]:
    """Shape of the graph's output: any number of samples; a 1x1 map is a vector."""
    channels, height, width = tensor.shape
    return ["N", channels] if (height, width) == (1, 1) else ["N", channels, height, width]
