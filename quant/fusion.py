"""Normalizations, activations and constants taken into the layer before them.

Where something else reads that layer's result too, they become a layer of their own.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from onnx import NodeProto

from ref.errors import UserError
from ref.model import Window

from .graph import Activation, FloatAdd, FloatConv, Leaky, cap_of, is_rectified
from .onnx_file import attributes, where
from .walk import Walk


class Fusion(Walk):
    """A walk that knows the operators which change every value of a map alone."""

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
        self._gather_squares(node)
        gain, shift = self.per_channel(node, scale), self.per_channel(node, offset)
        index = self.open_layer()
        last = None if index is None else self.layers[index]
        stored = self.stored.get(self.now.tensor)
        if self.now.tensor == self.graph.input and not self.now.shared:
            if any(gain == 0):
                raise UserError(f"{where(node)} multiplies an input channel by 0; remove the "
                                "channel")
            self.gain, self.offset = self.gain * gain, self.offset * gain + shift
        elif index is not None and isinstance(last, FloatConv) and (
                (not shift.any() and (gain > 0).all())
                or (stored is None and last.activation is None)):
            with np.errstate(invalid="ignore"):                 # no cap times a gain of 0
                caps = cap_of(last.activation) * gain
            self.change_layer(index, replace(
                last, output=node.output[0], bias=last.bias * gain + shift,
                weight=last.weight * gain[:, None, None, None],
                activation=caps if np.isfinite(caps).all() else last.activation,
                weight_step=None if last.weight_step is None else last.weight_step * abs(gain)))
            if stored is not None:          # its integers stay
                self.stored[node.output[0]] = replace(stored, step=stored.step * gain)
        else:
            self.channelwise(node, gain, shift, None)

    def _gather_squares(self, node: NodeProto) -> None:
        """Append the space-to-depth that a node's data show, before the node changes the values."""
        for name in node.input:
            if name and name not in self.constants:
                self.find_squares(name)

    def per_channel(self, node: NodeProto, value: np.ndarray) -> np.ndarray:
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

    def channelwise(self, node: NodeProto, gain: np.ndarray, offset: np.ndarray,
                     activation: Activation) -> None:
        """Append a 1x1 depthwise convolution, for what no layer before it can take in."""
        view = self.now.view
        self.append_windowed(
            FloatConv(node.name or node.output[0], (self.now.tensor,), node.output[0],
                      Window((1, 1)), gain.reshape(-1, 1, 1, 1), offset, len(gain), activation),
            len(gain))
        self.set(view=view)

    def clip(self, node: NodeProto) -> None:
        """Relu, Clip(0, cap), and Max and Min with one number; no lower limit where it is 0."""
        low, high = 0.0, math.inf
        if node.op_type != "Relu":
            low, high = self._limits(node)
            if low == -math.inf and high == math.inf:
                return
            if low < 0 and self.non_negative(self.now.tensor):
                low = 0.0
            if low < 0 < high and self._quantized_next(node):
                self.set(limits=(low, high))
                return
            if low != 0 or not high > 0:
                raise UserError(f"{where(node)} clips to {low:g}..{high:g}; only a lower limit of "
                                "0 and a positive upper limit are supported")
        self.rectify(node, high, node.output[0])

    def _quantized_next(self, node: NodeProto) -> bool:
        """Whether a QuantizeLinear, and nothing else, reads the result of a node."""
        readers = [reader.op_type for reader in self.graph.nodes if node.output[0] in reader.input]
        return readers == ["QuantizeLinear"]

    def rectify(self, node: NodeProto, cap: float, output: str) -> None:
        """A ReLU with a ``cap``, or infinity, whose result is called ``output`` if it is fused."""
        if cap == math.inf and self.non_negative(self.now.tensor):
            return
        self._gather_squares(node)
        index = self.open_layer()
        last = None if index is None else self.layers[index]
        if index is not None and isinstance(last, FloatConv | FloatAdd):
            caps = np.minimum(cap, cap_of(last.activation))
            activation: Activation = (caps if caps.ndim else
                                      "relu" if caps == math.inf else float(caps))
            self.change_layer(index, replace(last, output=output, activation=activation))
        else:
            channels = self.now.shape[0]
            self.channelwise(node, np.ones(channels), np.zeros(channels),
                             "relu" if cap == math.inf else cap)

    def minimum(self, node: NodeProto) -> None:
        """Min with a constant; one that differs between channels is a ReLU's cap for each."""
        constant = [place for place, name in enumerate(node.input) if name in self.constants]
        values = [self.constant(node, place) for place in constant]
        if len(node.input) != 2 or len(values) != 1 or (values[0] == values[0].flat[0]).all():
            self.clip(node)
            return
        self._gather_squares(node)
        index = self.open_layer()
        last = None if index is None else self.layers[index]
        caps = self.per_channel(node, values[0])
        if index is None or not (isinstance(last, FloatConv | FloatAdd)
                                 and is_rectified(last.activation)) or (caps < 0).any():
            raise UserError(f"{where(node)} has a limit for each channel; only those of 0 or more "
                            "right after a ReLU are supported")
        self.change_layer(index, replace(last, output=node.output[0], activation=np.minimum(
            caps, cap_of(last.activation))))

    def leaky(self, node: NodeProto) -> None:
        """LeakyRelu and PRelu with constant slopes of 0..1."""
        self._gather_squares(node)
        slope: float | np.ndarray = float(attributes(node).get("alpha", 0.01))
        if node.op_type == "PRelu":
            slope = self.per_channel(node, self.constant(node, 1))
            slope = float(slope[0]) if (slope == slope[0]).all() else slope
        if np.min(slope) < 0:
            raise UserError(f"{where(node)} has a negative slope ({np.min(slope):g}); only slopes "
                            "of 0 to 1 are supported")
        if np.max(slope) > 1:       # its multiplier would not fit
            raise UserError(f"{where(node)} has a slope of {np.max(slope):g}; only slopes of 0 to "
                            "1 are supported")
        if np.all(slope == 1) or self.non_negative(self.now.tensor):
            return
        activation: Activation = Leaky(slope) if np.any(slope) else "relu"
        index, channels = self.open_layer(), self.now.shape[0]
        last = None if index is None else self.layers[index]
        if index is not None and isinstance(last, FloatConv) and last.activation is None:
            self.change_layer(index, replace(last, output=node.output[0], activation=activation))
        else:
            self.channelwise(node, np.ones(channels), np.zeros(channels), activation)

    def _limits(self, node: NodeProto) -> tuple[float, float]:
        """The lower and the upper limit of Clip, Max or Min, infinite where one is left out."""
        if node.op_type == "Clip":
            return self._limit(node, 1, -math.inf), self._limit(node, 2, math.inf)
        limits = [self._limit(node, index, 0.0) for index, name in enumerate(node.input)
                  if name in self.constants]
        if node.op_type == "Max":
            return max(limits, default=-math.inf), math.inf
        return -math.inf, min(limits, default=math.inf)

    def _limit(self, node: NodeProto, index: int, default: float) -> float:
        """A limit of Clip, Max or Min: one number."""
        name = node.input[index] if index < len(node.input) else ""
        if name and name not in self.constants:
            raise UserError(f"{where(node)} takes its limit {name!r} from data; export the network "
                            "with fixed limits")
        values = np.unique(self.constants[name]) if name else np.array([default])
        if len(values) != 1:
            raise UserError(f"{where(node)} has {len(values)} different limits; only one number "
                            "for all values is supported")
        return float(values[0])
