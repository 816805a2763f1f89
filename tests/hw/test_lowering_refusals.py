"""Layers of the integer model that the engine does not run are refused by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from hw.compiler import compile_program
from ref import AusnCode, UserError
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


def test_weights_of_more_bits_than_the_engine_has():
    model = runnable(random_model(np.random.default_rng(1), layers=1, kinds=("dense",), channels=4,
                                  size=6), CONFIG)
    with pytest.raises(UserError, match=r"layer layer0 has weights up to \d+ and the engine "
                       "multiplies by integers up to 7; use a linear preset of 4 weight bits"):
        compile_program(model, replace(CONFIG, weight_bits=4))


def test_activations_rounded_to_levels():
    model = ausn_model(AusnCode(2, 2), coded=True)
    with pytest.raises(UserError, match=r"layer layer0: the engine does not round results to AUSN "
                                        r"levels; use linear activations"):
        compile_program(model, CONFIG)


def test_wide_results():
    model = random_model(np.random.default_rng(1), layers=1, kinds=("dense",), channels=4, size=6,
                         identity_input=True, result_bits=16)
    with pytest.raises(UserError, match=f"layer {model.layers[-1].name}: the engine does not write "
                                        "results of 16 bits"):
        compile_program(model, CONFIG)
