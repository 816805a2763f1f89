"""The compiled evaluator against numpy's and the plain definition, on every layer."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ref import (
    AusnCode,
    Conv2d,
    Input,
    Model,
    Requantization,
    Tensor,
    UserError,
    Window,
    accumulator_proof,
    run,
    run_layers,
)
from ref import compiled as compiled_module
from ref.compiled import Plan, plan_of, threads
from ref.kernels import OPTIONS, kernels
from ref.model import SHIFTS
from ref.plain import run_plain
from tests.ref.random_models import GRAPH_KINDS, models, random_model, random_samples

#: For this processor, and for any of its kind, which has other instructions.
BUILDS = {"native": OPTIONS, "portable": tuple(o for o in OPTIONS if o != "-march=native")}


@pytest.fixture(params=BUILDS, scope="module")
def library(request):
    return kernels(BUILDS[request.param])


def compare(model, x, library):
    """The plan, after all maps were found to be numpy's integers."""
    plan, expected = Plan(model, library), run_layers(model, x, engine="numpy")
    maps = plan.run(model, x, model.tensors)
    assert set(maps) == set(expected)
    for name, integers in expected.items():
        assert maps[name].dtype == np.int64
        assert np.array_equal(maps[name], integers), name
    name = model.output_tensor.name
    assert np.array_equal(plan.run(model, x, [name])[name], expected[name])
    return plan


@settings(max_examples=150, deadline=None)
@given(case=models() | models(kinds=GRAPH_KINDS) | models(kinds=GRAPH_KINDS, channels=100, size=7))
def test_every_feature_map_is_numpys(library, case):
    compare(*case, library)


@settings(max_examples=50, deadline=None)
@given(models(channels=7, size=7, kinds=GRAPH_KINDS))
def test_every_feature_map_is_the_plain_definitions(case):
    model, x = case
    maps = run_layers(model, x, engine="compiled")
    for index, sample in enumerate(x):
        for name, plain in run_plain(model, sample.tolist()).items():
            assert np.array_equal(maps[name][index], np.array(plain)), name


def requantizing(rule, result, weight=None):
    """One unsigned byte times 1, added to the biases of ``rule``."""
    source = Tensor("x", (1, 1, 1), 8, False, np.array(1.0))
    if weight is None:
        weight = np.ones((len(rule.bias), 1, 1, 1), np.int8)
    proof = accumulator_proof(weight, rule.bias, np.zeros(1, np.int64), np.full(1, 255), None, 1)
    layer = Conv2d("layer", ("x",), "y", weight, 8, Window((1, 1)), 1, np.zeros(1, np.int64), rule,
                   proof)
    return Model("one", Input("x", "uint8", 1, 0, np.array(1.0), np.array(0.0), (1, 1, 1)),
                 {"x": source, "y": result}, (layer,))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(SHIFTS), st.integers(2, 8), st.booleans(),
       st.booleans(), st.sampled_from([None, AusnCode(1, 6), AusnCode(2, 3), AusnCode(3, 1)]))
def test_sums_become_bytes_over_the_whole_domain(library, seed, shift, bits, signed, leaky, code):
    """Sums everywhere, and near where the result changes, most of all at the clip bounds."""
    rng, channels = np.random.default_rng(seed), 100
    bits, signed = (bits, signed) if code is None else (8, False)
    result = Tensor("y", (channels, 1, 1), bits, signed, np.array(1.0))
    multiplier = rng.integers(1 << int(rng.integers(15)), 1 << 15, channels)
    negative = rng.integers(0, 1 << 15, channels) if leaky else None
    if negative is not None and rng.integers(2):
        negative[::7] = 0
    lo, hi = np.sort(rng.integers(result.lo, result.hi + 1, (2, channels)), axis=0)
    if rng.integers(2):
        lo, hi = np.minimum(lo, 0), np.maximum(hi, 0)
    level = rng.choice([lo, hi, rng.integers(result.lo, result.hi + 1, channels)])
    ratio = multiplier if negative is None else np.where(level < 0, np.maximum(negative, 1),
                                                         multiplier)
    bias = ((2 * level + rng.integers(-2, 3)) << shift - 1) // ratio - 128
    limit = (1 << 31) - 256
    bias = np.where(rng.random(channels) < 0.2, rng.integers(-limit, limit, channels), bias)
    rule = Requantization(np.clip(bias, -limit, limit), multiplier, shift, lo, hi, negative, code)
    compare(requantizing(rule, result), np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1),
            library)


