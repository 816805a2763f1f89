"""Greedy rounding: less error on the data than rounding each weight alone, and the exact mean."""

import dataclasses

import numpy as np
import pytest

from quant import PRESETS, Settings, quantize
from quant.evaluate import evaluate, real_input
from quant.greedy import BLOCK, Moments
from quant.weights import LinearCode, round_weights
from ref.errors import UserError
from ref.run import logits, run_layers
from tests.quant.networks import depthwise_network, image_data

CODE = LinearCode(4)


def correlated(samples, channels, groups=1, seed=0):
    """Inputs (groups, samples, channels) that share a few causes, and are positive."""
    random = np.random.default_rng(seed)
    causes = random.normal(size=(groups, samples, max(2, channels // 4)))
    mixed = causes @ random.normal(size=(groups, causes.shape[2], channels))
    return np.maximum(20 * mixed + 5 * random.normal(size=mixed.shape), 0)


def moments_of(integer, real):
    return Moments.of(integer.copy(), real.copy())


@pytest.mark.parametrize(("groups", "fan_in", "rows"), [
    (1, 2 * BLOCK + 9, 6), (1, 16, 6), (5, 9, 1), (3, 12, 2)])
def test_sums_on_the_data_are_closer_than_with_nearest_rounding(groups, fan_in, rows):
    random = np.random.default_rng(1)
    x = correlated(4000, fan_in, groups)
    weight = random.normal(size=(groups * rows, fan_in, 1, 1))
    unit = np.abs(weight).max(axis=(1, 2, 3)) / 7
    moments = moments_of(np.rint(x), x)

    def error(integers):
        difference = (weight - integers * unit[:, None, None, None]).reshape(groups, rows, fan_in)
        sums = x @ difference.transpose(0, 2, 1)
        return (sums - sums.mean(axis=1, keepdims=True)).var()

    integers = moments.round(weight, unit, CODE)
    assert np.array_equal(integers, np.rint(integers)) and np.abs(integers).max() <= 7
    assert error(integers) < 0.6 * error(round_weights(weight, unit, CODE))


def test_blocks_change_nothing(monkeypatch):
    x = correlated(1000, 30)
    weight = np.random.default_rng(2).normal(size=(4, 30, 1, 1))
    moments, unit = moments_of(x, x), np.full(4, 0.3)
    whole = moments.round(weight, unit, CODE)
    monkeypatch.setattr("quant.greedy.BLOCK", 7)
    assert np.array_equal(moments.round(weight, unit, CODE), whole)


def test_uncorrelated_inputs_give_nearest_rounding():
    weight = np.random.default_rng(3).normal(size=(4, 10, 1, 1))
    unit = np.full(4, 0.3)
    equal, zeros = np.broadcast_to(np.eye(10), (2, 1, 10, 10)), np.zeros((1, 10))
    moments = Moments(equal, equal, zeros, zeros, 100)
    assert np.array_equal(moments.round(weight, unit, CODE), round_weights(weight, unit, CODE))


def test_weights_make_good_what_the_integer_network_did_to_its_inputs():
    x = np.random.default_rng(4).normal(size=(1, 10 ** 5, 4))
    mixing = np.eye(4) + np.array([[0, 1, 0, 0], [0, 0, 0, 2], [0, 0, 0.5, 0], [0, 0, 0, 0]])
    weight = np.array([4.0, 3, 6, 2]).reshape(1, 4, 1, 1)
    found = moments_of(x, x @ mixing).round(weight, np.ones(1), LinearCode(8))
    assert np.array_equal(found.ravel(), mixing @ weight.ravel())


def test_what_does_not_hold_for_other_samples_is_not_fitted():
    """Two halves that contradict each other: what a fit wins on one it loses on the other."""
    random = np.random.default_rng(6)
    x = np.tile(correlated(30, 20), (1, 2, 1))
    weight = random.normal(size=(4, 20, 1, 1))
    unit = np.abs(weight).max() / 127 * np.ones(4)
    lost = x @ random.normal(size=(20, 20)) * np.repeat([1, -1], 30)[:, None]
    moments = moments_of(x, x + lost)
    unfitted = dataclasses.replace(moments, cross=moments.integer)
    assert np.array_equal(moments.round(weight, unit, LinearCode(8)),
                          unfitted.round(weight, unit, LinearCode(8)))
    one_half = moments_of(x[:, :30], (x + lost)[:, :30])
    assert not np.array_equal(one_half.round(weight, unit, LinearCode(8)),
                              unfitted.round(weight, unit, LinearCode(8)))


def test_one_window_is_enough():
    x = np.ones((1, 1, 5))
    weight = np.random.default_rng(7).normal(size=(3, 5, 1, 1))
    assert np.isfinite(moments_of(x, x).round(weight, np.ones(3), CODE)).all()


def test_inputs_that_are_always_zero_do_no_harm():
    zeros = np.zeros((2, 50, 9))
    weight = np.random.default_rng(5).normal(size=(2, 1, 3, 3))
    integers = moments_of(zeros, zeros).round(weight, np.array([0.3, 0.0]), CODE)
    assert np.isfinite(integers).all() and integers.shape == weight.shape


def test_bias_makes_the_mean_that_of_the_float_layer(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    settings = Settings(weight_bits=4, rounding="greedy")
    real = evaluate(network, real_input(network, data, np.float64))[:, :, 0, 0]
    errors = {}
    for rounding in ("nearest", "greedy"):
        model = quantize(network, data, dataclasses.replace(settings, rounding=rounding))
        found = logits(model, data.x) * model.output_tensor.scale
        errors[rounding] = ((found - real) ** 2).mean(), np.abs((found - real).mean(axis=0)).max()
    scale = model.output_tensor.scale
    assert errors["greedy"][0] < 0.5 * errors["nearest"][0]
    assert errors["greedy"][1] < 0.6 * scale            # the mean is right to a rounding


def test_first_layer_with_an_offset_and_padding(tmp_path):
    network, data = depthwise_network(tmp_path, cap=None), image_data()
    model = quantize(network, data, Settings(rounding="greedy"))
    stem = network.layers[0].output
    maps = run_layers(model, data.x)
    real = evaluate(dataclasses.replace(network, layers=network.layers[:1]),
                    real_input(network, data, np.float64))
    found = maps[stem] * model.tensors[stem].scale.reshape(-1, 1, 1)
    assert ((found - real) ** 2).sum() < 1e-4 * (real ** 2).sum()


def test_presets_and_unknown_rounding():
    assert {found.rounding for found in PRESETS.values()} == {"greedy"}
    with pytest.raises(UserError, match="the rounding 'up' is unknown; use one of nearest, greedy"):
        Settings(rounding="up")
