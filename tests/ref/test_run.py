"""The evaluators and the ONNX oracles against the plain definition."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ref import (
    Requantization,
    UserError,
    Window,
    load_model,
    logits,
    ops,
    quantize_input,
    run,
    run_layers,
    save_model,
)
from ref.model import SHIFTS
from ref.onnx_integer import integer_onnx, rounded_input
from ref.oracles import EXECUTORS, run_integer_onnx
from ref.plain import requantize_plain, run_plain
from tests.ref.random_models import GRAPH_KINDS, models, random_model, random_samples


@settings(max_examples=100, deadline=None)
@given(models(channels=7, size=7) | models(channels=7, size=7, kinds=GRAPH_KINDS))
def test_every_feature_map_equals_the_plain_definition(case):
    model, x = case
    maps = run_layers(model, x)
    assert set(maps) == set(model.tensors)
    for index, sample in enumerate(x):
        for name, plain in run_plain(model, sample.tolist()).items():
            assert maps[name].dtype == np.int64
            assert np.array_equal(maps[name][index], np.array(plain)), (name, index)
    assert np.array_equal(run(model, x), maps[model.layers[-1].output])


@pytest.mark.parametrize("executor", ["onnxruntime", "reference"])
@settings(max_examples=60, deadline=None)
@given(case=models() | models(kinds=GRAPH_KINDS))
def test_integer_onnx_gives_every_feature_map(executor, case):
    model, x = case
    maps = run_layers(model, x)
    maps[rounded_input(model)] = maps.pop(model.input.tensor)
    values = run_integer_onnx(integer_onnx(model), x, executor, maps)
    for name, expected in maps.items():
        assert np.array_equal(values[name].reshape(expected.shape), expected), name
    result = model.output_tensor
    assert values[result.name].dtype == (np.int8 if result.signed else np.uint8)
    assert values[result.name].shape == (len(x), result.shape[0])


@pytest.mark.parametrize("kind", ["dense", "depthwise", "leaky", "average"])
@pytest.mark.parametrize("bits", [9, 16])
def test_a_wide_result_is_the_same_everywhere(kind, bits, tmp_path):
    largest = 0
    for seed in range(6):
        model = random_model(np.random.default_rng(seed), layers=1, kinds=(kind,), channels=5,
                             size=6, fully_connected=False, result_bits=bits)
        x = random_samples(np.random.default_rng(seed + 100), model, 3)
        expected, name = run(model, x), model.output_tensor.name
        largest = max(largest, int(np.abs(expected).max()))
        for index, sample in enumerate(x):
            assert np.array_equal(run_plain(model, sample.tolist())[name], expected[index])
        for executor in EXECUTORS:
            values = run_integer_onnx(integer_onnx(model), x, executor)[name]
            assert values.dtype == np.int16
            assert np.array_equal(values.reshape(expected.shape), expected)
        save_model(model, tmp_path / "wide.q.npz")
        assert np.array_equal(run(load_model(tmp_path / "wide.q.npz"), x), expected)
    assert 128 < largest <= 1 << (bits - 1)


@pytest.mark.long
@settings(max_examples=2000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(case=models(channels=9) | models(channels=9, kinds=GRAPH_KINDS))
def test_integer_onnx_gives_every_feature_map_of_2000_networks(case):
    model, x = case
    maps, compiled = (run_layers(model, x, engine=engine) for engine in ("numpy", "compiled"))
    for name, expected in maps.items():
        assert np.array_equal(compiled[name], expected), name
    maps[rounded_input(model)] = maps.pop(model.input.tensor)
    proto = integer_onnx(model)
    for executor in EXECUTORS:
        values = run_integer_onnx(proto, x, executor, maps)
        for name, expected in maps.items():
            assert np.array_equal(values[name].reshape(expected.shape), expected), (executor, name)


def test_integer_onnx_of_a_map_keeps_its_axes():
    model = random_model(np.random.default_rng(5), layers=1, kinds=("maximum",), size=12,
                         fully_connected=False)
    x = random_samples(np.random.default_rng(6), model, 3)
    assert model.output_tensor.shape[1:] != (1, 1)
    values = run_integer_onnx(integer_onnx(model), x)
    assert np.array_equal(values[model.output_tensor.name], run(model, x))
    with pytest.raises(UserError, match="not in class scores"):
        logits(model, x)


@given(st.integers(-2**31, 2**31 - 1), st.integers(-2**31, 2**31 - 1), st.integers(0, 2**14 - 1),
       st.sampled_from(SHIFTS), st.integers(-128, 0), st.integers(0, 255))
@example(1 << 15, 0, 0, 16, -128, 127)       # halves are rounded up
@example(-1 << 15, 0, 0, 16, -128, 127)
@example(0, 3 << 15, 16383, 16, -128, 127)
def test_requantize_is_exact_over_its_whole_domain(accumulator, bias, half, shift, lo, hi):
    rule = Requantization(*(np.array([value]) for value in (bias, 2 * half + 1)), shift,
                          np.array([lo]), np.array([hi]))
    result = ops.requantize(np.array([[accumulator]]), rule)
    assert result.tolist() == [[requantize_plain(accumulator, rule, 0)]]


@pytest.mark.parametrize("channels", [1000, 1100, 300_000])
def test_sums_beyond_float32_stay_exact(channels):
    """From 1100 channels on the sums are odd and above 2^24, where float32 has no odd numbers."""
    x = np.full((1, channels, 1, 1), 127, np.int64)
    x[0, 0] = 126
    weight = np.full((1, channels, 1, 1), 127, np.int8)
    weight[0, -1] = 1
    sums = ops.conv2d(x, weight, Window((1, 1)), np.zeros(channels, np.int64), 1)
    assert sums.item() == 127 * 127 * (channels - 2) + 126 * 127 + 127


def test_sums_beyond_float64_are_refused():
    x = np.full((1, 1, 1, 1), 1 << 52, np.int64)
    weight = np.full((1, 1, 1, 1), 127, np.int8)
    with pytest.raises(OverflowError, match="2\\^53"):
        ops.conv2d(x, weight, Window((1, 1)), np.zeros(1, np.int64), 1)


def test_batches_join_to_the_whole(monkeypatch):
    model = random_model(np.random.default_rng(1))
    x = random_samples(np.random.default_rng(2), model, 7)
    whole, layers = run(model, x), run_layers(model, x)
    monkeypatch.setattr(sys.modules[run.__module__], "WORKING_MEMORY", 1)
    assert np.array_equal(run(model, x), whole)
    assert all(np.array_equal(values, layers[name])
               for name, values in run_layers(model, x).items())
    assert run(model, x[:0]).shape == (0, *model.output_tensor.shape)


def test_a_vector_may_leave_out_its_axes_of_one():
    model = random_model(np.random.default_rng(3), layers=0, size=1)
    x = random_samples(np.random.default_rng(4), model, 5)
    assert model.input_tensor.shape[1:] == (1, 1)
    assert np.array_equal(logits(model, x[:, :, 0, 0]), run(model, x)[:, :, 0, 0])
    values = run_integer_onnx(integer_onnx(model), x[:, :, 0, 0])
    assert np.array_equal(values[model.output_tensor.name], logits(model, x))


def test_inputs_of_another_shape_or_kind_are_refused():
    model = random_model(np.random.default_rng(3))
    x = random_samples(np.random.default_rng(4), model)
    with pytest.raises(UserError, match="takes integers of shape"):
        quantize_input(model, x[:, :, :, :-1])
    with pytest.raises(UserError, match="float32"):
        run(model, x.astype(np.float32))
