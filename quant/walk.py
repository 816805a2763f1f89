"""The walk over an ONNX graph: for each of its tensors, which layer's map it shows and how.

Every tensor is a *view* of a layer's map (C, H, W): which of the map's elements each of its own
elements is. Reshapes and transpositions only rearrange the view, so layouts that cancel vanish, and
slices that are joined again are found to be space-to-depth, however the exporter wrote it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto

from ref.errors import UserError
from ref.model import BLOCK, Window

from .graph import (
    FloatAdd,
    FloatConcat,
    FloatConv,
    FloatLayer,
    FloatSpaceToDepth,
    FloatWindowed,
    StoredMap,
    is_rectified,
)
from .onnx_file import OnnxGraph, attributes, where
from .stored import Grid
from .views import REARRANGING, channel_order, is_ordered, squares_order
from .windows import NO_PADS, Pads

#: Operators that may act on integers: they move them, choose among them or add zero points.
ON_INTEGERS = ("DequantizeLinear", "Dropout", "Identity", "MaxPool", "Pad", *REARRANGING)


@dataclass(frozen=True, eq=False)
class Value:
    """What a tensor of the ONNX file is."""

    tensor: str                             # the result of a layer, or the network's input
    shape: tuple[int, int, int]             # of that map
    view: np.ndarray                        # int64, the tensor's shape: positions in the flat map
    pads: Pads = NO_PADS                    # a Pad node waiting for the layer that takes it
    shared: bool = False                    # the map has other readers: its layer must stay
    ended: NodeProto | None = None          # the softmax it is the result of
    rounded: Grid | None = None             # it shows the integers of this grid, not yet real again
    limits: tuple[float, float] = (-math.inf, math.inf)     # of a Clip that a QuantizeLinear takes

    @property
    def whole(self) -> bool:
        """Whether it shows every element of the map (never one twice, so by their number)."""
        return self.view.size == math.prod(self.shape)


class Walk:
    """The layers built so far, and the tensor a node is being read from, as `Value` has it."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        self.constants = graph.constants
        sizes = graph.input_shape
        channels, height, width = (1, *sizes) if len(sizes) == 2 else (*sizes, 1, 1)[:3]
        self.input_shape = (channels, height, width)
        self.layers: list[FloatLayer] = []
        self.stored: dict[str, StoredMap] = {}
        self.gain = np.ones(channels)
        self.offset = np.zeros(channels)
        self.readers = Counter(name for node in graph.nodes for name in self.data(node))
        self.readers[graph.output] += 1
        self.unread = self.readers.copy()
        self.now = Value(graph.input, self.input_shape,
                         np.arange(math.prod(sizes)).reshape(1, *sizes))
        self.values = {graph.input: self.now}

    def data(self, node: NodeProto) -> list[str]:
        """The inputs of a node that are not constants."""
        return [name for name in node.input if name and name not in self.constants]

    def read(self, name: str) -> Value:
        """Make the tensor ``name`` the current one; its last reader drops it."""
        self.now = self.values[name]
        if self.readers[name] > 1:
            self.set(shared=True)
        if self.now.tensor == self.graph.input:
            self.set(shape=self.input_shape)
        self.unread[name] -= 1
        if not self.unread[name]:
            del self.values[name]
        return self.now

    def set(self, **changes: object) -> None:
        """Change fields of the current tensor."""
        self.now = replace(self.now, **changes)     # type: ignore[arg-type]

    @property
    def normalized(self) -> bool:
        """Whether a normalization of the input was taken."""
        return bool((self.gain != 1).any() or (self.offset != 0).any())

    def at_input(self) -> bool:
        """Whether the current tensor is the network's input, read by nothing before."""
        return self.now.tensor == self.graph.input and not self.layers and not self.normalized

    def reshape_input(self, shape: tuple[int, int, int]) -> None:
        """Take the input as a map of another ``shape``."""
        self.input_shape = shape
        self.gain, self.offset = np.ones(shape[0]), np.zeros(shape[0])
        self.set(shape=shape)

    def open_layer(self) -> int | None:
        """Index of the layer whose result only the current tensor shows; None where others do."""
        if self.now.shared:
            return None
        return next((index for index, layer in enumerate(self.layers)
                     if layer.output == self.now.tensor), None)

    def change_layer(self, index: int, layer: FloatLayer) -> None:
        """Replace an open layer; its result may have another name."""
        stored = self.stored.pop(self.layers[index].output, None)
        if stored is not None:
            self.stored[layer.output] = stored
        self.layers[index] = layer
        self.set(tensor=layer.output)

    def map_shape(self, node: NodeProto) -> tuple[tuple[int, int, int], np.ndarray]:
        """(C, H, W) of the map a node reads and which of its channels each of the node's is, (C,).

        Rows and columns of the map must be the tensor's.
        """
        if self.now.view.ndim != 4:
            raise UserError(f"{where(node)} reads {self.now.view.ndim - 2}-dimensional maps; only "
                            "two-dimensional maps are supported, insert an axis of size 1")
        _, channels, height, width = self.now.view.shape
        if is_ordered(self.now.view) and self.at_input():
            self.reshape_input((channels, height, width))
        self.find_squares(node.input[0])
        order = channel_order(self.now.view, self.now.shape)
        if order is None:
            raise UserError(f"{where(node)} reads a transposed or reshaped map; export the network "
                            "with channels first (NCHW)")
        return self.now.shape, order

    def find_squares(self, name: str) -> None:
        """Append the space-to-depth that the current tensor, called ``name``, shows, if any."""
        if self.now.view.ndim != 4 or not self.now.whole:
            return
        order = squares_order(self.now.view, self.now.shape)
        if order is None:
            return
        channels, height, width = self.now.shape
        shape = (channels * BLOCK ** 2, height // BLOCK, width // BLOCK)
        self.append(FloatSpaceToDepth(name, (self.now.tensor,), name), shape, order)
        self.set(shared=self.readers[name] > 1)
        if name in self.values:
            self.values[name] = self.now

    def append(self, layer: FloatLayer, shape: tuple[int, int, int],
               order: np.ndarray | None = None) -> None:
        """Append a layer that makes a map of ``shape``, shown with its channels in ``order``."""
        view = np.arange(math.prod(shape)).reshape(shape)
        self.layers.append(layer)
        self.now = Value(layer.output, shape, (view if order is None else view[order])[None])

    def append_windowed(self, layer: FloatWindowed, channels: int,
                        order: np.ndarray | None = None) -> None:
        """Append a layer that slides a window over the current map."""
        self.append(layer, (channels, *layer.window.output_size(*self.now.shape[1:])), order)

    def window_of_map(self) -> Window:
        """The window that is the whole current map."""
        return Window(self.now.shape[1:])

    # -- joins ------------------------------------------------------------------------------------
    def add(self, node: NodeProto) -> None:
        """Add of two maps."""
        first, second = self._operands(node)
        if first.shape != second.shape or not np.array_equal(first.view, second.view):
            raise UserError(f"{where(node)} adds maps of shapes {first.view.shape[1:]} and "
                            f"{second.view.shape[1:]} or of different layouts; only maps of one "
                            "shape and layout can be added")
        self.append(FloatAdd(node.name or node.output[0], (first.tensor, second.tensor),
                             node.output[0], None), first.shape)
        self.set(view=first.view)

    def concat(self, node: NodeProto) -> None:
        """Concat of maps along their channels; slices of one map may only be rearranged by it."""
        operands = self._operands(node, whole=False)
        dimensions = operands[0].view.ndim
        if attributes(node)["axis"] % dimensions != 1:
            raise UserError(f"{where(node)} joins along axis {attributes(node)['axis']}; only "
                            "channels (axis 1) can be joined")
        merged = list(_merged(operands))
        if len(merged) == 1:
            self.now = merged[0]
            return
        tensors, orders, offset = [], [], 0
        for index, value in enumerate(merged):
            self.now = value
            self.find_squares(f"{node.output[0]}/squares{index}")
            view = self.now.view if dimensions == 4 else self.now.view.reshape(1, -1, 1, 1)
            order = channel_order(view, self.now.shape)
            if order is None:
                raise UserError(f"{where(node)} joins a part of a map, or a transposed or reshaped "
                                "one; only whole maps with channels first (NCHW) can be joined")
            tensors.append(self.now.tensor)
            orders.append(order + offset)
            offset += len(order)
        shape = (offset, *self.now.shape[1:])
        self.append(FloatConcat(node.name or node.output[0], tuple(tensors), node.output[0]),
                    shape, np.concatenate(orders))
        if dimensions == 2:
            self.set(view=self.now.view.reshape(1, -1))

    def _operands(self, node: NodeProto, whole: bool = True) -> list[Value]:
        """The data a node joins."""
        if len(self.data(node)) != len(node.input):
            raise UserError(f"{where(node)} joins data and a constant; only data can be joined")
        operands = []
        for name in node.input:
            self.read(name)
            self.check_real(node)
            self.check_readable(node)
            if whole:
                if is_ordered(self.now.view) and self.now.view.ndim == 4 and self.at_input():
                    self.reshape_input(self.now.view.shape[1:])     # type: ignore[arg-type]
                self.find_squares(name)
                self.check_whole(node)
            operands.append(self.now)
        return operands

    def check_real(self, node: NodeProto) -> None:
        """Refuse operators that compute with integers."""
        if self.now.rounded is not None and node.op_type not in ON_INTEGERS:
            raise UserError(f"{where(node)} computes with integers; dequantize them first")

    def check_readable(self, node: NodeProto) -> None:
        """Refuse to read a softmax or a map whose padding waits for a layer."""
        if self.now.ended is not None:
            raise UserError(f"{where(self.now.ended)} is not at the end of the network; only a "
                            "final softmax can be left to the host")
        if any(self.now.pads):
            raise UserError(f"{where(node)} follows a Pad; only a convolution or a pool can take "
                            "its padding")
        if self.now.limits != Value.limits:
            raise UserError(f"{where(node)} reads a map clipped to {self.now.limits[0]:g}.."
                            f"{self.now.limits[1]:g}; only a QuantizeLinear can take such limits")

    def check_whole(self, node: NodeProto) -> None:
        """Refuse to read a part of a map."""
        if not self.now.whole:
            raise UserError(f"{where(node)} reads a part of a map (Slice); only slices that a "
                            "Concat joins to space-to-depth are supported")

    def non_negative(self, tensor: str) -> bool:
        """Whether the values of a layer's result, or of the input, are known to be 0 or more."""
        layer = next((layer for layer in self.layers if layer.output == tensor), None)
        if layer is None:
            return False
        if isinstance(layer, FloatConv | FloatAdd) and is_rectified(layer.activation):
            return True
        return not isinstance(layer, FloatConv) and all(map(self.non_negative, layer.inputs))


def _merged(operands: list[Value]) -> Iterable[Value]:
    """Operands of a Concat, those beside each other that show one map once taken together."""
    start = 0
    while start < len(operands):
        stop = start + 1
        while stop < len(operands) and operands[stop].tensor == operands[start].tensor:
            stop += 1
        view = np.concatenate([operand.view for operand in operands[start:stop]], axis=1)
        together = replace(operands[start], view=view, shared=True)
        if together.whole and np.array_equal(np.sort(view.ravel()), np.arange(view.size)):
            yield together
        else:
            yield from operands[start:stop]
        start = stop
