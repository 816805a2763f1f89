"""Small ONNX networks built node by node."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """A chain of nodes: each reads the result of the one before and constants."""

    def __init__(self, shape: tuple[int | str, ...], opset: int = 17, seed: int = 0) -> None:
        self.shape, self.opset = shape, opset
        self.random = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.last = "input"

    def constant(self, value: np.ndarray | float | list) -> str:
        """The name of a new initializer."""
        value = np.asarray(value)
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        self.constants.append(numpy_helper.from_array(value, f"c{len(self.constants)}"))
        return self.constants[-1].name

    def add(self, op: str, *constants: np.ndarray | float | list | None, **attributes) -> Graph:
        """Append a node named like its operator and position; None leaves an input out."""
        name = f"{op.lower()}{len(self.nodes)}"
        inputs = [self.last] + ["" if value is None else self.constant(value)
                                for value in constants]
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name, **attributes))
        self.last = f"{name}_out"
        return self

    def conv(self, outputs: int, inputs: int, kernel: int | tuple[int, int] = 1, bias: bool = True,
             group: int = 1, **attributes) -> Graph:
        """Append a convolution with random weights."""
        kernel = (kernel, kernel) if isinstance(kernel, int) else kernel
        weight = self.random.normal(size=(outputs, inputs // group, *kernel))
        extra = [self.random.normal(size=outputs)] if bias else []
        return self.add("Conv", weight / np.sqrt(weight[0].size), *extra, group=group, **attributes)

    def norm(self, channels: int, **attributes) -> Graph:
        """Append a batch normalization; every other gamma is negative."""
        gamma = self.random.uniform(0.5, 2, channels) * (-1) ** np.arange(channels)
        return self.add("BatchNormalization", gamma, self.random.normal(size=channels),
                        self.random.normal(size=channels), self.random.uniform(0.1, 2, channels),
                        **attributes)

    def model(self, outputs: int = 1) -> onnx.ModelProto:
        """The network, of as many outputs as asked (the last results)."""
        names = [node.output[0] for node in self.nodes][-outputs:]
        graph = helper.make_graph(
            self.nodes, "small",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names],
            self.constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)],
                                 ir_version=8)

    def save(self, folder) -> str:
        """Write the network into ``folder``; its path."""
        path = str(folder / "small.onnx")
        onnx.save(self.model(), path)
        return path


def run_float(path: str, x: np.ndarray) -> np.ndarray:
    """The network's result by onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": x})[0]
