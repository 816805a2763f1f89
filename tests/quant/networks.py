"""Small float networks with data, for the quantizer's tests."""

from __future__ import annotations

import numpy as np

from quant.graph import FloatNetwork
from quant.import_onnx import import_onnx
from ref.data import Data
from tests.quant.graphs import Graph


def depthwise_graph(cap: float | None = 6.0, channels: int = 12, seed: int = 0) -> Graph:
    """Stem, depthwise, pointwise, depthwise, pointwise, mean, scores; unequal channel ranges."""
    graph = Graph(("N", 3, 12, 10), seed=seed)

    def activate():
        return graph.add("Relu") if cap is None else graph.add("Clip", 0.0, cap)

    graph.conv(channels, 3, 3, strides=[2, 2], pads=[0, 0, 1, 1])
    graph.add("Mul", 4.0 ** graph.random.uniform(-2, 1, (1, channels, 1, 1)))
    activate()
    for _ in range(2):
        graph.conv(channels, channels, 3, group=channels, pads=[1, 1, 1, 1])
        activate()
        graph.conv(channels, channels).norm(channels)
        activate()
    graph.add("GlobalAveragePool").add("Flatten")
    return graph.add("Gemm", graph.random.normal(size=(channels, 5)), graph.random.normal(size=5))


def depthwise_network(tmp_path, **options) -> FloatNetwork:
    """The imported network of `depthwise_graph`."""
    return import_onnx(depthwise_graph(**options).save(tmp_path))


def image_data(shape=(3, 12, 10), samples: int = 40, seed: int = 1) -> Data:
    """Smooth random images as uint8 with an offset."""
    random = np.random.default_rng(seed)
    coarse = random.normal(size=(samples, shape[0], 3, 3))
    smooth = np.repeat(np.repeat(coarse, -(-shape[1] // 3), 2), -(-shape[2] // 3), 3)
    image = 128 + 50 * smooth[:, :, :shape[1], :shape[2]] + random.normal(size=(samples, *shape))
    return Data(np.clip(np.rint(image), 0, 255).astype(np.uint8), None, np.array(1 / 64),
                np.array(127.5))
