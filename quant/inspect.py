"""What the import makes of a float network: layers, sizes, fused operators, ranges, dead channels.
"""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ref.data import Data, load_data

from .balance import uniformity
from .calibrate import Calibration, calibrate
from .graph import (
    FloatAdd,
    FloatAveragePool,
    FloatConcat,
    FloatConv,
    FloatLayer,
    FloatMaxPool,
    FloatNetwork,
    FloatWindowed,
    Leaky,
    cap_of,
    is_rectified,
)
from .import_onnx import import_onnx
from .onnx_file import QUANTIZING, OnnxGraph, read_graph, where
from .transfer import SMALLEST, reach

#: Names of the kinds of layers that are no convolutions; the rest is space-to-depth.
KINDS = {FloatAdd: "add", FloatAveragePool: "average pool", FloatConcat: "concat",
         FloatMaxPool: "max pool"}


def inspect(net: str | Path, calib: str | Path | Data | None = None) -> dict[str, Any]:
    """A float ONNX file as the quantizer sees it, in JSON values.

    ``network``; ``opset``; ``input`` (``name``, ``shape``); ``operators``, the nodes that act on
    data by type; ``host``, those after the last layer; ``weights`` and ``macs`` in all; ``samples``
    of the calibration data, or null; ``layers``, each with ``name``, ``kind``, ``inputs``,
    ``output``, ``shape`` of the result (C, H, W), ``kernel`` and ``stride`` (null without window),
    ``activation``, ``weights``, ``macs``, ``operators`` (the nodes in it) and ``zero_rows``, the
    output channels whose weights are all 0 beside the layer's (`SMALLEST`). With ``calib`` also
    ``lo`` and ``hi`` of the result, its ``uniformity`` (`quant.balance`) and ``dead``, the channels
    that the calibration data do not move. Raises `UserError` naming each unsupported operator.
    """
    graph, network = read_graph(net), import_onnx(net)
    calibration = None
    if calib is not None:
        data = calib if isinstance(calib, Data) else load_data(calib)
        calibration = calibrate(network, data)
    fused = _nodes_of_layers(graph, network)
    layers = [_layer(layer, network, calibration) | {"operators": fused[layer.output]}
              for layer in network.layers]
    inside = {node for nodes in fused.values() for node in nodes}
    return {
        "network": network.name, "opset": graph.opset,
        "input": {"name": network.input, "shape": list(network.own_input_shape)},
        "operators": dict(Counter(node.op_type for node in graph.nodes).most_common()),
        "host": [where(node) for node in graph.nodes
                 if where(node) not in inside and node.op_type not in QUANTIZING],
        "weights": sum(layer["weights"] for layer in layers),
        "macs": sum(layer["macs"] for layer in layers),
        "samples": None if calibration is None else calibration.samples, "layers": layers}


def _nodes_of_layers(graph: OnnxGraph, network: FloatNetwork) -> dict[str, list[str]]:
    """The nodes between each layer's inputs and its result, in order, by the result's name."""
    makers = {name: index for index, node in enumerate(graph.nodes) for name in node.output}
    ends = {layer.output for layer in network.layers}
    found = {}
    for layer in network.layers:
        indices, pending = set(), [layer.output]
        while pending:
            index = makers.get(pending.pop())
            if index is not None:
                indices.add(index)
                pending += [name for name in graph.nodes[index].input if name not in ends]
        found[layer.output] = [where(graph.nodes[index]) for index in sorted(indices)]
    return found


def _layer(layer: FloatLayer, network: FloatNetwork, calibration: Calibration | None
           ) -> dict[str, Any]:
    """One layer's entry but its operators."""
    shapes = network.shapes()
    shape = shapes[layer.output]
    window = layer.window if isinstance(layer, FloatWindowed) else None
    entry: dict[str, Any] = {
        "name": layer.name, "kind": _kind(layer, shapes[layer.input]),
        "inputs": list(layer.inputs), "output": layer.output, "shape": list(shape),
        "kernel": None if window is None else list(window.kernel),
        "stride": None if window is None else list(window.stride),
        "activation": _activation(layer), "weights": 0, "macs": 0, "zero_rows": []}
    if isinstance(layer, FloatConv):
        largest = np.abs(layer.weight).max(axis=(1, 2, 3))
        entry |= {"weights": layer.weight.size,
                  "macs": math.prod(shape) * layer.weight[0].size,
                  "zero_rows": _below(largest, float(largest.max()))}
    if calibration is not None:
        statistics = calibration.tensors[layer.output]
        whole = reach(statistics)
        entry |= {"lo": float(statistics.lo.min()), "hi": float(statistics.hi.max()),
                  "uniformity": uniformity(statistics),
                  "dead": _below(statistics.hi - statistics.lo, float(whole.max()))}
    return entry


def _below(values: np.ndarray, largest: float) -> list[int]:
    """The channels whose value is next to nothing beside ``largest``."""
    return np.flatnonzero(values <= largest * SMALLEST).tolist()


def _kind(layer: FloatLayer, source: tuple[int, int, int]) -> str:
    """What a layer is, in words; ``source`` is the shape of the map it reads."""
    if not isinstance(layer, FloatConv):
        return KINDS.get(type(layer), "space to depth")
    if layer.window.kernel == source[1:] and not any(layer.window.pads):
        return "fully connected"
    if layer.groups > 1:
        return "depthwise" if layer.channelwise else "grouped"
    return "pointwise" if layer.window.kernel == (1, 1) else "convolution"


def _activation(layer: FloatLayer) -> str | None:
    """A layer's activation in words."""
    if not isinstance(layer, FloatConv | FloatAdd) or layer.activation is None:
        return None
    if isinstance(layer.activation, Leaky):
        return f"leaky ReLU {np.mean(layer.activation.slope):g}"
    assert is_rectified(layer.activation)
    cap = float(cap_of(layer.activation).max())
    return "ReLU" if cap == math.inf else f"ReLU{cap:g}"
