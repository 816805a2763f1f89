"""AUSN codes: levels, nearest levels and codes by their definition, and layers that hold them."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ref import (
    AusnCode,
    Requantization,
    UserError,
    Window,
    check_model,
    load_model,
    ops,
    run,
    save_model,
)
from ref.model import SHIFTS
from ref.onnx_integer import integer_onnx
from ref.oracles import EXECUTORS, run_integer_onnx
from ref.plain import level_plain
from tests.ref.random_models import AUSN_CODES, BYTE_CODES, random_model, random_samples


def shift_add(x, word, code):
    """x times a stored weight as the hardware forms it: choices, gates and shifts of ``x``."""
    gates = word & ((1 << code.superposition) - 1)
    field = word >> code.superposition & ((1 << code.exponent) - 1)
    choices = [x << max(index - 1, 0) for index in range(1 << code.exponent)]
    total = ([0, *choices[1:]])[field] << code.superposition
    for bit in range(code.superposition):
        total += choices[field] << bit if gates >> bit & 1 else 0
    return -total if word >> code.bits else total


@pytest.mark.parametrize("code", AUSN_CODES, ids=str)
def test_fields_drive_shifters_and_gates(code):
    words = np.arange(2 << code.bits)
    assert [shift_add(3, int(word), code) for word in words] == (3 * code.decode(words)).tolist()


@pytest.mark.parametrize(("fields", "levels"), [
    ((2, 0), [0, 1, 2, 4]), ((1, 2), [0, 1, 2, 3, 4, 5, 6, 7]),
    ((3, 0), [0, 1, 2, 4, 8, 16, 32, 64]),
    ((2, 2), [0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28]),
    ((3, 1), [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192])])
def test_levels_by_hand(fields, levels):
    code = AusnCode(*fields)
    assert code.levels.tolist() == levels and code.largest == levels[-1]
    assert code.dtype == (np.int8 if levels[-1] < 128 else np.int16)


@pytest.mark.parametrize("code", AUSN_CODES, ids=str)
def test_every_integer_has_one_word(code):
    integers = np.unique([code.levels, -code.levels])
    words = code.encode(integers.astype(code.dtype))
    assert words.dtype == np.uint8 and words.max() < 2 << code.bits
    assert np.array_equal(code.decode(words), integers)
    assert len(set(words.tolist())) == len(integers) == (2 << code.bits) - 1   # all but "-0"
    assert (np.diff(code.levels) > 0).all()


@given(st.sampled_from(AUSN_CODES), st.floats(-5000, 5000) | st.integers(-5000, 5000).map(float)
       | st.integers(-10000, 10000).map(lambda value: value / 2))
def test_nearest_level(code, value):
    distance = {int(level): abs(abs(value) - int(level)) for level in code.levels}
    best = min(distance.values())
    expected = max(level for level in distance if distance[level] == best)
    found = code.nearest(np.array([value]))
    assert abs(found.item()) == expected
    assert expected == 0 or np.sign(found.item()) == np.sign(value)
    assert not np.signbit(found[found == 0]).any()


@pytest.mark.parametrize("fields", [(0, 3), (4, 1), (2, -1), (2, 6), (3, 5)])
def test_splits_that_do_not_exist(fields):
    with pytest.raises(ValueError, match="no AUSN code has"):
        AusnCode(*fields)


def test_integers_between_levels_have_no_word():
    with pytest.raises(ValueError, match="an integer is no level"):
        AusnCode(2, 2).encode(np.array([8, 9]))
    with pytest.raises(ValueError, match="an integer is no level"):
        AusnCode(2, 2).encode(np.array([29]))


def lost(values, levels):
    """Smallest mean squared error over 200 scales, relative to the mean square."""
    levels = np.array(levels)
    middle = (levels[1:] + levels[:-1]) / 2
    magnitude = np.abs(values)
    errors = []
    for step in magnitude.max() / levels[-1] * np.linspace(0.3, 1.2, 200):
        nearest = levels[np.searchsorted(middle, magnitude / step)] * step
        errors.append(((nearest - magnitude) ** 2).mean())
    return min(errors) / (values ** 2).mean()


@pytest.mark.parametrize(("exponent", "superposition"), [(2, 0), (2, 1), (2, 2), (2, 3), (3, 1)])
def test_less_is_lost_than_with_a_power_for_every_exponent(exponent, superposition):
    """The level set of the authors' later code, whose zero is taken out of the sequence."""
    random = np.random.default_rng(0)
    main = 1 << superposition
    powers = sorted((main + gates) << field for field, gates in
                    itertools.product(range(1 << exponent), range(main)))
    powers[0] = 0
    channels = random.normal(size=(64, 64)) * np.exp(random.normal(size=(64, 1)))
    for values in (random.normal(size=4000), random.laplace(size=4000), channels.ravel()):
        ours = lost(values, AusnCode(exponent, superposition).levels)
        assert ours <= lost(values, powers) * 1.0001


