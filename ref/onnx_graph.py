"""Nodes and constants of an ONNX graph being built."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx


class Graph:
    """Nodes and constants; every name is given once."""

    def __init__(self) -> None:
        """An empty graph."""
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, values: object, dtype: str = "int64") -> str:
        """Add a constant and return its name."""
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Add a node named after its output and return that name."""
        from onnx import helper

        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def cast(self, value: str, output: str, dtype: str) -> str:
        """Add a Cast to a numpy type."""
        return self.node("Cast", [value], output, to=onnx_type(dtype))


def onnx_type(dtype: str) -> int:
    """ONNX's number for a numpy type."""
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
