"""Data wider than 8 bits: the engine reads their two planes as channels of its first layer."""

import numpy as np
import pytest

from hw.compiler import compile_program
from hw.simulate import simulate
from quant import Settings, quantize
from ref import Data, UserError

from ..quant.graphs import Graph
from .engines import CONFIGS, engine_of


def wide_network(folder, channels: int, zero, group: int = 1):
    """A quantized network with a padded first layer on 12-bit data, and the data."""
    graph = Graph(("N", channels, 7, 6)).conv(channels * 2, channels, 3, group=group,
                                              pads=[1, 1, 1, 1])
    graph.add("Relu").conv(5, channels * 2).add("GlobalAveragePool").add("Flatten")
    x = np.random.default_rng(0).integers(-2048, 2048, (6, channels, 7, 6)).astype(np.int16)
    data = Data(x, None, np.array(1 / 1024), np.array(zero, np.float64))
    return quantize(graph.save(folder), data, Settings(input_bits=12)), data


@pytest.mark.parametrize(("channels", "zero", "group"), [
    (1, 300.0, 1), (3, -77.0, 1), (3, 300.0, 3), (2, [300.0, -77.0], 1)])
def test_planes_in_simulation(tmp_path, channels, zero, group):
    model, data = wide_network(tmp_path, channels, zero, group)
    assert model.input.low_bits == 4
    program = compile_program(model, CONFIGS["c4p3"])
    result = simulate(model, program, data.x[:3], engine_of("c4p3"))
    assert result["mismatches"] == 0, result["first_mismatch"]
    assert result["cycles_per_inference"] == sum(layer.predicted_cycles for layer in program.layers)


def test_zero_points_that_differ_beyond_a_word_are_refused(tmp_path):
    model, _ = wide_network(tmp_path, 3, [300.0, -77.0, 5.0])
    with pytest.raises(UserError, match="padding differs between channels beyond the first 4"):
        compile_program(model, CONFIGS["c4p3"])
