"""Accumulator bounds: never passed by any input, and reached by their witness."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ref import (
    AveragePool2d,
    Conv2d,
    Window,
    accumulator_bounds,
    accumulator_proof,
    layer_operands,
    ops,
    propagate,
    run_layers,
    signed_bits,
)
from tests.ref.random_models import GRAPH_KINDS, models, random_model


@pytest.mark.parametrize(("lo", "hi", "bits"), [
    (0, 0, 1), (-1, 0, 1), (0, 1, 2), (-2, 1, 2), (-3, 1, 3), (0, 127, 8), (-128, 127, 8),
    (-129, 127, 9), (0, 128, 9), (-32768, 32767, 16), (5, 32768, 17)])
def test_signed_bits(lo, hi, bits):
    assert signed_bits(lo, hi) == bits


@settings(max_examples=60, deadline=None)
@given(models() | models(kinds=GRAPH_KINDS))
def test_no_value_leaves_its_bounds(case):
    model, x = case
    bounds, maps = propagate(model), run_layers(model, x)
    for name, values in maps.items():
        lo, hi = (bound.reshape(-1, 1, 1) for bound in bounds[name])
        assert np.all((lo <= values) & (values <= hi)), name


@settings(max_examples=60, deadline=None)
@given(models() | models(kinds=GRAPH_KINDS))
def test_no_accumulator_leaves_its_proof_and_the_witness_reaches_it(case):
    model, x = case
    maps = run_layers(model, x)
    for layer in model.layers:
        if not isinstance(layer, Conv2d | AveragePool2d):
            continue
        source, proof = maps[layer.inputs[0]], layer.proof
        weight, bias, _, groups = layer_operands(layer, source.shape[1])
        if isinstance(layer, Conv2d):
            sums = ops.conv2d(source, weight, layer.window, layer.pad_value, groups)
        else:
            sums = ops.average_pool2d(source, layer.window)
        sums = sums + bias.reshape(-1, 1, 1)
        assert proof.lo <= sums.min() and sums.max() <= proof.hi
        assert proof.bits == signed_bits(proof.lo, proof.hi)

        # The witness window alone, in every channel of its group, gives the extreme value.
        window = np.tile(proof.witness, (groups, 1, 1))[None]
        reached = ops.conv2d(window, weight, Window(layer.window.kernel),
                             np.zeros(window.shape[1], np.int64), groups)
        assert reached[0, proof.channel].item() + bias[proof.channel] == max(
            proof.hi, proof.lo, key=abs)


@given(st.integers(0, 2**32 - 1))
def test_bounds_are_the_extremes_over_all_corner_inputs(seed):
    """Every corner of a small box, by enumeration; padding is one more value a tap may meet."""
    rng = np.random.default_rng(seed)
    weight = rng.integers(-127, 128, (3, 2, 1, 2)).astype(np.int8)
    bias = rng.integers(-500, 500, 3)
    lo = rng.integers(-128, 0, 2)
    hi = rng.integers(0, 128, 2)
    pad = rng.integers(-128, 128, 2)
    for padding, choices in ((None, (lo, hi)), (pad, (lo, hi, pad))):
        corners = np.stack(np.meshgrid(*[range(len(choices))] * 4, indexing="ij")).reshape(4, -1)
        values = np.array(choices)                                  # (choice, channel)
        taps = values[corners, np.array([0, 0, 1, 1])[:, None]]     # (channel and tap, corner)
        sums = weight.reshape(3, 4).astype(np.int64) @ taps + bias[:, None]
        low, high = accumulator_bounds(weight, bias, lo, hi, padding, 1)
        assert np.array_equal(low, sums.min(axis=1))
        assert np.array_equal(high, sums.max(axis=1))
        proof = accumulator_proof(weight, bias, lo, hi, padding, 1)
        assert (proof.lo, proof.hi) == (low.min(), high.max())


def test_equal_generators_give_equal_models():
    first, second = (random_model(np.random.default_rng(7)) for _ in range(2))
    assert repr(first) == repr(second)
