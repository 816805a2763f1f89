"""The transfer of activation imbalance leaves the float function as it is."""

import itertools
import re

import numpy as np
import pytest

from quant import Settings, balance, calibrate, quantize
from quant.calibrate import Statistics
from quant.evaluate import evaluate, evaluate_tensors, real_input
from quant.graph import FloatConv
from quant.transfer import Edge, Exponents, predicted_error, transfer_factor
from ref.errors import UserError
from ref.model import Conv2d, Window
from tests.quant.networks import depthwise_network, image_data


@pytest.mark.parametrize("cap", [None, 6.0, 0.5])
@pytest.mark.parametrize("t", [0.2, 1.0])
def test_function_is_preserved_with_its_caps(tmp_path, cap, t):
    network, data = depthwise_network(tmp_path, cap=cap), image_data()
    balanced = balance(network, calibrate(network, data), Settings(transfer=t))
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
    factors = balance(network, calibrate(network, image_data()), Settings(transfer=0.2)).factors
    readers = {layer.input: layer for layer in network.layers}
    # The map before the mean passes the factors of the mean on: both belong to one edge.
    mixing = [name for name in factors if isinstance(readers[name], FloatConv)]
    assert all(not readers[name].channelwise for name in mixing) and len(mixing) == 3
    assert network.output not in factors


