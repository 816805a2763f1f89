"""QONNX: a float graph whose maps, weights and biases pass through Quant nodes of any width.

The format is that of "QONNX: Representing Arbitrary-Precision Quantized Neural Networks" (arXiv
2206.07527), which FINN, hls4ml and Brevitas read and write.
"""

from __future__ import annotations

import numpy as np

from ref.model import Conv2d, Tensor

from .float_graph import FloatGraph, weight_width
from .scales import is_uniform

#: Bits of a bias.
BIAS_BITS = 32


class QonnxGraph(FloatGraph):
    """Quant nodes with zero point 0 but for the input, rounding to nearest."""

    domains = (("qonnx.custom_op.general", 1),)

    def weight(self, name: str, layer: Conv2d, scale: np.ndarray) -> str:
        """Narrow-range integers of the layer's own width."""
        real = super().weight(f"{name}/real", layer, scale)
        return self._quant(name, real, scale.reshape(-1, 1, 1, 1), 0, weight_width(layer), signed=1,
                           narrow=1)

    def bias(self, name: str, integers: np.ndarray, scale: np.ndarray) -> str:
        """32-bit integers in accumulator units."""
        real = super().bias(f"{name}/real", integers, scale)
        return self._quant(name, real, scale, 0, BIAS_BITS, signed=1, narrow=0)

    def quantized(self, name: str, value: str, tensor: Tensor, scale: float, zero: int) -> str:
        """A Quant node of the map's own width."""
        return self._quant(name, value, np.array(scale), zero, tensor.bits,
                           signed=int(tensor.signed), narrow=0)

    def before(self, name: str) -> str:
        """The value that is quantized."""
        return f"{name}/real"

    def _quant(self, name: str, value: str, scale: np.ndarray, zero: int, bits: int,
               signed: int, narrow: int) -> str:
        """One Quant node."""
        constants = [
            self.constant(f"{name}/scale", scale.flat[0] if is_uniform(scale) else scale,
                          "float32"),
            self.constant(f"{name}/zero_point", zero, "float32"),
            self.constant(f"{name}/bits", bits, "float32")]
        return self.node("Quant", [value, *constants], name, domain=self.domains[0][0],
                         signed=signed, narrow=narrow, rounding_mode="ROUND")
