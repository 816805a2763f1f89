"""An integer model as a graph of float operators that compute its integers times their scales.

The graph is the same for every format; the formats differ in how maps, weights and biases are
quantized in it, which is what their subclasses of `FloatGraph` say. As it is, nothing is: the plain
float network that the encodings describe.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
from onnx import checker, helper

from ref.errors import UserError
from ref.model import (
    BLOCK,
    Add,
    AveragePool2d,
    Concat,
    Conv2d,
    Layer,
    MaxPool2d,
    Model,
    Requantization,
    SpaceToDepth,
    Tensor,
)
from ref.onnx_graph import Graph
from ref.onnx_integer import rounded_input

from .scales import as_float32, input_scale, is_uniform, map_scales, operand_scales

#: Operator set and file format of the exports: old enough for the tools that read them.
OPSET, IR_VERSION = 17, 8
#: An operator that follows a value: its name, its other inputs and its attributes.
Step = tuple[str, list[str], dict[str, Any]]


class FloatGraph(Graph):
    """The float graph of a model; a format overrides how it quantizes.

    The input has the name and shape of the float network's; every map appears under its tensor's
    name, the input's under `ref.onnx_integer.rounded_input`, a final 1x1 map as a vector.
    """

    opset = OPSET
    ir_version = IR_VERSION
    #: Operator sets besides the standard one: domain and version.
    domains: tuple[tuple[str, int], ...] = ()

    def __init__(self, model: Model) -> None:
        """Build the graph."""
        super().__init__()
        self.model, self.scales = model, map_scales(model)
        self.zero = _input_zero(model)
        self._input()
        for layer in model.layers:
            self._layer(layer)
        self._output()

    def proto(self) -> onnx.ModelProto:
        """The finished ONNX graph, checked."""
        source, result = self.model.input_tensor, self.model.output_tensor
        size: tuple[int, ...] = result.shape if result.shape[1:] != (1, 1) else result.shape[:1]
        proto = helper.make_model(
            helper.make_graph(
                self.nodes, self.model.name or "network",
                [helper.make_tensor_value_info(source.name, onnx.TensorProto.FLOAT,
                                               ["N", *self.model.input.shape])],
                [helper.make_tensor_value_info(result.name, onnx.TensorProto.FLOAT, ["N", *size])],
                self.initializers),
            producer_name="shiftwise", ir_version=self.ir_version,
            opset_imports=[helper.make_opsetid(domain, version)
                           for domain, version in (("", self.opset), *self.domains)])
        checker.check_model(proto, full_check=True)
        return proto

    # -- what a format decides --------------------------------------------------------------------
    def width(self, tensor: Tensor) -> int:
        """Bits to which quantizing a map saturates by itself; a narrower map is clipped before."""
        return tensor.bits

    def weight(self, name: str, layer: Conv2d, scale: np.ndarray) -> str:
        """The weights times ``scale`` (O,), named ``name``."""
        values = layer.weight * scale.reshape(-1, 1, 1, 1)
        return self.constant(name, values, "float32")

    def bias(self, name: str, integers: np.ndarray, scale: np.ndarray) -> str:
        """The bias ``integers`` (O,) times ``scale`` (O,), named ``name``."""
        return self.constant(name, integers * scale, "float32")

    def quantized(self, name: str, value: str, tensor: Tensor, scale: float, zero: int) -> str:
        """The map ``value``, rounded to ``(q - zero) * scale``; named ``name``."""
        return name if value == name else self.node("Identity", [value], name)

    def before(self, name: str) -> str:
        """Name of the value that `quantized` turns into ``name``."""
        return name

    # -- layers -----------------------------------------------------------------------------------
    def _map(self, name: str) -> str:
        """Name of the real map (N, C, H, W) of a tensor."""
        if name == self.model.input.tensor:
            return rounded_input(self.model)
        return f"{name}/map" if name == self.model.output_tensor.name else name

    def _finish(self, tensor: Tensor, value: str, steps: list[Step], zero: int = 0) -> None:
        """Apply ``steps`` to ``value`` one after the other and quantize the result."""
        name = self._map(tensor.name)
        for index, (operator, others, attributes) in enumerate(steps):
            output = self.before(name) if index == len(steps) - 1 else f"{name}/step{index}"
            value = self.node(operator, [value, *others], output, **attributes)
        self.quantized(name, value, tensor, self.scales[tensor.name], zero)

    def _input(self) -> None:
        """The real input, with its zero moved to an integer and its scales to one."""
        model, tensor = self.model, self.model.input_tensor
        name, scale, steps = rounded_input(model), self.scales[tensor.name], list[Step]()
        if model.input.shape != model.sample_shape:
            shape = self.constant(f"{name}/shape", [0, *model.sample_shape])
            steps.append(("Reshape", [shape], {}))
        if model.input.low_bits:
            self._planes(steps)
            return
        own = np.broadcast_to(input_scale(model), tensor.shape[0])
        if not is_uniform(own):
            steps.append(("Mul", [self._column(f"{name}/ratio", scale / own)], {}))
        moved = (_real_zero(model) - self.zero) * scale
        if moved.any():
            steps.append(("Add", [self._column(f"{name}/offset", moved)], {}))
        if self.width(tensor) > tensor.bits:
            steps += self._limits(f"{name}/limit", tensor, np.array([tensor.lo]),
                                  np.array([tensor.hi]), self.zero)
        self._finish(tensor, tensor.name, steps, self.zero)

    def _planes(self, steps: list[Step]) -> None:
        """The real input as integers in two planes (see `ref.model.Input`), exact in float32."""
        model, tensor, name = self.model, self.model.input_tensor, rounded_input(self.model)
        planes = 1 << model.input.low_bits
        lo, hi, half, size = (self.constant(f"{name}/{part}", value, "float32") for part, value in (
            ("lo", tensor.lo * planes), ("hi", tensor.hi * planes + planes - 1), ("half", 0.5),
            ("planes", planes)))
        value = tensor.name
        for index, (operator, others, attributes) in enumerate([
                *steps, ("Div", [self._column(f"{name}/step", input_scale(model))], {}),
                ("Add", [self._column(f"{name}/zero", _real_zero(model))], {}),
                ("Add", [half], {}), ("Floor", [], {}), ("Clip", [lo, hi], {})]):
            value = self.node(operator, [value, *others], f"{name}/whole{index}", **attributes)
        high = self.node("Floor", [self.node("Div", [value, size], f"{name}/shifted")],
                         f"{name}/high")
        low = self.node("Sub", [value, self.node("Mul", [high, size], f"{name}/base")],
                        f"{name}/low")
        axis = self.constant(f"{name}/axis", [2])
        high, low = (self.node("Unsqueeze", [part, axis], f"{part}/column") for part in (high, low))
        shape = self.constant(f"{name}/interleaved", [0, *tensor.shape])
        self._finish(tensor, high, [("Concat", [low], {"axis": 2}), ("Reshape", [shape], {})])

    def _output(self) -> None:
        """The result in the float network's units and shape."""
        tensor = self.model.output_tensor
        steps: list[Step] = []
        if not is_uniform(tensor.scale):
            ratio = self._column(f"{tensor.name}/ratio", tensor.scale / self.scales[tensor.name])
            steps.append(("Mul", [ratio], {}))
        if tensor.shape[1:] == (1, 1):
            shape = self.constant(f"{tensor.name}/shape", [0, tensor.shape[0]])
            steps.append(("Reshape", [shape], {}))
        value = self._map(tensor.name)
        for index, (operator, others, _) in enumerate(steps or [("Identity", [], {})]):
            last = index >= len(steps) - 1
            value = self.node(operator, [value, *others],
                              tensor.name if last else f"{value}/real_units")

    def _layer(self, layer: Layer) -> None:
        """One layer, from its real operands to its quantized result."""
        name, scale = self._map(layer.output), self.scales[layer.output]
        rule: Requantization | Add | None = None
        if isinstance(layer, Conv2d):
            value, steps = self._convolution(layer, name, scale)
            rule = layer.requantization
        else:
            wanted = operand_scales(layer, scale)
            values = [self._operand(f"{name}/operand{index}", operand, wanted[index], np.array(0))
                      for index, operand in enumerate(layer.inputs)]
            value, (operator, attributes) = values[0], _operator(layer)
            steps = [(operator, values[1:], attributes)]
            if isinstance(layer, AveragePool2d):
                rule = layer.requantization
                if rule.bias.any():
                    moved = rule.bias * rule.multiplier * 2.0 ** -rule.shift * scale
                    steps.append(("Add", [self._column(f"{name}/bias", moved)], {}))
            elif isinstance(layer, Add):
                rule = layer
        tensor = self.model.tensors[layer.output]
        if rule is not None:
            if rule.code is not None:
                raise UserError(f"layer {layer.name!r} rounds its result to the levels of an AUSN "
                                "code, which float operators cannot write; export -f integer")
            steps += self._limits(f"{name}/limit", tensor, rule.lo, rule.hi, 0)
        self._finish(tensor, value, steps)

    def _convolution(self, layer: Conv2d, name: str, result: float) -> tuple[str, list[Step]]:
        """The operand of a convolution, and the convolution with its leaky ReLU."""
        scale, rule = self.scales[layer.inputs[0]], layer.requantization
        value = self._operand(f"{name}/operand", layer.inputs[0], np.array(scale), layer.pad_value)
        ratio = as_float32(rule.multiplier * 2.0 ** -rule.shift * result / scale)
        outputs, fan_in = layer.weight.shape[:2]
        first = np.arange(outputs) // (outputs // layer.groups) * fan_in
        pads = layer.pad_value[first[:, None] + np.arange(fan_in)]          # (O, I / groups)
        bias = rule.bias + (layer.weight.sum(axis=(2, 3), dtype=np.int64) * pads).sum(axis=1)
        if np.abs(bias).max() >= 1 << 31:
            raise UserError(f"the bias of layer {layer.name!r} reaches {np.abs(bias).max()}, "
                            "beyond the 32 bits of a quantized bias; export -f integer")
        constants = [self.weight(f"{layer.name}/weight", layer, ratio),
                     self.bias(f"{layer.name}/bias", bias, as_float32(ratio * scale))]
        steps: list[Step] = [("Conv", constants, _sliding(layer) | {"group": layer.groups})]
        if rule.multiplier_negative is not None:
            slope = rule.multiplier_negative / rule.multiplier
            steps.append(("LeakyRelu", [], {"alpha": float(slope[0])}) if is_uniform(slope) else (
                "PRelu", [self._column(f"{name}/slope", slope)], {}))
        return value, steps

    def _operand(self, output: str, name: str, scale: np.ndarray, zero: np.ndarray) -> str:
        """The map ``name`` as ``(q - zero) * scale``, each () or (C,), whatever it is elsewhere."""
        own, value = self.scales[name], self._map(name)
        own_zero = self.zero if name == self.model.input.tensor else 0
        if (scale != own).any():
            value = self.node("Mul", [value, self._column(f"{output}/ratio", scale / own)],
                              f"{output}/scaled")
        if (zero != own_zero).any():
            moved = self._column(f"{output}/zero", (own_zero - zero) * scale)
            value = self.node("Add", [value, moved], f"{output}/moved")
        return value

    def _limits(self, name: str, tensor: Tensor, lo: np.ndarray, hi: np.ndarray, zero: int
                ) -> list[Step]:
        """The clip bounds ``lo`` and ``hi`` (C,), integers, as far as quantizing does not clip.

        A rectifier is written in any case.
        """
        low, high = ((bound - zero) * self.scales[tensor.name] for bound in (lo, hi))
        bits = self.width(tensor)
        below = bool((lo > (-(1 << bits - 1) if tensor.signed else 0)).any())
        above = bool((hi < (1 << bits - int(tensor.signed)) - 1).any())
        rectified = not low.any()
        if (above or (below and not rectified)) and is_uniform(low) and is_uniform(high):
            return [("Clip", [self.constant(f"{name}/lo", low[0], "float32"),
                              self.constant(f"{name}/hi", high[0], "float32")], {})]
        steps: list[Step] = []
        if rectified:
            steps.append(("Relu", [], {}))
        elif below:
            steps.append(("Max", [self._column(f"{name}/lo", low)], {}))
        if above:
            steps.append(("Min", [self._column(f"{name}/hi", high)], {}))
        return steps

    def _column(self, name: str, values: np.ndarray) -> str:
        """A constant () or (C,) that meets maps (N, C, H, W); one number where all are the same."""
        return self.constant(name, values.flat[0] if is_uniform(values) else
                             values.reshape(-1, 1, 1), "float32")