def test_full_transfer_makes_ranges_equal_and_none_changes_nothing(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    calibration = calibrate(network, data)
    none = balance(network, calibration, Settings(transfer=0.0))
    assert all((factor == 1).all() for factor in none.factors.values())
    full = balance(network, calibration, Settings(transfer=1.0))
    name = next(layer.output for layer in network.layers if layer.output in full.factors)
    recalibrated = calibrate(full.network, data).tensors[name]
    reach = np.maximum(recalibrated.hi, -recalibrated.lo)
    alive = calibration.tensors[name].hi > 1e-3
    assert alive.sum() > 2 and np.allclose(reach[alive], reach.max(), rtol=1e-4)


def test_carried_calibration_equals_a_new_one(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    balanced = balance(network, calibrate(network, data), Settings(transfer=0.3))
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
    factors = balance(network, calibration, Settings(transfer=0.2)).factors
    name = next(iter(factors))
    reach = calibration.tensors[name].hi
    expected = (reach.max() / np.maximum(reach, reach.max() * 2.0 ** -14)) ** 0.2
    assert np.array_equal(factors[name], expected)


@pytest.mark.parametrize("transfer", [1.5, -0.1, "best", (), (0.2, 2.0), (0.1,) * 4])
def test_exponents_outside_their_range(transfer):
    with pytest.raises(UserError, match=re.escape(f"the transfer is {transfer!r}; give its "
                                                  "exponent t, or t, u and v, each between 0")):
        Settings(transfer=transfer)


def test_unknown_weight_scale():
    with pytest.raises(UserError, match="the weight scale 'row' is unknown; use one of channel"):
        Settings(weight_scale="row")


@pytest.mark.parametrize("cap", [None, 0.5])
@pytest.mark.parametrize("weight_scale", ["channel", "tensor"])
def test_search_preserves_the_function_and_lowers_the_predicted_error(tmp_path, cap, weight_scale):
    network, data = depthwise_network(tmp_path, cap=cap), image_data()
    settings = Settings(weight_bits=4, transfer="search", weight_scale=weight_scale)
    balanced = balance(network, calibrate(network, data), settings)
    x = real_input(network, data, np.float64)
    after = dict(evaluate_tensors(balanced.network, x))
    for name, value in evaluate_tensors(network, x):
        assert np.allclose(after[name], value * np.reshape(balanced.factor(name), (-1, 1, 1)),
                           rtol=1e-12, atol=1e-12)
    # Per layer also the edges into depthwise layers are used, and only there t has no part.
    readers = {layer.input: layer for layer in network.layers}
    depthwise = {name: found for name, found in balanced.exponents.items()
                 if getattr(readers[name], "channelwise", False)}
    assert bool(depthwise) == (weight_scale == "tensor")
    assert all(found.t == 0 for found in depthwise.values())
    assert any(found.u > 0 for found in balanced.exponents.values())
    assert (weight_scale == "tensor") == any(found.v > 0 for found in balanced.exponents.values())


def test_the_user_can_fix_all_three_exponents(tmp_path):
    network = depthwise_network(tmp_path)
    calibration = calibrate(network, image_data())
    for scale in ("channel", "tensor"):
        balanced = balance(network, calibration, Settings(transfer=(0.3, 0.5, 0.7),
                                                          weight_scale=scale))
        readers = {layer.input: layer for layer in network.layers}
        assert len(balanced.exponents) == (3 if scale == "channel" else 5)
        for name, found in balanced.exponents.items():
            into_depthwise = readers[name].weight.shape[1] == 1
            assert found == Exponents(0.0 if into_depthwise else 0.3, 0.5, 0.7)
    plain, same = (balance(network, calibration, Settings(transfer=transfer))
                   for transfer in (0.3, (0.3, 0.0)))
    assert all(np.array_equal(plain.factors[name], same.factors[name]) for name in plain.factors)


def test_predicted_error_follows_the_measured_one():
    """Noise of rounding a map and two layers' weights, one edge, over a grid of exponents."""
    random = np.random.default_rng(0)
    spread = 4.0 ** random.uniform(-2, 0, 16)
    x = random.normal(size=(2000, 8))
    first = random.normal(size=(16, 8)) * spread[:, None]
    second = random.normal(size=(12, 16)) * 4.0 ** random.uniform(-1, 1, 16)
    value = np.maximum(x @ first.T, 0)
    statistics = Statistics(value.min(0), value.max(0), value.mean(0), (value ** 2).mean(0),
                            np.zeros((16, 1)))
    def convolution(name, weight):
        return FloatConv(name, (name,), name + "_out", Window((1, 1)), weight[:, :, None, None],
                         np.zeros(len(weight)), 1, "relu")

    edge = Edge(statistics, convolution("a", first), convolution("b", second), np.ones(12),
                np.full(16, 8.0))
    def rounded(values, step):
        return np.rint(values / step) * step

    def measured(factor, largest):
        w1, w2 = first * factor[:, None], second / factor
        w1 = rounded(w1, np.abs(w1).max() / largest)
        w2 = rounded(w2, np.abs(w2).max() / largest)
        middle = np.maximum(x @ w1.T, 0)
        return ((rounded(middle, middle.max() / 255) @ w2.T - value @ second.T) ** 2).mean(0).sum()

    settings = Settings(weight_bits=6, weight_scale="tensor")
    pairs = []
    for t, u, v in itertools.product([0.0, 0.3, 0.6, 1.0], repeat=3):
        factor = transfer_factor(edge, Exponents(t, u, v))
        pairs.append((predicted_error(edge, factor, settings), measured(factor, 31)))
    predicted, found = np.log(np.array(pairs)).T
    assert np.corrcoef(predicted, found)[0, 1] > 0.95


def test_report_of_the_balance(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    model = quantize(network, data, Settings(transfer=1.0))
    report = model.metadata["balance"]
    for name, value in evaluate_tensors(network, real_input(network, data)):
        if name in report:
            entry = report[name]
            assert entry["t"] == 1 and entry["u"] == entry["v"] == 0
            assert np.isclose(entry["uniformity_before"],
                              np.sqrt((value ** 2).mean()) / value.max())
            largest = value.max(axis=(0, 2, 3), keepdims=True)
            even = value / np.maximum(largest, largest.max() * 2.0 ** -14)
            assert np.isclose(entry["uniformity_after"], np.sqrt((even ** 2).mean()))
            assert entry["uniformity_after"] > entry["uniformity_before"]
    assert len(report) == 3


def test_weights_of_a_layer_share_one_step(tmp_path):
    network, data = depthwise_network(tmp_path, cap=None), image_data()
    model = quantize(network, data, Settings(weight_scale="tensor", transfer=0.0,
                                             rounding="nearest"))
    for layer, real in zip(model.layers, network.layers, strict=True):
        if not isinstance(layer, Conv2d):
            continue
        largest = np.abs(real.weight).max(axis=(1, 2, 3))
        shown = np.abs(layer.weight.astype(int)).max(axis=(1, 2, 3))
        inside = (shown > 0) & (shown < 127)                  # the search may clip the others
        step = np.median(largest[inside] / shown[inside])
        close = np.abs(shown - largest / step)[inside] < 1    # nearly dead channels aside
        assert inside.sum() > 2 and close.mean() > 0.8
    rows = quantize(network, data, Settings(transfer=0.0)).layers[0]
    assert np.abs(rows.weight.astype(int)).max(axis=(1, 2, 3)).min() > 60
