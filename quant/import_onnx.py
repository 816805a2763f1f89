"""A float ONNX network as a graph of few kinds of layers, normalizations fused in float64.

A normalization or activation is fused into the layer before it where nothing else reads that
layer's result; elsewhere it becomes a layer of its own. `quant.walk` says which layer's map each
ONNX tensor is.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from onnx import NodeProto

from ref.errors import UserError
from ref.model import Window

from .graph import (
    Activation,
    FloatAdd,
    FloatAveragePool,
    FloatConv,
    FloatMaxPool,
    FloatNetwork,
    FloatWindowed,
    Leaky,
    cap_of,
)
from .onnx_file import FLOATS, attributes, read_graph, where
from .views import REARRANGING, axes_of, is_ordered, rearranged
from .walk import Walk
from .windows import pad_node_pads, spread_kernel, window_of


def import_onnx(path: str | Path) -> FloatNetwork:
    """Read a float ONNX file (operator set 11 or later) into a `FloatNetwork`.

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


class _Import(Walk):
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
        self.read(name)
        if node.op_type in KEEPING:
            self._check_kept(node)
        elif node.op_type in REARRANGING:
            if any(self.now.pads):
                self.check_readable(node)
            self.set(view=rearranged(node, self.now.view, self.constants))
        elif node.op_type in ("Softmax", "LogSoftmax"):
            self.check_readable(node)
            self.set(ended=node)
        else:
            if self.now.ended is not None or node.op_type not in TAKING_PADS:
                self.check_readable(node)
            self.check_whole(node)
            HANDLERS[node.op_type](self, node)

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
                            self.graph.input_shape, self.gain, self.offset, tuple(self.layers))

    # -- constants ------------------------------------------------------------------------------
    def constant(self, node: NodeProto, index: int, default: np.ndarray | None = None
                 ) -> np.ndarray:
        """A node's input as a finite float64 constant."""
        name = node.input[index] if index < len(node.input) else ""
        if not name and default is not None:
            return default
        if name not in self.constants:
            raise UserError(f"{where(node)} takes its input {name!r} from data, not from a "
                            "constant; export the network with fixed weights")
        value = np.asarray(self.constants[name], np.float64)
        if not np.isfinite(value).all():
            raise UserError(f"{where(node)} has a weight that is not a number or infinite in "
                            f"{name!r}; train or export the network again")
        return value

    # -- layers ---------------------------------------------------------------------------------
    def convolution(self, node: NodeProto) -> None:
        """Conv."""
        weight = self.constant(node, 1)
        if weight.ndim != 4:
            raise UserError(f"{where(node)} is a {weight.ndim - 2}-dimensional convolution; only "
                            "two-dimensional ones are supported, insert an axis of size 1")
        (shape, order), values = self.map_shape(node), attributes(node)
        groups = values.get("group", 1)
        if shape[0] != weight.shape[1] * groups or len(weight) % groups:
            raise UserError(f"{where(node)} has weights of shape {weight.shape} and {groups} "
                            f"groups for {shape[0]} input channels; export it again")
        weight = spread_kernel(node, weight, values.get("dilations", [1, 1]))
        bias = self.constant(node, 2, np.zeros(len(weight)))
        window = window_of(node, values, weight.shape[2:], shape[1:], self.now.pads)
        kept = None
        if not is_ordered(order):           # the channels of the map are in another order
            place = np.argsort(order)
            if groups == 1:
                weight = weight[:, place]
            elif groups == len(weight) == shape[0]:
                weight, bias, kept = weight[place], bias[place], order
            else:
                raise UserError(f"{where(node)} reads groups of channels that were moved; only "
                                "dense and depthwise convolutions can follow such a move")
        self.append_windowed(FloatConv(node.name or node.output[0], (self.now.tensor,),
                                       node.output[0], window, weight, bias, groups, None),
                             len(weight), kept)

    def gemm(self, node: NodeProto) -> None:
        """Gemm: the convolution whose kernel is the whole map."""
        values = attributes(node)
        if values.get("transA", 0):
            raise UserError(f"{where(node)} transposes its data (transA); export it without")
        weight = self.constant(node, 1) * values.get("alpha", 1.0)
        weight = weight if values.get("transB", 0) else weight.T
        bias = self.constant(node, 2, np.zeros(1)) * values.get("beta", 1.0)
        self._fully_connected(node, weight, np.broadcast_to(bias.ravel(), len(weight)))

    def matmul(self, node: NodeProto) -> None:
        """MatMul with a constant on the right; a bias follows as an Add."""
        weight = self.constant(node, 1)
        if weight.ndim != 2:
            raise UserError(f"{where(node)} multiplies by a constant of {weight.ndim} axes; only "
                            "matrices (features, outputs) are supported")
        self._fully_connected(node, weight.T, np.zeros(weight.shape[1]))

    def _fully_connected(self, node: NodeProto, matrix: np.ndarray, bias: np.ndarray) -> None:
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
                      bias.copy(), 1, None), len(matrix))
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

    def reduce_mean(self, node: NodeProto) -> None:
        """ReduceMean over rows and columns, in whatever layout they are."""
        values, view, given = attributes(node), self.now.view, axes_of(node, self.constants)
        axes = [axis % view.ndim for axis in (range(view.ndim) if given is None else given)]
        kept = [axis for axis in range(view.ndim) if axis not in axes]
        size = math.prod(self.now.shape[1:])
        channel = view.transpose(kept + axes) // size
        channel = channel.reshape(*[view.shape[axis] for axis in kept], -1)
        if channel.shape[-1] != size or 0 in axes \
                or not (channel == channel[..., :1]).all():
            raise UserError(f"{where(node)} takes a mean over axes {axes}; only a mean over rows "
                            "and columns is supported")
        result = channel[..., 0]
        if values.get("keepdims", 1):
            result = np.expand_dims(result, tuple(axes))
        self._pool(node, FloatAveragePool, self.window_of_map(), None)
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
        if values.get("mode", "constant") != "constant" or filling != 0:
            raise UserError(f"{where(node)} pads with something other than zero; only zero padding "
                            "is supported")
        extra = pad_node_pads(node, [int(size) for size in self.constant(node, 1)])
        self.set(pads=tuple(int(size) for size in np.add(self.now.pads, extra)))

    # -- fused into the layer before --------------------------------------------------------------
    def normalization(self, node: NodeProto) -> None:
        """BatchNormalization with its running statistics."""
        values = attributes(node)
        if values.get("training_mode", 0):
            raise UserError(f"{where(node)} is in training mode; export the network for inference")
        gamma, beta, mean, variance = (self.constant(node, index) for index in range(1, 5))
        if (variance < 0).any():
            raise UserError(f"{where(node)} has a negative variance; train or export the network "
                            "again")
        deviation = np.sqrt(variance + values.get("epsilon", 1e-5))
        if (deviation == 0).any():
            raise UserError(f"{where(node)} divides by a variance and an epsilon of 0; export it "
                            "with an epsilon")
        scale = gamma / deviation
        sizes = (1, -1) + (1,) * (self.now.view.ndim - 2)
        self._affine(node, scale.reshape(sizes), (beta - mean * scale).reshape(sizes))

    def arithmetic(self, node: NodeProto) -> None:
        """Add, Sub, Mul and Div with a constant that is the same over each channel."""
        right = node.input[1] in self.constants
        value = self.constant(node, 1 if right else 0)
        one, none = np.ones(()), np.zeros(())
        if node.op_type == "Div" and (not right or (value == 0).any()):
            raise UserError(f"{where(node)} divides by data or by zero; only a division by a "
                            "constant is supported")
        scale, offset = {
            "Add": (one, value), "Mul": (value, none), "Sub": (one, -value) if right
            else (-one, value), "Div": (1 / value if node.op_type == "Div" else one, none),
        }[node.op_type]
        self._affine(node, scale, offset)

    def _affine(self, node: NodeProto, scale: np.ndarray, offset: np.ndarray) -> None:
        """Multiply the view by ``scale`` and add ``offset``; both broadcast to the view."""
        gain, shift = self._per_channel(node, scale), self._per_channel(node, offset)
        index = self.open_layer()
        last = None if index is None else self.layers[index]
        if self.now.tensor == self.graph.input and not self.now.shared:
            if any(gain == 0):
                raise UserError(f"{where(node)} multiplies an input channel by 0; remove the "
                                "channel")
            self.gain, self.offset = self.gain * gain, self.offset * gain + shift
        elif index is not None and isinstance(last, FloatConv) and last.activation is None:
            self.change_layer(index, replace(
                last, output=node.output[0], bias=last.bias * gain + shift,
                weight=last.weight * gain[:, None, None, None]))
        else:
            self._channelwise(node, gain, shift, None)

    def _per_channel(self, node: NodeProto, value: np.ndarray) -> np.ndarray:
        """``value``, broadcast to the view, as one number per channel of the map, (C,)."""
        view = self.now.view
        try:
            spread = np.broadcast_to(value, view.shape)
        except ValueError as error:
            raise UserError(f"{where(node)} has a constant of shape {value.shape} for data of "
                            f"shape {view.shape}; it must not add axes") from error
        flat = np.empty(view.size)
        flat[view.ravel()] = spread.ravel()
        channels = flat.reshape(self.now.shape[0], -1)
        if not (channels == channels[:, :1]).all():
            raise UserError(f"{where(node)} has a constant that differs within a channel; only one "
                            "number per channel is supported")
        return channels[:, 0].copy()

    def _channelwise(self, node: NodeProto, gain: np.ndarray, offset: np.ndarray,
                     activation: Activation) -> None:
        """Append a 1x1 depthwise convolution, for what no layer before it can take in."""
        view = self.now.view
        self.append_windowed(
            FloatConv(node.name or node.output[0], (self.now.tensor,), node.output[0],
                      Window((1, 1)), gain.reshape(-1, 1, 1, 1), offset, len(gain), activation),
            len(gain))
        self.set(view=view)

    def clip(self, node: NodeProto) -> None:
        """Relu and Clip(0, cap)."""
        low, high = 0.0, math.inf
        if node.op_type == "Clip":
            low, high = (self._limit(node, index, default)
                         for index, default in ((1, -math.inf), (2, math.inf)))
            if low == -math.inf and high == math.inf:
                return
            if low != 0 or not high > 0:
                raise UserError(f"{where(node)} clips to {low:g}..{high:g}; only a lower limit of "
                                "0 and a positive upper limit are supported")
        if high == math.inf and self.non_negative(self.now.tensor):
            return
        activation: Activation = "relu" if high == math.inf else high
        index = self.open_layer()
        last = None if index is None else self.layers[index]
        if index is not None and isinstance(last, FloatConv | FloatAdd):
            cap = min(high, float(cap_of(last.activation)))
            self.change_layer(index, replace(last, output=node.output[0],
                                             activation="relu" if cap == math.inf else cap))
        else:
            channels = self.now.shape[0]
            self._channelwise(node, np.ones(channels), np.zeros(channels), activation)

    def leaky(self, node: NodeProto) -> None:
        """LeakyRelu; its slope must not be negative."""
        slope = float(attributes(node).get("alpha", 0.01))
        if slope < 0:
            raise UserError(f"{where(node)} has a negative slope ({slope:g}); only slopes of 0 or "
                            "more are supported")
        if slope == 1 or self.non_negative(self.now.tensor):
            return
        activation: Activation = Leaky(slope) if slope else "relu"
        index, channels = self.open_layer(), self.now.shape[0]
        last = None if index is None else self.layers[index]
        if index is not None and isinstance(last, FloatConv) and last.activation is None:
            self.change_layer(index, replace(last, output=node.output[0], activation=activation))
        else:
            self._channelwise(node, np.ones(channels), np.zeros(channels), activation)

    def _limit(self, node: NodeProto, index: int, default: float) -> float:
        """A limit of Clip, infinite where it is left out."""
        name = node.input[index] if index < len(node.input) else ""
        if name and name not in self.constants:
            raise UserError(f"{where(node)} takes its limit {name!r} from data; export the network "
                            "with fixed limits")
        return float(np.asarray(self.constants[name]).item()) if name else default


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
    "Mul": _Import.arithmetic, "Pad": _Import.pad, "ReduceMean": _Import.reduce_mean,
    "Relu": _Import.clip, "Sub": _Import.arithmetic,
}
