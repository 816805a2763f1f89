"""An ONNX network as a graph of few kinds of layers, normalizations fused in float64.

`quant.fusion` takes normalizations and activations into the layer before them, `quant.walk` says
which layer's map each ONNX tensor is.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import NodeProto

from ref.errors import UserError
from ref.model import Window

from .graph import FloatAveragePool, FloatConv, FloatMaxPool, FloatNetwork, FloatWindowed
from .onnx_file import FLOATS, attributes, read_graph, where
from .quantized_maps import QuantizedMaps
from .views import REARRANGING, axes_of, is_ordered, rearranged
from .windows import pad_node_pads, spread_kernel, window_of


def import_onnx(path: str | Path) -> FloatNetwork:
    """Read an ONNX file (operator set 11 or later) into a `FloatNetwork`.

    An already quantized file (QDQ or QOperator) keeps its integers and scales in it.
    Batch normalization and constant additions and multiplications are fused into the convolutions
    in float64; a final softmax is left out, since it does not change the label. Raises
    `UserError` naming the node for everything that cannot be kept exactly; `OSError` for an
    unreadable file.
    """
    graph = read_graph(path)
    walk = _Import(graph)
    for node in graph.nodes:
        walk.take(node)
    return walk.finish()


class _Import(QuantizedMaps):
    """A walk with a handler for every operator."""

    def take(self, node: NodeProto) -> None:
        """Add one node to the network."""
        if node.op_type == "Concat":
            self.concat(node)
        elif node.op_type == "Add" and len(self.data(node)) > 1:
            self.add(node)
        else:
            self._take_one(node, self.data(node)[0])
        self.values[node.output[0]] = self.now

    def _take_one(self, node: NodeProto, name: str) -> None:
        """Add a node that reads one tensor from data."""
        rounded = self.read(name).rounded
        self.check_real(node)
        if node.op_type in KEEPING:
            self._check_kept(node)
        elif node.op_type in REARRANGING:
            if any(self.now.pads):
                self.check_readable(node)
            self.set(view=rearranged(node, self.now.view, self.constants,
                                     self.graph.batch))
        elif node.op_type in ("Softmax", "LogSoftmax"):
            self.check_readable(node)
            self.set(ended=node)
        elif node.op_type == "DequantizeLinear":
            self.dequantize(node)
        elif node.op_type == "QuantizeLinear":
            self.quantize(node)
        else:
            if self.now.ended is not None or node.op_type not in TAKING_PADS:
                self.check_readable(node)
            self.check_whole(node)
            HANDLERS[node.op_type](self, node)
            self.set(rounded=rounded)

    def _check_kept(self, node: NodeProto) -> None:
        """Refuse a Cast to integers and a Dropout that drops."""
        if node.op_type == "Cast" and attributes(node)["to"] not in FLOATS:
            raise UserError(f"{where(node)} turns data into integers; export the float network")
        training = node.input[2] if node.op_type == "Dropout" and len(node.input) > 2 else ""
        if training and bool(self.constant(node, 2)):
            raise UserError(f"{where(node)} is in training mode; export the network for inference")

    def finish(self) -> FloatNetwork:
        """The network, once every node is taken."""
        if not self.layers:
            raise UserError(f"the network {self.graph.name!r} has no layers; give one with at "
                            "least one convolution or fully connected layer")
        self.read(self.graph.output)
        if any(self.now.pads) or not self.now.whole or not is_ordered(self.now.view):
            raise UserError(f"the output {self.graph.output!r} is padded, cut or transposed after "
                            "its last layer; cut the network before that")
        return FloatNetwork(self.graph.name, self.graph.input, self.input_shape,
                            self.graph.input_shape, self.gain, self.offset, tuple(self.layers),
                            self.stored_maps())

    # -- layers ---------------------------------------------------------------------------------
    def convolution(self, node: NodeProto) -> None:
        """Conv."""
        weight = self.constant(node, 1)
        if weight.ndim != 4:
            raise UserError(f"{where(node)} is a {weight.ndim - 2}-dimensional convolution; only "
                            "two-dimensional ones are supported, insert an axis of size 1")
        (shape, order), values = self.map_shape(node), attributes(node)
        groups, kernel = values.get("group", 1), list(weight.shape[2:])
        if not weight.size or list(values.get("kernel_shape", kernel)) != kernel:
            raise UserError(f"{where(node)} has weights of shape {weight.shape} for a kernel of "
                            f"{values.get('kernel_shape', kernel)}; export it again")
        if shape[0] != weight.shape[1] * groups or len(weight) % groups:
            raise UserError(f"{where(node)} has weights of shape {weight.shape} and {groups} "
                            f"groups for {shape[0]} input channels; export it again")
        weight = spread_kernel(node, weight, values.get("dilations", [1, 1]))
        step = self.weight_step(node, 1, 0)
        bias = self.constant(node, 2, np.zeros(len(weight)))
        if bias.shape != (len(weight),):
            raise UserError(f"{where(node)} has a bias of shape {bias.shape} for {len(weight)} "
                            "output channels; export it again")
        window = window_of(node, values, weight.shape[2:], shape[1:], self.now.pads)
        kept = None
        if not is_ordered(order):           # the channels of the map are in another order
            place = np.argsort(order)
            if groups == 1:
                weight = weight[:, place]
            elif groups == len(weight) == shape[0]:
                weight, bias, kept = weight[place], bias[place], order
                step = None if step is None else step[place]
            else:
                raise UserError(f"{where(node)} reads groups of channels that were moved; only "
                                "dense and depthwise convolutions can follow such a move")
        self.append_windowed(FloatConv(node.name or node.output[0], (self.now.tensor,),
                                       node.output[0], window, weight, bias, groups, None,
                                       step),
                             len(weight), kept)

    def gemm(self, node: NodeProto) -> None:
        """Gemm: the convolution whose kernel is the whole map."""
        values = attributes(node)
        if values.get("transA", 0):
            raise UserError(f"{where(node)} transposes its data (transA); export it without")
        weight = self.constant(node, 1) * values.get("alpha", 1.0)
        transposed = bool(values.get("transB", 0))
        weight = weight if transposed else weight.T
        bias = self.constant(node, 2, np.zeros(1)) * values.get("beta", 1.0)
        step = self.weight_step(node, 1, 0 if transposed else 1)
        self._fully_connected(node, weight, np.broadcast_to(bias.ravel(), len(weight)),
                              None if step is None else step * abs(values.get("alpha", 1.0)))

    def matmul(self, node: NodeProto) -> None:
        """MatMul with a constant on the right; a bias follows as an Add."""
        weight = self.constant(node, 1)
        if weight.ndim != 2:
            raise UserError(f"{where(node)} multiplies by a constant of {weight.ndim} axes; only "
                            "matrices (features, outputs) are supported")
        self._fully_connected(node, weight.T, np.zeros(weight.shape[1]),
                              self.weight_step(node, 1, 1))

    def _fully_connected(self, node: NodeProto, matrix: np.ndarray, bias: np.ndarray,
                         step: np.ndarray | None) -> None:
        """Append the layer with ``matrix`` (O, features) of the current view's order."""
        view = self.now.view
        if view.ndim != 2:
            raise UserError(f"{where(node)} reads {view.ndim} axes; flatten them to (batch, "
                            "features) first")
        if matrix.shape[1] != view.size:
            raise UserError(f"{where(node)} has weights for {matrix.shape[1]} features, and its "
                            f"data has {view.size}; export it again")
        if self.at_input():
            self.reshape_input((view.size, 1, 1))
        weight = np.empty_like(matrix)
        weight[:, view[0]] = matrix
        self.append_windowed(
            FloatConv(node.name or node.output[0], (self.now.tensor,), node.output[0],
                      self.window_of_map(), weight.reshape(len(matrix), *self.now.shape),
                      bias.copy(), 1, None, step), len(matrix))
        self.set(view=self.now.view.reshape(1, -1))

    def pool(self, node: NodeProto) -> None:
        """AveragePool and MaxPool."""
        (shape, order), values = self.map_shape(node), attributes(node)
        kernel = tuple(values["kernel_shape"])
        if len(kernel) != 2 or len([name for name in node.output if name]) > 1:
            raise UserError(f"{where(node)} is not a plain two-dimensional pool; only those are "
                            "supported")
        average = node.op_type == "AveragePool"
        if any(step != 1 for step in values.get("dilations", [1, 1])):
            raise UserError(f"{where(node)} has dilations {values['dilations']}; only dilation 1 "
                            "is supported in pools")
        if any(self.now.pads) and not average and not self.non_negative(self.now.tensor):
            raise UserError(f"{where(node)} takes the maximum of a Pad's zeros and signed values; "
                            "put the padding into the pool or a ReLU before it")
        window = window_of(node, values, kernel, shape[1:], self.now.pads)
        if average and any(np.subtract(window.pads, self.now.pads)) \
                and not values.get("count_include_pad", 0):
            raise UserError(f"{where(node)} has padding that its mean leaves out "
                            "(count_include_pad=0); set count_include_pad=1 or pool without "
                            "padding")
        self._pool(node, FloatAveragePool if average else FloatMaxPool, window, order)

    def global_pool(self, node: NodeProto) -> None:
        """GlobalAveragePool and GlobalMaxPool."""
        kind = FloatAveragePool if node.op_type == "GlobalAveragePool" else FloatMaxPool
        shape, order = self.map_shape(node)
        self._pool(node, kind, Window(shape[1:]), order)

    def reduce(self, node: NodeProto) -> None:
        """ReduceMean and ReduceMax over rows, columns or both, in whatever layout they are."""
        values, view, given = attributes(node), self.now.view, axes_of(node, self.constants)
        kind = FloatAveragePool if node.op_type == "ReduceMean" else FloatMaxPool
        axes = [axis % view.ndim for axis in (range(view.ndim) if given is None else given)]
        kept = [axis for axis in range(view.ndim) if axis not in axes]
        channels, height, width = self.now.shape
        joined = view.transpose(kept + axes).reshape(*[view.shape[axis] for axis in kept], -1)
        channel, row, column = np.unravel_index(joined, self.now.shape)
        for kernel in ((height, width), (1, width), (height, 1)):
            shape = (channels, height // kernel[0], width // kernel[1])
            place = np.ravel_multi_index((channel, row // kernel[0], column // kernel[1]), shape)
            if 0 not in axes and joined.shape[-1] == math.prod(kernel) \
                    and (place == place[..., :1]).all():
                break
        else:
            raise UserError(f"{where(node)} reduces axes {axes}; only rows and columns can be "
                            "reduced")
        result = place[..., 0]
        if values.get("keepdims", 1):
            result = np.expand_dims(result, tuple(axes))
        index = self.open_layer()
        last = None if index is None else self.layers[index]
        if index is not None and isinstance(last, kind) and (
                last.window == Window(last.window.kernel)
                and all(1 in sizes for sizes in zip(kernel, last.window.kernel, strict=True))):
            both = (kernel[0] * last.window.kernel[0], kernel[1] * last.window.kernel[1])
            self.change_layer(index, replace(last, output=node.output[0], window=Window(both)))
            self.set(shape=shape)
        else:
            self._pool(node, kind, Window(kernel), None)
        self.set(view=result)

    def _pool(self, node: NodeProto, kind: type[FloatWindowed], window: Window,
              order: np.ndarray | None) -> None:
        """Append a pool, unless its window is a single value."""
        if window != Window((1, 1)):
            self.append_windowed(kind(node.name or node.output[0], (self.now.tensor,),
                                      node.output[0], window), self.now.shape[0], order)

    def pad(self, node: NodeProto) -> None:
        """Pad with zeros: waits for the convolution or pool that takes it."""
        self.map_shape(node)
        values = attributes(node)
        filling = float(self.constant(node, 2, np.zeros(())))
        filling -= 0 if self.now.rounded is None else self.now.rounded.zero
        if values.get("mode", "constant") != "constant" or filling != 0:
            raise UserError(f"{where(node)} pads with something other than zero; only zero padding "
                            "is supported")
        extra = pad_node_pads(node, [int(size) for size in self.constant(node, 1)])
        self.set(pads=tuple(int(size) for size in np.add(self.now.pads, extra)))


#: Operators that pass their input on in a trained network.
KEEPING = ("Cast", "Dropout", "Identity")
#: Operators that take a Pad before them into their own padding.
TAKING_PADS = ("Conv", "AveragePool", "MaxPool", "Pad")
HANDLERS = {
    "Add": _Import.arithmetic, "AveragePool": _Import.pool,
    "BatchNormalization": _Import.normalization, "Clip": _Import.clip,
    "Conv": _Import.convolution, "Div": _Import.arithmetic, "Gemm": _Import.gemm,
    "GlobalAveragePool": _Import.global_pool, "GlobalMaxPool": _Import.global_pool,
    "LeakyRelu": _Import.leaky, "MatMul": _Import.matmul, "MaxPool": _Import.pool,
    "Max": _Import.clip, "Min": _Import.minimum, "Mul": _Import.arithmetic,
    "PRelu": _Import.leaky, "Pad": _Import.pad, "ReduceMax": _Import.reduce,
    "ReduceMean": _Import.reduce, "Relu": _Import.clip, "Sub": _Import.arithmetic,
}
