"""Sums, concatenations and space-to-depth in the engine: exact, in as few steps as they can be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hw.compiler import compile_program
from hw.config import EngineConfig
from hw.joins import LARGEST_FACTOR, MOST_REPEATS, add_step, common_factor, level_parts
from hw.lowering import lower
from hw.simulate import simulate
from ref import Add, AusnCode, MaxPool2d, SpaceToDepth, Window
from ref.errors import UserError
from ref.model import GUARD_BITS, MULTIPLIER_BITS

from .branching import copy, joined, network, summed
from .engines import CONFIGS, engine_of

CONFIG = CONFIGS["c4p3"]


def steps_of(model, config=CONFIG):
    """How many steps each layer takes."""
    return {layer.name: layer.steps for layer in compile_program(model, config).layers}


def check(model, name="c4p3", samples=2):
    """Every layer's integers and cycles in the compiled engine, on random inputs and extremes."""
    rng = np.random.default_rng(0)
    limits = np.iinfo(model.input.dtype)
    x = rng.integers(limits.min, limits.max, (samples, *model.sample_shape), endpoint=True,
                     dtype=model.input.dtype)
    x[0].flat[:3] = limits.min, limits.max, limits.min
    program = compile_program(model, CONFIGS[name])
    result = simulate(model, program, x, engine_of(name))
    assert result["mismatches"] == 0, result["first_mismatch"]
    for layer in result["layers"]:
        assert layer["cycles"] == layer["predicted_cycles"]


@given(st.integers(1, 2**MULTIPLIER_BITS - 1), st.integers(1, 2**MULTIPLIER_BITS - 1))
def test_common_factor(one, other):
    """The largest, by trying all."""
    assert common_factor(one, other) == max(
        factor for factor in range(1, LARGEST_FACTOR + 1) if one % factor == other % factor == 0)


@given(st.lists(st.tuples(st.integers(1, CONFIG.largest_weight * MOST_REPEATS),
                          st.integers(1, CONFIG.largest_weight * MOST_REPEATS),
                          st.integers(1, 8)), min_size=1, max_size=5), st.booleans())
def test_products_of_a_sum(channels, signed):
    """Products per operand, times the requantizer's factor, are the sum's own multipliers."""
    multiplier = np.array([[min(one * factor, 2**15 - 1), min(other * factor, 2**15 - 1)]
                           for one, other, factor in channels]).T
    shape = (len(channels), 2, 2)
    model = network(shape, summed(["x", "x"], "y", shape, multiplier), signed=signed)
    try:
        step = add_step(model.layers[0], model, CONFIG)
    except UserError as error:
        assert "products and the engine makes 32" in str(error)
        return
    given_ = step.weight.reshape(len(channels), 2, -1).sum(axis=2).T * step.multiplier
    assert np.array_equal(given_, model.layers[0].multiplier << GUARD_BITS)
    assert np.abs(step.weight).max() <= CONFIG.largest_weight and step.repeats <= MOST_REPEATS
    assert step.multiplier.max() < 1 << 16
    offset = 128 if signed else 0
    assert np.array_equal(step.bias, -offset * step.weight.sum(axis=(1, 2, 3)))


@given(st.lists(st.integers(1, 127), min_size=1, max_size=6))
def test_weights_of_sums_in_lanes_of_both_kinds(weights):
    """Each part can be made by either, and no weight needs more parts than some take."""
    parts = level_parts(np.array(weights))
    assert parts.sum(axis=-1).tolist() == weights
    assert set(parts.ravel().tolist()) <= {0, 1, 2, 3, 4, 6}
    assert parts.shape[-1] == max(weight // 6 + (weight % 6 > 0) + (weight % 6 == 5)
                                  for weight in weights)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("name, multiplier", [
    *((name, multiplier) for name in CONFIGS for multiplier in (
        (1, 1), (127, 1), (127, 128), (32767, 32767), (100 * 127, 100 * 64), (224, 223))),
    # for these weights have too few bits, or sums, in the other engines
    *((name, multiplier) for name in ("c4p3", "c2p1") for multiplier in (
        (31 * 127, 2), (4064, 4063), (8128, 8126)))])
def test_sums(name, signed, multiplier):
    """Few products and many; a map and one made from it; a map and itself."""
    shape = (7, 5, 6)
    ratio = np.repeat(np.array(multiplier)[:, None], 7, axis=1)
    shift = 20 if max(multiplier) > 500 else 16
    model = network(shape, copy("x", "a", shape, signed),
                    summed(["a", "x"], "b", shape, ratio, shift, signed=True),
                    summed(["b", "b"], "c", shape, ratio[::-1], shift, signed=False),
                    signed=signed)
    assert set(steps_of(model).values()) == {1}
    check(model, name)


def test_multipliers_that_the_engine_cannot_make():
    shape = (2, 3, 3)
    for multiplier, repeats in (((4064, 1), 32), ((4065, 1), 33), ((32767, 32766), 259)):
        model = network(shape, summed(["x", "x"], "y", shape, np.repeat(multiplier, 2)))
        if repeats <= MOST_REPEATS:
            check(model)
            continue
        with pytest.raises(UserError) as error:
            compile_program(model, CONFIG)
        assert str(error.value) == (f"layer y: a multiplier of its sum takes {repeats} products "
                                    "and the engine makes 32; quantize the network again")


