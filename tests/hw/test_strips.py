"""Maps in strips: every layout of a network gives the same integers in the cycles predicted."""

import numpy as np
import pytest

from hw.compiler import ROW_LIMIT, assemble, layer_shape
from hw.lowering import lower
from hw.program import Placement
from hw.schedule import layer_cycles
from hw.simulate import simulate
from hw.step import Step
from hw.strips import gather, layouts, split
from ref.model import Window

from ..ref import random_models
from .engines import CONFIGS, engine_of, random_program
from .test_address_generator import make_step

NAME = "c8p3w4"
CONFIG = CONFIGS[NAME]
KINDS = ("dense", "depthwise", "pointwise", "pointwise", "maximum", "average", "add", "add",
         "concat")


def even_window(rng, kind, shape):
    """A window under which rows divide evenly: a stride gives as many rows fewer, no more."""
    if kind == "pointwise":
        return Window((1, 1))
    if kind == "vector":
        return Window((shape[1], shape[2]))
    height, width = shape[1:]
    down, right = (int(rng.integers(1, 3)) if size % 2 == 0 else 1 for size in (height, width))
    kernel = tuple(min(int(rng.integers(1, 5)), size) for size in (height, width))
    pads = [max(size - stride, 0) for size, stride in zip(kernel, (down, right), strict=True)]
    before = [int(rng.integers(0, pad + 1)) for pad in pads]
    return Window(kernel, (down, right), (*before, pads[0] - before[0], pads[1] - before[1]))


def programs(monkeypatch, seed):
    """A random network that can be in strips: the model, samples and each of its programs."""
    monkeypatch.setattr(random_models, "_window", even_window)
    while True:
        model, _, x = random_program(seed, CONFIG, samples=1, kinds=KINDS, layers=4, size=24,
                                     channels=9)
        lowering = lower(model, CONFIG)
        ways = [(way, transposed) for transposed in (False, True)
                for way in layouts(lowering.transposed() if transposed else lowering, CONFIG,
                                   ROW_LIMIT)]
        if len(ways) > 5:
            for way, transposed in ways:
                shapes = [layer_shape(step, CONFIG) for step in way.steps]
                cycles = [layer_cycles(shape, CONFIG, previous) for shape, previous
                          in zip(shapes, [None, *shapes[:-1]], strict=True)]
                yield model, assemble(model, CONFIG, way, cycles, transposed), x
            return
        seed += 1000


@pytest.mark.parametrize("seed", range(8))
def test_every_layout(monkeypatch, seed):
    strips = set()
    for model, program, x in programs(monkeypatch, seed):
        report = simulate(model, program, x, engine_of(NAME))
        assert report["mismatches"] == 0, report["first_mismatch"]
        for layer in report["layers"]:
            assert layer["cycles"] == layer["predicted_cycles"]
        strips.add(tuple(layer.output.strips for layer in program.layers))
    assert len(strips) > 1


@pytest.mark.parametrize("shape", [(1, 4, 1), (2, 8, 3), (5, 4, 7), (9, 12, 2)])
@pytest.mark.parametrize("transposed", [False, True])
def test_packing(shape, transposed):
    """Bytes of a word: strip after strip, each with a quarter of its channels."""
    count, lines, columns = shape
    place = Placement("x", 3, (count, columns, lines) if transposed else shape, True, 8,
                      transposed, strips=4)
    values = np.random.default_rng(0).integers(-128, 128, shape)
    words = place.pack(values.transpose(0, 2, 1) if transposed else values)
    assert words.shape == (place.words, 8)
    groups, rows = -(-count // 2), lines // 4
    for c in range(count):
        for y in range(lines):
            for x in range(columns):
                word = words[(y % rows * columns + x) * groups + c // 2]
                assert word[y // rows * 2 + c % 2] == values[c, y, x] + 128
    unpacked = place.unpack(words)
    assert np.array_equal(unpacked.transpose(0, 2, 1) if transposed else unpacked, values)


def step_of(height, window, depthwise=True, pad=None):
    """A step of four channels on a map of ``height`` rows."""
    step = make_step((4, height, 8), 4, window, depthwise)
    step.pad[:] = 0 if pad is None else pad
    return step


@pytest.mark.parametrize("step", [
    step_of(10, Window((1, 1))),                                     # rows do not divide
    step_of(17, Window((3, 3), (2, 2), (1, 1, 1, 1))),               # 9 rows from 17
    step_of(16, Window((3, 3))),                                     # 14 rows from 16
    step_of(8, Window((7, 1), (1, 1), (3, 0, 3, 0))),                # reaches beyond a neighbour
    step_of(8, Window((3, 1), (1, 1), (1, 0, 1, 0)), pad=[1, 2, 1, 1]),
])
def test_not_in_strips(step: Step):
    assert split(step, 4) is None


def test_farthest_neighbours():
    """Windows that reach to the far end of the neighbouring strips, on either side."""
    for pads in ((2, 0, 0, 0), (0, 0, 2, 0)):
        part = split(step_of(8, Window((3, 1), (1, 1), pads), pad=[1, 1, 1, 1]), 4)
        assert part is not None and part.shape == (4, 2, 8) and part.strips == 4


def test_not_gathered():
    assert gather(step_of(8, Window((1, 1)), depthwise=True), 4, 4000) is None
    assert gather(step_of(8, Window((3, 3)), depthwise=False), 4, 4000) is None
    pointwise = step_of(8, Window((1, 1)), depthwise=False)
    assert gather(pointwise, 4, 15) is None and gather(pointwise, 4, 16) is not None
