"""Layers of the integer model that the engine does not run are refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hw.compiler import compile_program
from hw.lowering import stored_sum_bits
from ref import AusnCode, UserError
from ref.bounds import propagate
from tests.hw.engines import CONFIGS, runnable
from tests.ref.random_models import random_model

CONFIG = next(iter(CONFIGS.values()))


def ausn_model(code, coded=False):
    """One layer with AUSN weights, whose result is rounded to levels too if ``coded``."""
    for seed in range(1000):
        model = random_model(np.random.default_rng(seed), layers=1, kinds=("ausn",), channels=4,
                             size=6, identity_input=True, fully_connected=False)
        layer = model.layers[0]
        if layer.weight_code == code and coded == (layer.requantization.code is not None):
            return model if coded else runnable(model, CONFIG)
    raise AssertionError(f"no model with {code} was drawn")


def test_ausn_weights_of_8_bits_are_ordinary_weights():
    model = ausn_model(AusnCode(2, 2))
    layer, = model.layers
    linear = replace(model, layers=(replace(layer, weight_code=None, weight_bits=6),))
    assert np.array_equal(compile_program(model, CONFIG).tape, compile_program(linear, CONFIG).tape)


def test_wider_ausn_weights():
    model = ausn_model(AusnCode(3, 1))
    with pytest.raises(UserError, match=r"layer layer0 has weights up to (128|192) and the engine "
                       "multiplies by integers up to 127; use a linear preset of 8 weight bits"):
        compile_program(model, CONFIG)


def test_sums_that_are_too_wide_without_their_bias():
    """The bias may make a sum narrower, and where that is wider than a lane it must not wrap."""
    model = runnable(random_model(np.random.default_rng(1), layers=1, kinds=("dense",), channels=40,
                                  size=6, bits=8), CONFIG)
    layer = model.layers[0]
    bits = stored_sum_bits(layer, model.input_tensor, propagate(model)[model.input.tensor])
    assert bits > 16
    narrow = replace(CONFIG, accumulator_bits=bits - 1, bias_bits=25 - bits)
    with pytest.raises(UserError, match=f"layer layer0 needs an accumulator of {bits} bits without "
                                        f"the bias and this engine has {bits - 1}; build one"):
        compile_program(model, narrow)
    compile_program(model, replace(narrow, accumulator_bits=bits, bias_bits=24 - bits))


def test_leaky_relu_that_is_not_built_in():
    model = runnable(random_model(np.random.default_rng(1), layers=1, kinds=("leaky",), channels=4,
                                  size=6), CONFIG)
    compile_program(model, CONFIG)
    with pytest.raises(UserError, match="layer layer0: this engine is built without leaky ReLU; "
                                        "build one for this network"):
        compile_program(model, replace(CONFIG, leaky=False))


def test_shifts_that_are_not_built_in():
    model = runnable(random_model(np.random.default_rng(1), layers=1, kinds=("dense",), channels=4,
                                  size=6, shift=24), CONFIG)
    with pytest.raises(UserError, match="layer layer0 is scaled by a shift of 24 and this engine "
                                        "is built without; build one for this network"):
        compile_program(model, replace(CONFIG, shifts=(16, 20, 28)))
    compile_program(model, replace(CONFIG, shifts=(16, 24)))


def test_max_pooling_and_clip_bounds_that_are_not_built_in():
    model = random_model(np.random.default_rng(0), layers=1, kinds=("maximum",), channels=4, size=6,
                         identity_input=True, fully_connected=False)
    with pytest.raises(UserError, match="layer layer0: this engine is built without max pooling; "
                                        "build one for this network"):
        compile_program(model, replace(CONFIG, maximum=False))
    model = runnable(random_model(np.random.default_rng(1), layers=1, kinds=("dense",), channels=4,
                                  size=6, bits=5), CONFIG)
    with pytest.raises(UserError, match="layer layer0 has clip bounds and this engine is built "
                                        "without; build one for this network"):
        compile_program(model, replace(CONFIG, clips=False))


def test_weights_of_more_bits_than_the_engine_has():
    model = runnable(random_model(np.random.default_rng(1), layers=1, kinds=("dense",), channels=4,
                                  size=6), CONFIG)
    with pytest.raises(UserError, match=r"layer layer0 has weights up to \d+ and the engine "
                       "multiplies by integers up to 7; use a linear preset of 4 weight bits"):
        compile_program(model, replace(CONFIG, weight_bits=4))


def test_activations_rounded_to_levels():
    model = ausn_model(AusnCode(2, 2), coded=True)
    with pytest.raises(UserError, match=r"layer layer0: the engine does not round results to AUSN "
                       r"levels; build for iCEBreaker, which has one that does \(--board "
                       r"icebreaker\), or choose another preset \(--preset w8a8 or w4a8\)"):
        compile_program(model, CONFIG)


def test_wide_results():
    model = random_model(np.random.default_rng(1), layers=1, kinds=("dense",), channels=4, size=6,
                         identity_input=True, result_bits=16)
    with pytest.raises(UserError, match=f"layer {model.layers[-1].name}: the engine does not write "
                                        "results of 16 bits"):
        compile_program(model, CONFIG)
