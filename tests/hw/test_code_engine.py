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
                "accumulator", "scaled by", "bytes too many")), error


def test_random_networks():
    for seed in range(60):
        check_network(*random_program(seed, layers=2 + seed % 5), engine())


@pytest.mark.long
def test_many_networks():
    for seed in range(1000, 2000):
        check_network(*random_program(seed, layers=2 + seed % 5), engine())


@pytest.mark.parametrize("seed", range(3))
def test_networks_in_amaranths_simulator(seed):
    check_network(*random_program(seed, samples=1, layers=4), AmaranthEngine(CONFIG))