@pytest.mark.parametrize("code", BYTE_CODES, ids=str)
def test_halves_round_to_the_nearest_level_by_their_leading_one(code):
    scale = 256 >> code.largest.bit_length()
    levels = [int(level) * scale for level in code.levels]
    assert max(levels) < 256 <= 2 * max(levels) + 2 and len(code.bytes) == 511
    for halves in range(511):
        nearest = min(levels, key=lambda level: (abs(2 * level - halves), -level))
        assert code.bytes[halves] == nearest == level_plain(halves, code)


@given(st.sampled_from(BYTE_CODES), st.integers(-2**31, 2**31 - 1), st.integers(1, 2**15 - 1),
       st.sampled_from(SHIFTS), st.integers(0, 255))
def test_the_requantizer_gives_the_level_nearest_to_the_exact_result(code, accumulator, multiplier,
                                                                     shift, hi):
    rule = Requantization(*(np.array([value]) for value in (0, multiplier)), shift, np.array([0]),
                          np.array([hi]), None, code)
    exact = min(max(Fraction(accumulator * multiplier, 1 << shift), Fraction(0)), Fraction(hi))
    levels = sorted(set(code.bytes.tolist()))
    nearest = min(levels, key=lambda level: (abs(level - exact), -level))
    assert ops.requantize(np.array([[accumulator]]), rule).tolist() == [[nearest]]


def test_levels_that_are_no_bytes_cannot_round_bytes():
    with pytest.raises(ValueError, match="reach 448 and are no bytes"):
        _ = AusnCode(3, 2).bytes


@pytest.mark.parametrize("change", [{"bits": 7}, {"signed": True}, {"code": AusnCode(3, 2)}])
def test_only_bytes_are_rounded_to_levels(change):
    model = coded_model()
    layer = model.layers[-1]
    if "code" in change:
        layer = replace(layer, requantization=replace(layer.requantization, **change))
    else:
        constants = {name: np.zeros_like(getattr(layer.requantization, name))
                     for name in ("lo", "hi")}
        layer = replace(layer, requantization=replace(layer.requantization, **constants))
        tensor = replace(model.tensors[layer.output], **change)
        model = replace(model, tensors=model.tensors | {layer.output: tensor})
    with pytest.raises(UserError, match=f"layer '{layer.name}' rounds its result to levels of"):
        check_model(replace(model, layers=(*model.layers[:-1], layer)))


def coded_model():
    """A model whose one layer rounds its result to levels."""
    for seed in itertools.count():
        model = random_model(np.random.default_rng(seed), layers=1, kinds=("ausn",),
                             fully_connected=False)
        if model.layers[0].requantization.code is not None:
            return model


@pytest.mark.parametrize("executor", EXECUTORS)
def test_coded_averages_are_exact(executor):
    for seed in itertools.count():
        model = random_model(np.random.default_rng(seed), layers=1, kinds=("average",), bits=8,
                             identity_input=True, fully_connected=False)
        if not model.output_tensor.signed:
            break
    layer, x = model.layers[0], random_samples(np.random.default_rng(0), model, 4)
    for code in BYTE_CODES:
        rule = replace(layer.requantization, code=code)
        coded = replace(model, layers=(replace(layer, requantization=rule),))
        check_model(coded)
        found = run(coded, x)
        assert np.isin(found, code.bytes).all()
        assert np.abs(found - run(model, x)).max() <= 128
        values = run_integer_onnx(integer_onnx(coded), x, executor)
        assert np.array_equal(values[model.output_tensor.name].reshape(found.shape), found)


