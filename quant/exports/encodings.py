"""Encodings: the ranges and steps of every map and weight as JSON, beside the plain float network.

The form is that of AIMET's encodings of version 0.6.1 (also read by Qualcomm's converters): a list
under the name of each tensor, with one entry, or for weights one per output channel.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ref.model import Conv2d, Model, Tensor

from .float_graph import FloatGraph, weight_width
from .scales import is_uniform

VERSION = "0.6.1"


class EncodingsGraph(FloatGraph):
    """The plain float graph, and what quantizes its maps (``activations``) and ``weights``."""

    def __init__(self, model: Model) -> None:
        """Build the graph."""
        self.activations: dict[str, list[dict[str, Any]]] = {}
        self.weights: dict[str, list[dict[str, Any]]] = {}
        super().__init__(model)

    def weight(self, name: str, layer: Conv2d, scale: np.ndarray) -> str:
        """Float weights, and their encodings."""
        bits = weight_width(layer)
        half = 1 << (bits - 1)
        self.weights[name] = [_entry(bits, -half, half - 1, float(step), 0)
                              for step in (scale[:1] if is_uniform(scale) else scale)]
        return super().weight(name, layer, scale)

    def quantized(self, name: str, value: str, tensor: Tensor, scale: float, zero: int) -> str:
        """The map as it is, and its encoding."""
        self.activations[name] = [_entry(tensor.bits, tensor.lo, tensor.hi, scale, zero)]
        return super().quantized(name, value, tensor, scale, zero)

    def json(self) -> bytes:
        """The encodings as a JSON file."""
        content = {"version": VERSION, "activation_encodings": self.activations,
                   "param_encodings": self.weights}
        return (json.dumps(content, indent=1) + "\n").encode()


def _entry(bits: int, lo: int, hi: int, scale: float, zero: int) -> dict[str, Any]:
    """The encoding of integers ``lo..hi`` that stand for ``(q - zero) * scale``.

    AIMET's ``offset`` is the integer of ``min`` counted from zero, so 0 or negative.
    """
    return {"bitwidth": bits, "dtype": "int", "is_symmetric": str(lo + hi == -1 and zero == 0),
            "scale": scale, "offset": lo - zero, "min": (lo - zero) * scale,
            "max": (hi - zero) * scale}
