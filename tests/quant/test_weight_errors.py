"""The two error metrics of weights, on numbers worked out by hand and on a whole network."""

import numpy as np

from quant import Settings, quantize
from quant.graph import FloatConv
from quant.weight_errors import weight_errors
from ref.model import Conv2d, Requantization, Window
from tests.quant.networks import depthwise_network, image_data


def test_by_hand():
    weight = np.array([[10.0, 3.25], [-2.0, 0.0]]).reshape(2, 2, 1, 1)
    layer = FloatConv("a", ("x",), "y", Window((1, 1)), weight, np.zeros(2), 1, None)
    bounds = np.array([0, 0]), np.array([9, 9])
    # Steps 2^-16 * 2^15 = 1/2 of the result's 2 over the input's 1: one integer is 1 for row 0.
    rule = Requantization(np.zeros(2, int), np.array([1, 1]), 16, *bounds)
    made = Conv2d("a", ("x",), "y", np.array([[7, 3], [-4, 0]], np.int8).reshape(2, 2, 1, 1), 4,
                  Window((1, 1)), 1, np.zeros(2, int), rule, None)
    steps = np.array([2.0, 2.0]), np.array([2.0 ** 17, 2.0 ** 16])
    errors = weight_errors(layer, made, *steps, np.array([1.0, 1.0]))
    total = 100 + 3.25 ** 2 + 4
    assert np.isclose(errors["clipping"], 9 / total)
    assert np.isclose(errors["rounding"], 0.0625 / total)
    errors = weight_errors(layer, made, *steps, np.array([0.0, 4.0]))   # the first input is 0
    assert errors["clipping"] == 0 and np.isclose(errors["rounding"], 0.0625 / 3.25 ** 2)


def test_reported_per_layer_and_larger_with_fewer_bits(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    reports = {bits: quantize(network, data, Settings(weight_bits=bits)).metadata["weight_errors"]
               for bits in (8, 4)}
    names = [layer.name for layer in network.layers if isinstance(layer, FloatConv)]
    assert list(reports[8]) == names == list(reports[4])
    for name in names:
        few, many = reports[4][name], reports[8][name]
        assert 0 < many["rounding"] < 1e-4 < few["rounding"] < 0.05
        assert 0 <= many["clipping"] < 1e-3 and 0 <= few["clipping"] < 0.2
