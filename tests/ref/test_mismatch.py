"""Exactness removed on purpose: the comparison names the layer, each time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ref import (
    Add,
    AveragePool2d,
    Concat,
    Conv2d,
    MaxPool2d,
    SpaceToDepth,
    ops,
    quantize_input,
    run_layer,
    run_layers,
)
from ref.arithmetic import Arithmetic
from ref.mismatch import find_mismatch, save_reproducer
from tests.ref.random_models import GRAPH_KINDS, random_model, random_samples


def with_rule(layer, **changes):
    """The layer with other constants of its requantization."""
    return replace(layer, requantization=replace(layer.requantization, **changes))


def with_weight(layer, weight):
    return replace(layer, weight=weight.astype(layer.weight.dtype))


def zero_padded_maximum(layer, x):
    """A maximum for which padding counts as 0."""
    top, left, bottom, right = layer.window.pads
    framed = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    return ops.max_pool2d(framed, replace(layer.window, pads=(0, 0, 0, 0)))


#: Name: (kind of layer, what computes it wrongly).
DEFECTS = {
    "rounding constant left out": (
        Conv2d, lambda layer, *x: run_layer(layer, *x, arithmetic=Arithmetic(truncates=True))),
    "shift by one more": (
        Conv2d, lambda layer, *x: run_layer(with_rule(
            layer, shift=layer.requantization.shift + 1), *x)),
    "multiplier of the next channel": (
        Conv2d, lambda layer, *x: run_layer(with_rule(
            layer, multiplier=np.roll(layer.requantization.multiplier, 1)), *x)),
    "bias not added": (
        Conv2d, lambda layer, *x: run_layer(with_rule(
            layer, bias=0 * layer.requantization.bias), *x)),
    "clip bound one less": (
        Conv2d, lambda layer, *x: run_layer(with_rule(
            layer, hi=layer.requantization.hi - 1), *x)),
    "padding value one more": (
        Conv2d, lambda layer, *x: run_layer(replace(layer, pad_value=layer.pad_value + 1), *x)),
    "padding on the other side": (
        Conv2d, lambda layer, *x: run_layer(replace(layer, window=replace(
            layer.window, pads=(*layer.window.pads[2:], *layer.window.pads[:2]))), *x)),
    "kernel turned round": (
        Conv2d, lambda layer, *x: run_layer(with_weight(layer, layer.weight[:, :, ::-1]), *x)),
    "smallest bit of one weight": (
        Conv2d, lambda layer, *x: run_layer(with_weight(layer, layer.weight ^ 1), *x)),
    "negative branch not its own": (
        Conv2d, lambda layer, *x: run_layer(with_rule(layer, multiplier_negative=None), *x)),
    "sum saturated at 8 bits": (
        Conv2d, lambda layer, *x: run_layer(layer, *x, arithmetic=Arithmetic(saturation_bits=8))),
    "average rounded down": (
        AveragePool2d, lambda layer, *x: run_layer(layer, *x,
                                                   arithmetic=Arithmetic(truncates=True))),
    "padding wins the maximum": (MaxPool2d, zero_padded_maximum),
    "operands of a sum exchanged": (
        Add, lambda layer, *x: run_layer(replace(layer, multiplier=layer.multiplier[::-1]), *x)),
    "operands of a concatenation exchanged": (
        Concat, lambda layer, *x: run_layer(layer, *x[::-1])),
    "squares column by column": (
        SpaceToDepth, lambda layer, x: np.concatenate(
            [x[:, :, dy::2, dx::2] for dx in range(2) for dy in range(2)], axis=1)),
}


def run_with_defect(model, x, number, defect):
    """All feature maps, layer ``number`` computed by ``defect``; what follows sees its result."""
    maps = {model.input.tensor: quantize_input(model, x)}
    for index, layer in enumerate(model.layers):
        compute = defect if index == number else run_layer
        maps[layer.output] = compute(layer, *(maps[name] for name in layer.inputs))
    return maps


@pytest.mark.parametrize("name", DEFECTS)
def test_the_layer_is_named(name, tmp_path):
    kind, defect = DEFECTS[name]
    named = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        model = random_model(rng, layers=4, kinds=GRAPH_KINDS, channels=6, size=8)
        x = random_samples(rng, model, 2)
        expected = run_layers(model, x)
        for number, layer in enumerate(model.layers):
            if not isinstance(layer, kind):
                continue
            given = run_with_defect(model, x, number, defect)
            if np.array_equal(given[layer.output], expected[layer.output]):
                continue            # this network does not tell: e.g. nothing reaches the bound
            found = find_mismatch(model, expected, given, "other", 10)
            assert found.layer == layer.name and found.kind == kind.__name__
            place = (found.sample - 10, found.channel, found.row, found.column)
            assert found.given == given[layer.output][place] != expected[layer.output][place]
            assert found.expected == expected[layer.output][place]
            assert (found.accumulator is None) == (kind not in (Conv2d, AveragePool2d))
            if found.accumulator is not None:
                rule = layer.requantization
                result = ops.requantize(
                    np.array([[found.accumulator - found.bias]]).repeat(len(rule.bias), axis=1),
                    rule)
                assert result[0, found.channel] == found.expected
            if not named:
                save_reproducer(tmp_path / "made", model, found, expected, given, 10)
                stored = np.load(tmp_path / "made" / "maps.npz")
                assert np.array_equal(
                    run_layer(layer, *(stored[f"input_{index}"][None]
                                       for index in range(len(layer.inputs))))[0],
                    stored["expected"])
            named += 1
        if named >= 5:
            break
    assert named >= 5


def test_equal_maps_have_no_mismatch():
    model = random_model(np.random.default_rng(0), kinds=GRAPH_KINDS)
    x = random_samples(np.random.default_rng(1), model, 3)
    maps = run_layers(model, x)
    assert find_mismatch(model, maps, {name: maps[name][:2] for name in maps}, "other") is None


def test_a_wrong_input_is_named():
    model = random_model(np.random.default_rng(0), kinds=GRAPH_KINDS)
    maps = run_layers(model, random_samples(np.random.default_rng(1), model, 3))
    given = maps | {model.input.tensor: maps[model.input.tensor] + 1}
    found = find_mismatch(model, maps, given, "other")
    assert found.layer is None and "differs first in the rounded input, sample 0" in str(found)