def weight_width(layer: Conv2d) -> int:
    """Bits of the integers that a layer multiplies by, narrow range."""
    return layer.weight_bits if layer.weight_code is None else 8 * layer.weight.dtype.itemsize


def _real_zero(model: Model) -> np.ndarray:
    """The input's zero in steps of `input_scale`, () or (C,)."""
    return model.input.x_zero_point * math.ldexp(model.input.multiplier, -model.input.shift)


def _input_zero(model: Model) -> int:
    """The integer nearest to the input's zero, or to the mean of its channels'; 0 of planes."""
    tensor = model.input_tensor
    if model.input.low_bits:
        return 0
    return int(np.clip(np.rint(_real_zero(model).mean()), tensor.lo, tensor.hi))


def _sliding(layer: Conv2d | AveragePool2d | MaxPool2d) -> dict[str, Any]:
    """The attributes of a window."""
    window = layer.window
    return {"kernel_shape": list(window.kernel), "strides": list(window.stride),
            "pads": list(window.pads)}


def _operator(layer: Layer) -> tuple[str, dict[str, Any]]:
    """Operator and attributes of a layer without weights."""
    match layer:
        case AveragePool2d():
            return "AveragePool", _sliding(layer) | {"count_include_pad": 1}
        case MaxPool2d():
            return "MaxPool", _sliding(layer)
        case Add():
            return "Add", {}
        case Concat():
            return "Concat", {"axis": 1}
        case SpaceToDepth():
            return "SpaceToDepth", {"blocksize": BLOCK}
    raise TypeError(f"layer {layer.name!r} is of unknown kind {type(layer).__name__}")
