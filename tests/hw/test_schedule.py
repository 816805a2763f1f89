"""The cycle model: repeated groups skipped without a change, equality with simulation."""

import random
from dataclasses import replace

import numpy as np
import pytest

from hw.config import EngineConfig
from hw.descriptor import descriptor_words
from hw.fit import ICE40_CODES
from hw.program import Program
from hw.schedule import LayerShape, _Clock, layer_cycles, tape_latency
from hw.window_memory import row_places
from ref.layers import quantize_input

from .engines import CONFIGS, engine_of, random_program


def random_shape(rng, config, groups):
    """Loop counts as the compiler makes them."""
    stride, kernel = rng.randint(1, 4), (rng.randint(1, 4), rng.randint(1, 5))
    products = (1,) if rng.random() < 0.5 else (
        *[config.channels] * rng.randrange(3), rng.randint(1, config.channels))
    places = row_places(kernel[1])
    if rng.random() < 0.3:                              # places that are soon used up
        places = kernel[0] + rng.randrange(2)
    return LayerShape(
        patch_columns=(config.pixels - 1) * (1 if kernel[1] == 1 else stride) + kernel[1],
        kernel=kernel, products=products, tiles=rng.randint(1, 3), lines=rng.randint(1, 4),
        slides=len(products) == 1 and stride <= kernel[0], stride_rows=stride, row_places=places,
        pixel_last=rng.randrange(config.pixels), groups=groups,
        blocks_only=config.codes and rng.random() < 0.5)


def every_group(shape, config, previous):
    """`layer_cycles` without its shortcut."""
    clock = _Clock(shape, config)
    clock.start(descriptor_words(config.tape_bytes) + tape_latency(config) + 1, previous)
    for _ in range(shape.groups):
        clock.run_group()
    return clock.last_write + 1


def random_config(rng):
    if rng.random() < 0.3:
        return replace(ICE40_CODES, pixels=rng.randint(1, 8))
    channels = rng.choice([2, 4, 8])
    return EngineConfig(channels=channels, pixels=rng.randint(1, 8),
                        requantizers=channels // rng.choice([1, 2]), tape_depth=1,
                        activation_depth=1, single_port=rng.random() < 0.5)


@pytest.mark.parametrize("seed", range(60))
def test_skipping_repeated_groups(seed):
    rng = random.Random(seed)
    config = random_config(rng)
    shape = random_shape(rng, config, groups=rng.randint(2, 60))
    previous = random_shape(rng, config, groups=1) if rng.random() < 0.5 else None
    assert layer_cycles(shape, config, previous) == every_group(shape, config, previous)


def test_few_groups_are_run(monkeypatch):
    """The shortcut is taken: as many groups as an engine can count cost a few."""
    runs = 0
    run_group = _Clock.run_group

    def counted(clock):
        nonlocal runs
        runs += 1
        run_group(clock)

    monkeypatch.setattr(_Clock, "run_group", counted)
    for seed in range(10):
        rng = random.Random(seed)
        config = random_config(rng)
        layer_cycles(random_shape(rng, config, groups=4096), config, None)
    assert runs < 10 * 60


def layer_ends(program: Program, x: np.ndarray, engine) -> list[int]:
    """Cycles of each layer in simulation."""
    engine.load(1, 0, program.tape)
    engine.load(0, 0, program.pads)
    engine.load(0, program.input.address, x)
    return engine.run(1 << 22).layer_cycles(program.layers)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kinds", [("depthwise", "average", "maximum"), ("pointwise", "dense")])
def test_many_groups_in_simulation(name, kinds):
    """Layers of many output groups, which the model does not go through one by one."""
    for seed in range(6):
        model, program, x = random_program(seed, CONFIGS[name], samples=1, kinds=kinds, layers=2,
                                           channels=90, size=6)
        words = program.input.pack(quantize_input(model, x)[0])
        predicted = [layer.predicted_cycles for layer in program.layers]
        assert layer_ends(program, words, engine_of(name)) == predicted
