"""QDQ: float operators between QuantizeLinear and DequantizeLinear, integer weights and biases."""

from __future__ import annotations

import numpy as np

from ref.model import Conv2d, Model, Tensor

from .float_graph import FloatGraph
from .scales import is_uniform

#: First operator set that quantizes to 16 bits, and its file format.
WIDE_OPSET, WIDE_IR_VERSION = 21, 10


class QdqGraph(FloatGraph):
    """Maps as 8-bit integers with zero point 0 (the input's its own), weights per row, int32 bias.

    A map's integers are the value ``NAME/quantized``.
    """

    def __init__(self, model: Model) -> None:
        """Build the graph; integers beyond 8 bits need a newer operator set."""
        if model.output_tensor.bits > 8 or any(
                isinstance(layer, Conv2d) and layer.weight.dtype != np.int8
                for layer in model.layers):
            self.opset, self.ir_version = WIDE_OPSET, WIDE_IR_VERSION
        super().__init__(model)

    def width(self, tensor: Tensor) -> int:
        """Every map is stored in 8 bits, a wider result in 16."""
        return 8 if tensor.bits <= 8 else 16

    def weight(self, name: str, layer: Conv2d, scale: np.ndarray) -> str:
        """Integers behind a DequantizeLinear."""
        return self._dequantized(name, layer.weight, layer.weight.dtype.name, scale)

    def bias(self, name: str, integers: np.ndarray, scale: np.ndarray) -> str:
        """32-bit integers behind a DequantizeLinear."""
        return self._dequantized(name, integers, "int32", scale)

    def quantized(self, name: str, value: str, tensor: Tensor, scale: float, zero: int) -> str:
        """QuantizeLinear and DequantizeLinear."""
        constants = [self.constant(f"{name}/scale", scale, "float32"),
                     self.constant(f"{name}/zero_point", zero,
                                   f"{'' if tensor.signed else 'u'}int{self.width(tensor)}")]
        integers = self.node("QuantizeLinear", [value, *constants], f"{name}/quantized")
        return self.node("DequantizeLinear", [integers, *constants], name)

    def before(self, name: str) -> str:
        """The value that is quantized."""
        return f"{name}/real"

    def _dequantized(self, name: str, integers: np.ndarray, dtype: str, scale: np.ndarray) -> str:
        """Stored integers (O, ...) times ``scale`` (O,)."""
        one = is_uniform(scale)
        constants = [self.constant(f"{name}/quantized", integers, dtype),
                     self.constant(f"{name}/scale", scale[0] if one else scale, "float32"),
                     self.constant(f"{name}/zero_point", 0 if one else np.zeros(len(scale)), dtype)]
        return self.node("DequantizeLinear", constants, name, **({} if one else {"axis": 0}))