@pytest.fixture
def model():
    """A model whose first layer has a code of 16-bit integers."""
    for seed in itertools.count():
        model = random_model(np.random.default_rng(seed), layers=1, kinds=("ausn",))
        if model.layers[0].weight.dtype == np.int16:
            return model


@pytest.mark.parametrize(("change", "sentence"), [
    (lambda layer: {"weight": np.where(np.arange(layer.weight.size).reshape(layer.weight.shape),
                                       layer.weight, 1027).astype(np.int16),
                    "weight_code": AusnCode(3, 4), "weight_bits": 8},
     "has a weight that is no level of its code"),
    (lambda layer: {"weight": np.full_like(layer.weight, layer.weight_code.largest + 1)},
     "has a weight outside"),
    (lambda layer: {"weight": np.zeros_like(layer.weight, np.int8)}, "not int16 with four axes"),
    (lambda layer: {"weight_bits": 2}, "has 2-bit weights and a code of other width"),
    (lambda layer: {"weight_code": None}, "not int8 with four axes")])
def test_broken_layers_are_refused(model, change, sentence):
    layer = model.layers[0]
    with pytest.raises(UserError, match=re.escape(f"layer 'layer0' {sentence}")
                       if sentence.startswith("has") else sentence):
        check_model(replace(model, layers=(replace(layer, **change(layer)), *model.layers[1:])))


def test_the_file_keeps_the_code(model, tmp_path):
    save_model(model, tmp_path / "a.q.npz")
    loaded = load_model(tmp_path / "a.q.npz")
    assert loaded.layers[0].weight_code == model.layers[0].weight_code
    assert loaded.layers[0].weight.dtype == np.int16


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("exponent", [2, 3])
def test_wide_weights_are_two_planes(executor, exponent):
    """Bytes at their extremes against the largest weights of both signs."""
    code = AusnCode(exponent, 4)
    for seed in itertools.count():
        model = random_model(np.random.default_rng(seed), layers=1, kinds=("ausn",), bits=8,
                             identity_input=True)
        if model.layers[0].weight_code == code:
            break
    proto, x = integer_onnx(model), random_samples(np.random.default_rng(0), model, 4)
    sums = [node for node in proto.graph.node if node.op_type == "ConvInteger"]
    assert len(sums) - len(model.layers) == (1 if exponent == 3 else 0)
    found = run_integer_onnx(proto, x, executor)[model.output_tensor.name]
    assert np.array_equal(found, run(model, x)[:, :, 0, 0])


@pytest.mark.parametrize("channels", [16, 300, 4000])
def test_sums_of_wide_weights_are_exact(channels):
    """Below and beyond 2^24, where float32 skips odd integers; depthwise sums too."""
    random = np.random.default_rng(0)
    x = random.integers(250, 256, (1, channels, 2, 2))
    weight = random.choice(AusnCode(3, 4).levels[-9:], (3, channels, 1, 1)).astype(np.int16)
    weight[:, -1] = 1
    pad = np.zeros(channels, np.int64)
    expected = np.einsum("nchw,oc->nohw", x, weight[:, :, 0, 0].astype(np.int64))
    assert np.array_equal(ops.conv2d(x, weight, Window((1, 1)), pad, 1), expected)
    kernel = np.tile(weight.reshape(3, 1, channels, 1)[:, :, :9], (1, 1, 1, 9))
    tall = np.full((1, 3, 9, 9), 255)
    sums = ops.conv2d(tall, kernel, Window((9, 9)), pad[:3], 3)
    assert sums.ravel().tolist() == (255 * kernel.astype(np.int64).sum(axis=(1, 2, 3))).tolist()
