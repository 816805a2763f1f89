"""Sums, concatenations, squares to channels and leaky ReLU: formulas by hand and broken rules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ref import (
    Add,
    Concat,
    Input,
    Model,
    Requantization,
    SpaceToDepth,
    Tensor,
    UserError,
    check_model,
    ops,
    run,
    run_layer,
)
from ref.model import SHIFTS
from ref.onnx_integer import integer_onnx
from ref.oracles import run_integer_onnx
from ref.plain import requantize_plain, run_layer_plain
from tests.ref.random_models import GRAPH_KINDS, random_model


def constants(*values):
    return np.array(values, np.int64)


def tensor(name, shape, signed=False, bits=8, scale=0.5):
    return Tensor(name, shape, bits, signed, np.array(scale))


def sum_model(**changes):
    """The input added to itself; fields of the sum can be replaced."""
    source, result = tensor("x", (1, 2, 2)), tensor("y", (1, 2, 2))
    layer = Add("sum", ("x", "x"), "y", constants([1024], [512]), 16, constants(0),
                constants(255))
    return Model("sum", Input("x", "uint8", 1, 0, np.array(0.5), np.array(0.0), source.shape),
                 {"x": source, "y": result}, (replace(layer, **changes),))


@given(st.integers(-128, 255), st.integers(-128, 255), st.integers(1, 2**15 - 1),
       st.integers(1, 2**15 - 1), st.sampled_from(SHIFTS))
def test_sum_by_hand(a, b, first, second, shift):
    layer = Add("sum", ("a", "b"), "y", constants([first], [second]), shift, constants(-128),
                constants(127))
    exact = 64 * (a * first + b * second) / 2**shift     # below 2^53: exact
    expected = min(max(int(np.floor(exact + 0.5)), -128), 127)
    assert run_layer(layer, constants([[[a]]]), constants([[[b]]])).item() == expected
    assert run_layer_plain(layer, [[[a]]], [[[b]]]) == [[[expected]]]
    assert abs(64 * (a * first + b * second)) + (1 << 27) < 1 << 31


@given(st.integers(-2**31, 2**31 - 1), st.integers(1, 2**15 - 1), st.integers(0, 2**15 - 1),
       st.sampled_from(SHIFTS))
def test_leaky_requantization_equals_its_branches(accumulator, multiplier, negative, shift):
    rule = Requantization(constants(0), constants(multiplier), shift, constants(-128),
                          constants(127), constants(negative))
    branch = replace(rule, multiplier_negative=None,
                     multiplier=constants(negative if accumulator < 0 else multiplier))
    expected = ops.requantize(constants([accumulator]), branch).item()
    assert ops.requantize(constants([accumulator]), rule).item() == expected
    assert requantize_plain(accumulator, rule, 0) == expected


def test_squares_are_in_the_order_of_onnx():
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    x = np.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    proto = helper.make_model(helper.make_graph(
        [helper.make_node("SpaceToDepth", ["x"], ["y"], blocksize=2)], "squares",
        [helper.make_tensor_value_info("x", TensorProto.INT64, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT64, None)]))
    expected = ReferenceEvaluator(proto).run(None, {"x": x})[0]
    layer = SpaceToDepth("squares", ("x",), "y")
    assert np.array_equal(run_layer(layer, x), expected)
    assert np.array_equal(run_layer_plain(layer, x[1].tolist()), expected[1])


def test_a_sum_of_a_map_with_itself():
    model, x = sum_model(), np.arange(0, 8, dtype=np.uint8).reshape(2, 1, 2, 2)
    check_model(model)
    expected = (x.astype(np.int64) * 3 + 1) // 2         # 64 * 1536 / 2^16 = 3 / 2, half up
    assert np.array_equal(run(model, x), expected)
    for executor in ("onnxruntime", "reference"):
        assert np.array_equal(run_integer_onnx(integer_onnx(model), x, executor)["y"], expected)


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"inputs": ("x",)}, "has 1 inputs instead of 2"),
    ({"inputs": ("x", "x", "x")}, "has 3 inputs instead of 2"),
    ({"inputs": ("x", "z")}, "reads 'z', which nothing before it makes"),
    ({"multiplier": constants([1024])}, r"multipliers of shape \(1, 1\)"),
    ({"multiplier": constants([1024], [0])}, "multiplier outside 1..32767"),
    ({"multiplier": constants([1024], [1 << 15])}, "multiplier outside 1..32767"),
    ({"shift": 18}, "shift 18"),
    ({"lo": constants(-1)}, "lo outside 0..255"),
    ({"lo": constants(9), "hi": constants(8)}, "lower clip bound above"),
])
def test_broken_sums_are_named(changes, sentence):
    with pytest.raises(UserError, match=f"layer 'sum' .*{sentence}"):
        check_model(sum_model(**changes))


def joined(layer, result):
    """A model of one layer that keeps integers."""
    source = tensor("x", (2, 2, 3))
    return Model("joined", Input("x", "uint8", 1, 0, np.array(0.5), np.array(0.0), source.shape),
                 {"x": source, "y": result}, (layer,))


def test_broken_concatenations_and_squares_are_named():
    concat = Concat("join", ("x", "x"), "y")
    result = tensor("y", (4, 2, 3))
    check_model(joined(concat, result))
    for layer, wrong, sentence in [
        (concat, replace(result, signed=True), "another type"),
        (concat, replace(result, bits=7), "another type"),
        (concat, replace(result, scale=np.array(0.25)), "another scale"),
        (concat, replace(result, shape=(2, 2, 3)), "makes a map of shape"),
        (Concat("join", ("x",), "y"), result, "has 1 inputs instead of 2"),
        (SpaceToDepth("join", ("x",), "y"), result, "odd size 2x3"),
    ]:
        with pytest.raises(UserError, match=f"layer 'join' .*{sentence}"):
            check_model(joined(layer, wrong))


def test_random_graphs_hold_every_kind():
    found = set()
    for seed in range(60):
        model = random_model(np.random.default_rng(seed), kinds=GRAPH_KINDS, layers=4)
        found |= {type(layer) for layer in model.layers}
        found |= {"leaky" for layer in model.layers if hasattr(layer, "requantization")
                  and layer.requantization.multiplier_negative is not None}
    assert {Add, Concat, SpaceToDepth, "leaky"} <= found


def test_a_negative_multiplier_outside_its_range_is_named():
    model = random_model(np.random.default_rng(0), kinds=("leaky",), layers=1)
    layer = model.layers[0]
    for negative in (-1, 1 << 15):
        wrong = np.full_like(layer.requantization.multiplier, negative)
        rule = replace(layer.requantization, multiplier_negative=wrong)
        with pytest.raises(UserError, match=r"multiplier_negative outside 0\.\.32767"):
            check_model(replace(model, layers=(replace(layer, requantization=rule),
                                               *model.layers[1:])))
