# amaranth: UnusedElaboratable=no
"""The engine with lanes of both kinds: random networks, every layer's integers and cycles."""

from functools import cache

import numpy as np
import pytest

from hw.compiler import compile_program
from hw.cxxrtl import compiled_engine
from hw.pysim import AmaranthEngine
from ref.errors import UserError

from ..ref.random_models import random_samples
from .code_networks import CONFIG, random_code_network
from .test_accelerator import check_network


@cache
def engine():
    return compiled_engine(CONFIG)


def random_program(seed, samples=2, **options):
    """A random network, its program and samples; those that sum too far are passed over."""
    rng = np.random.default_rng(seed)
    while True:
        model = random_code_network(rng, **options)
        try:
            return model, compile_program(model, CONFIG), random_samples(rng, model, samples)
        except UserError as error:
            assert any(words in str(error) for words in (
                "accumulator", "scaled by", "bytes too many", "padding differs")), error


def test_random_networks():
    for seed in range(60):
        check_network(*random_program(seed, layers=2 + seed % 5), engine())


@pytest.mark.long
def test_many_networks():
    for seed in range(1000, 2000):
        check_network(*random_program(seed, layers=2 + seed % 5), engine())


def channels_of_other_pads(padded):
    """A network of at least two input channels, padded with different bytes or not at all."""
    for seed in range(1000):
        model = random_code_network(np.random.default_rng(seed))
        layer, inputs = model.layers[0], model.input_tensor.shape[0]
        if inputs > 1 and len(set(layer.pad_value)) == inputs and any(layer.window.pads) == padded:
            return model
    raise AssertionError("no such network was drawn")


def test_padding_that_differs_between_channels():
    with pytest.raises(UserError, match=r"layer t0: padding differs between channels; give the "
                       r"input one zero point, of 0 if it is wider than 8 bits, or choose another "
                       r"preset \(--preset w8a8 or w4a8\)"):
        compile_program(channels_of_other_pads(padded=True), CONFIG)
    model = channels_of_other_pads(padded=False)
    samples = random_samples(np.random.default_rng(0), model, 2)
    check_network(model, compile_program(model, CONFIG), samples, engine())


@pytest.mark.parametrize("seed", range(3))
def test_networks_in_amaranths_simulator(seed):
    check_network(*random_program(seed, samples=1, layers=4), AmaranthEngine(CONFIG))
