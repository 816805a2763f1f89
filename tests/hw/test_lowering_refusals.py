"""Layers of the integer model that the engine does not run are refused by name."""

from __future__ import annotations

import re

import numpy as np
import pytest

from hw.compiler import compile_program
from ref import Add, Concat, SpaceToDepth, UserError
from tests.hw.engines import CONFIGS
from tests.ref.random_models import random_model

KINDS = {"add": Add, "concat": Concat, "squares": SpaceToDepth}


@pytest.mark.parametrize("kind", KINDS)
def test_layers_that_only_rearrange_or_join(kind):
    for seed in range(30):
        model = random_model(np.random.default_rng(seed), layers=1, kinds=(kind,), channels=4,
                             size=6, identity_input=True)
        name = next((layer.name for layer in model.layers if isinstance(layer, KINDS[kind])), None)
        if name is None or not isinstance(model.layers[0], KINDS[kind]):
            continue
        sentence = (f"layer {name}: the engine does not run {KINDS[kind].__name__} layers; replace "
                    "it in the network")
        with pytest.raises(UserError, match=re.escape(sentence)):
            compile_program(model, next(iter(CONFIGS.values())))
        return
    pytest.fail("no model of that kind was drawn")


def test_leaky_relu():
    model = random_model(np.random.default_rng(1), layers=1, kinds=("leaky",), channels=4, size=6,
                         identity_input=True)
    with pytest.raises(UserError, match="layer layer0: the engine does not run leaky ReLU; use "
                                        "ReLU"):
        compile_program(model, next(iter(CONFIGS.values())))