def test_layers_beyond_the_kernels_are_numpys(library):
    """Wide results and weights, bounds outside the type, sums beyond 32 bits, and what reads it."""
    one = np.ones(1, np.int64)
    byte, wide = (Tensor("y", (1, 1, 1), bits, bits > 8, np.array(1.0)) for bits in (8, 12))
    rule = Requantization(one, 32767 * one, 16, 0 * one, 255 * one)
    x = np.arange(256, dtype=np.uint8).reshape(-1, 1, 1, 1)
    for model, supported in [
            (requantizing(rule, byte), True),
            (requantizing(rule, wide), False),
            (requantizing(replace(rule, hi=300 * one), byte), False),
            (requantizing(replace(rule, lo=-one), byte), False),
            (requantizing(replace(rule, multiplier=32768 * one), byte), False),
            (requantizing(replace(rule, shift=15), byte), False),
            (requantizing(replace(rule, multiplier=one, shift=28, lo=9 * one), byte), False),
            (requantizing(rule, byte, np.full((1, 1, 1, 1), 200, np.int16)), False),
            (requantizing(replace(rule, bias=one << 31), byte), False)]:
        second = replace(model.layers[0], name="second", inputs=("y",), output="z",
                         requantization=rule, weight=np.ones((1, 1, 1, 1), np.int8))
        model = replace(model, layers=(*model.layers, second),
                        tensors=model.tensors | {"z": replace(byte, name="z")})
        plan = compare(model, x, library)
        assert (plan.steps[0].kernel is not None) == supported


def test_every_kind_of_layer_has_a_kernel(library):
    found = set()
    for seed in range(40):
        model = random_model(np.random.default_rng(seed), kinds=GRAPH_KINDS, layers=4)
        found |= {type(step.layer).__name__ for step in Plan(model, library).steps if step.kernel}
    assert found == {"Conv2d", "AveragePool2d", "MaxPool2d", "Add", "Concat", "SpaceToDepth"}


@pytest.mark.parametrize("count", ["1", "2", "3", "", "many"])
def test_threads_and_parts_join_to_the_whole(count, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", count)
    assert threads() == (int(count) if count.isdecimal() else threads()) >= 1
    monkeypatch.setattr(compiled_module, "CACHED_BYTES", 1)
    model = random_model(np.random.default_rng(1), kinds=GRAPH_KINDS, layers=4)
    for samples in (0, 1, 2, 7):
        compare(model, random_samples(np.random.default_rng(2), model, samples), kernels())


def test_samples_of_any_memory_layout(library):
    model = random_model(np.random.default_rng(11), identity_input=True)
    x = random_samples(np.random.default_rng(2), model, 6)
    compare(model, np.asfortranarray(x)[::-2], library)


def test_a_plan_is_made_once_and_goes_with_its_model():
    model = random_model(np.random.default_rng(1))
    number = id(model)
    assert plan_of(model) is plan_of(model)
    del model
    gc.collect()
    assert number not in compiled_module._plans


def test_inputs_of_another_shape_are_refused():
    model = random_model(np.random.default_rng(3))
    x = random_samples(np.random.default_rng(4), model)
    with pytest.raises(UserError, match="takes integers of shape"):
        run(model, x[:, :, :, :-1], "compiled")
    with pytest.raises(UserError, match="float32"):
        run_layers(model, x.astype(np.float32), engine="compiled")