def test_sum_too_wide():
    shape = (1, 3, 3)
    model = network(shape, summed(["x", "x"], "y", shape, [4064, 4063]))
    config = EngineConfig(channels=4, pixels=3, requantizers=1, tape_depth=512,
                          activation_depth=512, single_port=True, accumulator_bits=21)
    with pytest.raises(UserError) as error:
        compile_program(model, config)
    assert str(error.value) == ("layer y needs an accumulator of 22 bits and the engine has 21; "
                                "quantize the network again")


def test_sum_rounded_to_levels():
    shape = (1, 3, 3)
    layer, *types = summed(["x", "x"], "y", shape, [4, 4])
    coded = Add(layer.name, layer.inputs, layer.output, layer.multiplier, layer.shift, layer.lo,
                np.full(1, 192), AusnCode(3, 1))
    with pytest.raises(UserError, match="layer y: the engine does not round results to AUSN"):
        compile_program(network(shape, (coded, *types)), CONFIG)


def test_concatenation_of_whole_words_takes_no_step():
    """What it reads is made where it belongs, in a chain of two as well."""
    model = network(
        (4, 3, 5), copy("x", "a", (4, 3, 5)), copy("a", "b", (4, 3, 5)),
        joined(["a", "b"], "ab", (8, 3, 5)), copy("ab", "c", (8, 3, 5)),
        joined(["ab", "c"], "abc", (16, 3, 5)), copy("c", "d", (8, 3, 5)),
        joined(["d", "abc"], "all", (24, 3, 5)))
    assert steps_of(model) == {"a": 1, "b": 1, "ab": 0, "c": 1, "abc": 0, "d": 1, "all": 0}
    check(model)


def test_what_cannot_be_made_in_place_is_copied():
    """The network's input, what lies elsewhere already, what comes twice, operands of sums."""
    shape, wide = (4, 3, 5), (8, 3, 5)
    ratio = [[3] * 4, [2] * 4]
    model = network(
        shape, copy("x", "a", shape), joined(["x", "a"], "xa", wide),
        joined(["a", "a"], "aa", wide), copy("x", "b", shape),
        summed(["a", "b"], "s", shape, ratio, 16), joined(["b", "s"], "bs", wide))
    assert steps_of(model) == {"a": 1, "xa": 2, "aa": 2, "b": 1, "s": 1, "bs": 1}
    check(model)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 5, 9])
def test_uneven_concatenations(name, channels, signed):
    """Operands that leave words unfilled go by a map in which each begins at a word."""
    size = (4, 3)
    model = network((channels, *size), copy("x", "a", (channels, *size), signed),
                    joined(["a", "x"], "ax", (2 * channels, *size), signed),
                    joined(["ax", "a", "x"], "y", (4 * channels, *size), signed),
                    copy("y", "z", (4 * channels, *size), signed), signed=signed)
    check(model, name)
    if name == "c4p3":           # a copy of x and the choice of channels; copies of all but ax
        assert steps_of(model) == {"a": 1, "ax": 2, "y": 3, "z": 1}


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("channels, steps", [(4, 4), (8, 4), (3, 5), (9, 5)])
def test_space_to_depth(channels, steps, signed):
    model = network((channels, 6, 8), (SpaceToDepth("y", ("x",), "y"), (4 * channels, 3, 4),
                                       signed), signed=signed)
    assert steps_of(model) == {"y": steps}
    for name in ("c4p3", "c2p1", "c8p5"):
        check(model, name)


def test_space_to_depth_into_a_concatenation():
    """As SkyNet joins a map with its half-sized successor: the squares go straight to their place.
    """
    model = network(
        (4, 6, 8), (SpaceToDepth("y", ("x",), "y"), (16, 3, 4), False),
        (MaxPool2d("small", ("x",), "small", Window((2, 2), (2, 2))), (4, 3, 4), False),
        joined(["y", "small"], "z", (20, 3, 4)), copy("z", "out", (20, 3, 4)))
    assert steps_of(model) == {"y": 4, "small": 1, "z": 0, "out": 1}
    check(model)


def test_steps_belong_to_their_layer():
    """Cycles and comparison of a layer of several steps."""
    model = network((3, 6, 8), (SpaceToDepth("y", ("x",), "y"), (12, 3, 4), False),
                    copy("y", "z", (12, 3, 4)))
    lowering = lower(model, CONFIG)
    assert [step.name for step in lowering.steps] == ["y"] * 5 + ["z"]
    program = compile_program(model, CONFIG)
    result = simulate(model, program, np.zeros((1, 3, 6, 8), np.uint8), engine_of("c4p3"))
    assert [layer["name"] for layer in result["layers"]] == ["y", "z"]
    assert sum(layer["cycles"] for layer in result["layers"]) == result["cycles_per_inference"]
    assert result["layers"][0]["cycles"] > 2 * result["layers"][1]["cycles"]
