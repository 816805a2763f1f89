"""QLinearConv of onnxruntime against the evaluator, on random convolutions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings

from ref import Conv2d, Requantization, run_layer, run_layers
from ref.differences import SingleConvolutions
from ref.ops import conv2d
from tests.ref.random_models import GRAPH_KINDS, models, random_model, random_samples


@settings(max_examples=60, deadline=None)
@given(models(kinds=GRAPH_KINDS) | models(kinds=("dense", "depthwise")))
def test_every_convolution(case):
    model, x = case
    expected = run_layers(model, x)
    convolutions = SingleConvolutions(model)
    for name, values in convolutions.maps(x, expected).items():
        assert np.array_equal(values, expected[name]), name
    names = {layer.name for layer in model.layers if isinstance(layer, Conv2d)}
    assert {one.layer.name for one in convolutions.layers} | set(convolutions.skipped) == names


def test_a_changed_constant_differs():
    """The allowance for ties is not one for errors: each constant changed by one shows."""
    model = random_model(np.random.default_rng(1), layers=1, kinds=("dense",), bits=8,
                         fully_connected=False)
    layer = model.layers[0]
    x = random_samples(np.random.default_rng(2), model, 20)
    expected = run_layers(model, x)
    for change in (dict(bias=layer.requantization.bias + 300),
                   dict(multiplier=layer.requantization.multiplier + 2048),
                   dict(hi=layer.requantization.hi - 1)):
        other = replace(layer, requantization=replace(layer.requantization, **change))
        maps = SingleConvolutions(replace(model, layers=(other,))).maps(x, expected)
        assert not np.array_equal(maps[layer.output], expected[layer.output]), change


def test_half_even_is_allowed_at_ties_only():
    """An even multiplier makes ties, which QLinearConv rounds to even and the contract upwards."""
    model = random_model(np.random.default_rng(5), layers=1, kinds=("pointwise",), bits=8,
                         fully_connected=False)
    layer = model.layers[0]
    ones = np.ones(len(layer.weight), np.int64)
    rule = Requantization(0 * ones, ones << 11, 16, *(ones * bound for bound in (
        model.tensors[layer.output].lo, model.tensors[layer.output].hi)))
    layer = replace(layer, requantization=rule)
    x = run_layers(model, random_samples(np.random.default_rng(2), model, 20))[layer.inputs[0]]
    sums = conv2d(x, layer.weight, layer.window, layer.pad_value, layer.groups)
    expected = run_layer(layer, x)
    assert ((sums % 32 == 16) & (np.abs(expected) < 100) & (expected % 2 != 0)).any()
    (single,) = SingleConvolutions(replace(model, layers=(layer,))).layers
    assert np.array_equal(single.results(x, expected), expected)
    assert not np.array_equal(single.rounded(x), expected)
