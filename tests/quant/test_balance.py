"""The transfer of activation imbalance leaves the float function as it is."""

import re

import numpy as np
import pytest

from quant import balance, calibrate
from quant.evaluate import evaluate, evaluate_tensors, real_input
from quant.graph import FloatConv
from ref.errors import UserError
from tests.quant.networks import depthwise_network, image_data


@pytest.mark.parametrize("cap", [None, 6.0, 0.5])
@pytest.mark.parametrize("t", [0.2, 1.0])
def test_function_is_preserved_with_its_caps(tmp_path, cap, t):
    network, data = depthwise_network(tmp_path, cap=cap), image_data()
    balanced = balance(network, calibrate(network, data), t)
    x = real_input(network, data, np.float64)
    before = dict(evaluate_tensors(network, x))
    after = dict(evaluate_tensors(balanced.network, x))
    for name, value in before.items():
        factor = np.reshape(balanced.factor(name), (-1, 1, 1))
        assert np.allclose(after[name], value * factor, rtol=1e-12, atol=1e-12)
    assert np.allclose(evaluate(balanced.network, x), evaluate(network, x), rtol=1e-12, atol=1e-12)
    if cap == 0.5:      # the caps really took part
        assert any((value == cap).any() for value in before.values())


def test_edges_into_depthwise_layers_are_left_alone(tmp_path):
    network = depthwise_network(tmp_path)
    factors = balance(network, calibrate(network, image_data()), 0.2).factors
    readers = {layer.input: layer for layer in network.layers}
    # The map before the mean passes the factors of the mean on: both belong to one edge.
    mixing = [name for name in factors if isinstance(readers[name], FloatConv)]
    assert all(not readers[name].channelwise for name in mixing) and len(mixing) == 3
    assert network.output not in factors


def test_full_transfer_makes_ranges_equal_and_none_changes_nothing(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    calibration = calibrate(network, data)
    none = balance(network, calibration, 0.0)
    assert all((factor == 1).all() for factor in none.factors.values())
    full = balance(network, calibration, 1.0)
    name = next(layer.output for layer in network.layers if layer.output in full.factors)
    recalibrated = calibrate(full.network, data).tensors[name]
    reach = np.maximum(recalibrated.hi, -recalibrated.lo)
    alive = calibration.tensors[name].hi > 1e-3
    assert alive.sum() > 2 and np.allclose(reach[alive], reach.max(), rtol=1e-4)


def test_carried_calibration_equals_a_new_one(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    balanced = balance(network, calibrate(network, data), 0.3)
    again = calibrate(balanced.network, data)
    for name, statistics in again.tensors.items():
        carried = balanced.calibration.tensors[name]
        for field in ("lo", "hi", "mean", "square"):
            # the second pass rounds in float32
            assert np.allclose(getattr(statistics, field), getattr(carried, field), rtol=1e-4,
                               atol=1e-5)


def test_formula(tmp_path):
    network = depthwise_network(tmp_path, cap=None)
    calibration = calibrate(network, image_data())
    factors = balance(network, calibration, 0.2).factors
    name = next(iter(factors))
    reach = calibration.tensors[name].hi
    expected = (reach.max() / np.maximum(reach, reach.max() * 2.0 ** -14)) ** 0.2
    assert np.array_equal(factors[name], expected)


def test_exponent_outside_its_range(tmp_path):
    network = depthwise_network(tmp_path)
    calibration = calibrate(network, image_data())
    with pytest.raises(UserError, match=re.escape("the transfer exponent t is 1.5; choose it "
                                                  "between 0 and 1")):
        balance(network, calibration, 1.5)
