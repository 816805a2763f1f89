"""Channel counts of the ARM keyword spotters: 172 and 276 leave half a word of eight empty."""

import numpy as np
import pytest

from hw.compiler import compile_program
from hw.simulate import simulate
from quant import quantize
from ref import Data

from ..quant.graphs import Graph
from .engines import CONFIGS, engine_of


@pytest.mark.parametrize("channels", [172, 276])
def test_asymmetric_windows_and_uneven_channels(tmp_path, channels):
    """Their first layers: kernels (10, 4), strides (2, 1), paddings [4, 1, 5, 2] and [1, 0, 1, 1].
    """
    graph = Graph(("N", 1, 7, 4)).conv(channels, 1, (10, 4), strides=[2, 1], pads=[4, 1, 5, 2])
    graph.add("Relu").conv(channels, channels, 3, group=channels, strides=[2, 2],
                           pads=[1, 0, 1, 1])
    graph.add("Relu").conv(6, channels).add("GlobalAveragePool").add("Flatten")
    x = np.random.default_rng(0).integers(-128, 128, (8, 1, 7, 4)).astype(np.int8)
    data = Data(x, None, np.array(1 / 64), np.array(0.0))
    model = quantize(graph.save(tmp_path), data, "w4a8")        # for an engine of 20-bit sums
    assert model.layers[0].weight.shape[0] == channels
    program = compile_program(model, CONFIGS["c8p5"])
    result = simulate(model, program, x[:2], engine_of("c8p5"))
    assert result["mismatches"] == 0, result["first_mismatch"]
    assert result["cycles_per_inference"] == sum(layer.predicted_cycles for layer in program.layers)
