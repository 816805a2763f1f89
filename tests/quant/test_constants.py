"""Dyadic constants, weight steps and clipping ranges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant.calibrate import BINS, Statistics
from quant.dyadic import (
    LARGEST_RATIO,
    LARGEST_SUM_FACTOR,
    input_ratio,
    requantizer_ratio,
    sum_multipliers,
    sum_ratios,
)
from quant.ranges import CANDIDATES, EQUAL_LEVELS, FLOOR, channel_ranges, tensor_range
from quant.weights import LinearCode, round_weights, weight_steps
from ref.model import SHIFTS

ratios = st.floats(1e-12, LARGEST_RATIO)


@given(st.lists(ratios, min_size=1, max_size=8))
def test_multipliers_are_odd_and_just_large_enough(values):
    ratio = np.array(values)
    multiplier, shift = requantizer_ratio(ratio)
    assert shift in SHIFTS and multiplier.dtype == np.int64
    assert (multiplier % 2 == 1).all() and multiplier.min() >= 1 and multiplier.max() < 1 << 15
    realized = multiplier / 2 ** shift
    assert (realized >= ratio).all() and (realized - ratio < 2 / 2 ** shift).all()
    if shift < max(SHIFTS):     # the next shift would not hold the largest
        assert ratio.max() * 2 ** SHIFTS[SHIFTS.index(shift) + 1] > (1 << 15) - 1


@given(st.lists(ratios, min_size=1, max_size=8))
def test_nearest_multipliers_are_the_ratio_s_own(values):
    multiplier, shift = requantizer_ratio(np.array(values))
    ratio = np.minimum(multiplier / 2 ** shift * (1 + 1e-7), LARGEST_RATIO)
    found = requantizer_ratio(ratio, nearest=True)
    assert np.array_equal(found[0], multiplier) and found[1] == shift


@given(st.lists(st.tuples(st.floats(2048, 32767), st.floats(1, 32767)), min_size=1, max_size=8),
       st.sampled_from([56, 127]))
def test_sums_have_small_weights_times_a_factor(values, largest):
    exact = np.array(values).T
    found = sum_multipliers(exact, largest)
    assert found.dtype == np.int64 and found.min() >= 1 and found.max() < 1 << 15
    for (one, other), wanted in zip(found.T.tolist(), exact.T, strict=True):
        assert any(one % factor == other % factor == 0 and max(one, other) // factor <= largest
                   for factor in range(1, LARGEST_SUM_FACTOR + 1))
        slack = wanted.max() / largest + largest / 2 + 1
        assert abs(one - wanted[0]) < slack and abs(other - wanted[1]) < max(slack, 64)


@given(st.integers(1, 127), st.integers(64, 127), st.integers(64, 250))
def test_sums_that_have_such_multipliers_keep_them(one, other, factor):
    exact = np.array([[one * factor], [other * factor]])
    assert np.array_equal(sum_multipliers(exact.astype(np.float64), 127), exact)


def test_ratios_of_sums_come_within_a_thousandth():
    steps = np.random.default_rng(0).uniform(0.1, 1, (2, 2000))
    for largest, error in ((127, 5e-4), (56, 1e-3)):
        multiplier, shift, step = sum_ratios(steps, steps.max(axis=0), False, largest)
        realized = multiplier * 64 / 2 ** shift * step
        assert np.abs(realized - steps).mean() < error * steps.mean()


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_ratios_out_of_reach(ratio):
    with pytest.raises(ValueError, match="outside"):
        requantizer_ratio(np.array([ratio]))


@given(st.floats(1, 1e7))
def test_input_ratio_divides_by_the_step(step):
    multiplier, shift = input_ratio(step)
    assert 1 <= multiplier < 1 << 15 and 0 <= shift <= max(SHIFTS)
    if step < 2 ** 14:
        assert multiplier / 2 ** shift * step == pytest.approx(1, rel=2e-4)


def test_input_of_step_one_passes_unchanged():
    assert input_ratio(1.0) == input_ratio(0.3) == (1, 0)


def test_weight_steps_lose_least_by_hand():
    # Three bits hold -3..3: one outlier of 3.5 is worth clipping when the others weigh enough.
    weight = np.array([[3.6, 1.0, -1.0, 2.0, 1.0, -2.0], [3.6, 1.0, -1.0, 2.0, 1.0, -2.0]])
    energy = np.array([[0.0, 1, 1, 1, 1, 1], [1e6, 1, 1, 1, 1, 1]])
    step, _ = weight_steps(weight, LinearCode(3), energy)
    assert step[0] == pytest.approx(1.0, abs=0.02) and step[1] == pytest.approx(1.2, abs=0.02)
    assert np.array_equal(round_weights(weight, step, LinearCode(3))[0], [3, 1, -1, 2, 1, -2])


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_weight_steps_lose_little_more_than_the_best_step_of_all(bits):
    weight = np.random.default_rng(bits).normal(size=(20, 200))
    largest, code = np.abs(weight).max(axis=1) / LinearCode(bits).largest, LinearCode(bits)
    every = [((weight - round_weights(weight, step, code) * step[:, None]) ** 2).sum(axis=1)
             for step in (largest * share for share in np.linspace(0.05, 1.0, 400))]
    lost = weight_steps(weight, code, np.ones(weight.shape))[1].sum()
    assert lost < 1.05 * np.min(every, axis=0).sum()


def test_weight_steps_of_zeros_and_dead_rows():
    weight = np.array([[0.0, 0.0], [1e-13, -2e-13]])
    code = LinearCode(8)
    step, _ = weight_steps(weight, code, np.ones((2, 2)))
    assert step[0] == 0 and np.array_equal(round_weights(weight, step, code)[1], [64, -127])


def statistics(*channels):
    lo, hi = (np.array([function(channel) for channel in channels]) for function in (min, max))
    histogram = np.array([np.histogram(channel, BINS, (low, high if high > low else low + 1))[0]
                          for channel, low, high in zip(channels, lo, hi, strict=True)])
    return Statistics(lo, hi, np.array([np.mean(channel) for channel in channels]),
                      np.array([np.mean(np.square(channel)) for channel in channels]), histogram)


def test_ranges_of_a_tensor_with_an_outlier():
    values = np.append(np.random.default_rng(0).uniform(0, 1, 50_000), [9.0])
    measured = statistics(values)
    assert tensor_range(measured, "max", 255) == pytest.approx(9)
    assert tensor_range(measured, "percentile", 255) == pytest.approx(1, abs=9 / BINS + 1e-9)
    assert 2.6 < tensor_range(measured, "mse", 15) < tensor_range(measured, "mse", 255) <= 9


@pytest.mark.parametrize("largest", [3, 7, 15, 127, 255])
def test_mse_range_loses_least(largest):
    """Against the errors themselves, rounding and weighted clipping, of a normal distribution."""
    values = np.random.default_rng(0).normal(size=20_000)
    ranges = np.abs(values).max() * CANDIDATES
    integers = np.clip(np.rint(values / ranges[:, None] * largest), -largest, largest)
    errors = (integers * ranges[:, None] / largest - values) ** 2
    errors *= np.where(np.abs(values) > ranges[:, None], max(1, largest / EQUAL_LEVELS), 1)
    found = tensor_range(statistics(values), "mse", largest)
    lost = errors.mean(axis=1)[np.abs(ranges - found).argmin()]
    assert lost < 1.06 * errors.mean(axis=1).min()


def test_percentile_counts_values_not_bins():
    values = np.append(np.linspace(0, 1, 100_000), np.linspace(5, 6, 5))
    assert tensor_range(statistics(values), "percentile", 255) == pytest.approx(1, abs=6 / BINS)
    many = np.append(values, np.linspace(5, 6, 20))         # more than one in 10,000
    assert tensor_range(statistics(many), "percentile", 255) > 5


def test_ranges_reach_the_larger_side():
    assert tensor_range(statistics(np.linspace(-5, 2, 1000)), "max", 127) == 5


def test_dead_channels_do_not_get_dead_scales():
    measured = statistics(np.linspace(0, 4, 100), np.full(100, 1e-13), np.zeros(100))
    for method in ("max", "percentile", "mse"):
        ranges = channel_ranges(measured, method, 255)
        assert np.array_equal(ranges[1:], np.full(2, ranges[0] * FLOOR))
    assert tensor_range(statistics(np.zeros(9)), "mse", 255) == 1.0
    assert np.array_equal(channel_ranges(statistics(np.zeros(9)), "max", 255), [FLOOR])
