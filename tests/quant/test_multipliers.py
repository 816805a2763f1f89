"""Narrow multipliers: a significand of few bits times one of four powers of two."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant import PRESETS, Settings, quantize
from quant.dyadic import (
    LARGEST_RATIO,
    NARROW_BITS,
    POWERS,
    largest_ratio,
    narrow_ratios,
)
from quant.multipliers import narrow_multipliers
from quant.weights import LinearCode, round_weights
from ref import AveragePool2d, Conv2d, UserError, run_layers
from ref.model import SHIFTS
from ref.onnx_integer import integer_onnx
from ref.oracles import EXECUTORS, run_integer_onnx
from tests.quant.graphs import Graph
from tests.quant.networks import depthwise_network, image_data
from tests.quant.test_ausn import noise


def significant(multiplier):
    """Bits from the first to the last 1."""
    return int(multiplier).bit_length() - (int(multiplier) & -int(multiplier)).bit_length() + 1


@given(st.lists(st.floats(1e-9, 1), min_size=1, max_size=5), st.sampled_from(NARROW_BITS))
def test_their_form_and_that_they_enclose_the_ratio(shares, bits):
    ratio = np.array(shares) * largest_ratio(bits)
    found, shift = narrow_ratios(ratio, bits)
    assert shift in SHIFTS and 1 <= found.min() and found.max() < 1 << 15
    assert max(map(significant, found.ravel())) <= bits
    powers = [int(one).bit_length() for one in found.ravel()]
    assert max(powers) - min(powers) < POWERS
    exact, smallest = ratio * 2.0 ** shift, found.min()
    for column, one in zip(found.T, exact, strict=True):
        assert column.max() >= one * (1 - 1e-9) or column.max() == found.max()
        assert column.min() <= max(one, smallest)
        if one >= smallest:             # the nearest below and above are among them
            places = [m << k for k in range(16) for m in range(1, 1 << bits) if m << k < 1 << 15]
            above = [place for place in places if place >= one * (1 - 1e-9)]
            assert not above or min(above) in column
            below = max(place for place in places if place <= one * (1 + 1e-9))
            assert below in column or below < smallest


def test_by_hand():
    found, shift = narrow_ratios(np.array([0.26, 0.07]), 3)
    assert shift == 16
    assert (found / 2 ** 16).T.tolist() == [[0.1875, 0.25, 0.3125, 0.375],
                                            [0.046875, 0.0625, 0.078125, 0.09375]]
    found, shift = narrow_ratios(np.array([0.2, 0.0001]), 1)
    assert (found / 2 ** shift).T.tolist() == [[0.03125, 0.125, 0.25, 0.25], [0.03125] * 4]


@pytest.mark.parametrize("bits", NARROW_BITS)
def test_ratios_outside_are_refused(bits):
    for ratio in (0.0, largest_ratio(bits) * 1.0001):
        with pytest.raises(ValueError, match="is outside"):
            narrow_ratios(np.array([ratio]), bits)


def test_the_largest_ratio_grows_with_the_bits():
    assert largest_ratio(1) == 0.25 and largest_ratio(15) == LARGEST_RATIO


def test_the_one_with_which_weights_lose_least():
    random, code = np.random.default_rng(0), LinearCode(4)
    weight, energy = random.normal(size=(6, 30)), random.uniform(1, 2, (6, 30))
    unit, step = np.abs(weight).max(axis=1) / 7, random.uniform(1, 4, 6)
    candidates, shift = narrow_ratios(unit / step, 2)

    def lost(multiplier):
        made = multiplier * 2.0 ** -shift * step
        return ((weight - round_weights(weight, made, code) * made[:, None]) ** 2 * energy).sum(1)

    found, found_shift = narrow_multipliers(weight, unit, step, code, energy, 2, False)
    assert found_shift == shift
    assert np.array_equal(lost(found), np.min([lost(one) for one in candidates], axis=0))
    fitting, _ = narrow_multipliers(weight, unit, step, code, energy, 2, True)
    assert (fitting * 2.0 ** -shift * step >= unit * (1 - 1e-9)).all()


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("bits", [1, 3])
def test_a_network_is_exact_everywhere(tmp_path, executor, bits):
    settings = replace(PRESETS["mixed4"], multiplier_bits=bits)
    model = quantize(depthwise_network(tmp_path, cap=None), image_data(), settings)
    for layer in model.layers:
        assert isinstance(layer, Conv2d | AveragePool2d) and layer.proof.bits <= 16
        multiplier = layer.requantization.multiplier
        assert max(map(significant, multiplier)) <= bits
        lengths = [int(one).bit_length() for one in multiplier]
        assert max(lengths) - min(lengths) < POWERS
    x = image_data(seed=2).head(8).x
    maps = run_layers(model, x)
    del maps[model.input.tensor]
    values = run_integer_onnx(integer_onnx(model), x, executor, maps)
    for name, expected in maps.items():
        assert np.array_equal(values[name].reshape(expected.shape), expected), name


def test_they_cost_little(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    lost = {bits: noise(quantize(network, data, Settings(weight_bits=4, multiplier_bits=bits)),
                        network, data) for bits in (1, 4, 15)}
    assert lost[4] < 1.3 * lost[15] and lost[1] < 3 * lost[15]


@pytest.mark.parametrize("bits", [0, 9, 14, 16, 4.0])
def test_other_widths_are_refused(bits):
    with pytest.raises(UserError, match=f"multipliers of {bits} bits are not supported; choose 1 "
                                        "to 8, or 15"):
        Settings(multiplier_bits=bits)


def test_leaky_layers_are_refused(tmp_path):
    graph = Graph(("N", 3, 12, 10)).conv(4, 3).add("LeakyRelu", alpha=0.1).conv(2, 4)
    with pytest.raises(UserError, match="has a leaky ReLU, whose second multiplier has 15 bits"):
        quantize(graph.save(tmp_path), image_data(), replace(PRESETS["w8a8"], multiplier_bits=4))


def test_the_preset_for_lanes_of_both_kinds(tmp_path):
    assert PRESETS["mixed4"] == Settings(
        weight_bits=4, weight_code="mixed", activation_bits=4, activation_code="ausn",
        multiplier_bits=1, accumulator_bits=16)
    model = quantize(depthwise_network(tmp_path, cap=None), image_data(), "mixed4")
    assert model.metadata["preset"] == "mixed4"
    for layer in model.layers:
        rule = layer.requantization
        assert (rule.multiplier & (rule.multiplier - 1) == 0).all()     # powers of two
        assert (rule.code is None) == (layer is model.layers[-1])
