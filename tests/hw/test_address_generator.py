"""The address generator: the walk over a map, from the geometry of its windows alone."""

import random

import numpy as np
import pytest

from hw.address_generator import AddressGenerator
from hw.compiler import descriptor_fields, layer_shape
from hw.config import EngineConfig
from hw.program import Placement
from hw.step import Step
from ref.model import Window

from .engines import packed_layer
from .streams import get, held_until_ready, simulate

CHANNELS = 4


def make_step(shape, outputs, window, depthwise):
    """A step of a geometry; what it computes does not matter here."""
    inputs, height, width = shape
    zeros = np.zeros(outputs, np.int64)
    return Step(name="step", sources=("source",), target="target", shape=shape,
                result=(outputs, *window.output_size(height, width)), window=window,
                weight=np.ones((outputs, 1 if depthwise else inputs, *window.kernel), np.int64),
                depthwise=depthwise, maximum=False, hold=False, pad=np.zeros(inputs, np.int64),
                bias=zeros, multiplier=zeros + 1, shift=16, lo=0, hi=zeros + 255,
                signed_output=False, macs=0)


def walk(step, config, source, pad_address):
    """Every address, its place in the patch's row and whether it ends it, from patches alone."""
    inputs, height, width = step.shape
    outputs, lines, columns = step.result
    (kernel_rows, kernel_columns), (down, right) = step.window.kernel, step.window.stride
    top, left = step.window.pads[:2]
    pixel_words = -(-inputs // CHANNELS)
    input_groups = 1 if step.depthwise else pixel_words
    slides = layer_shape(step, config).slides
    assert not slides or input_groups == 1
    lanes = min(config.pixels, columns)
    # What the lanes' taps meet in one row of the map, each word once.
    reach = sorted({lane * right + tap for lane in range(lanes) for tap in range(kernel_columns)})
    if kernel_columns > 1:                       # words between taps are read, too
        reach = list(range(reach[-1] + 1))
    strips = range(0, columns, config.pixels)
    if slides:
        patches = [(x, range((lines - 1) * down + kernel_rows)) for x in strips]
    else:
        patches = [(x, range(line * down, line * down + kernel_rows))
                   for line in range(lines) for x in strips]
    for group in range(-(-outputs // CHANNELS)):
        for first, rows in patches:
            for i in range(input_groups):
                for row in rows:
                    for place, offset in enumerate(reach):
                        y, x = row - top, first * right + offset - left
                        inside = 0 <= y < height and 0 <= x < width
                        address = source + (y * width + x) * pixel_words
                        address += group if step.depthwise else i
                        yield (address if inside else pad_address, place,
                               int(place == len(reach) - 1))


def check_walk(cases, pixels, stall):
    """Run the walk of one step after another in one generator."""
    config = EngineConfig(channels=CHANNELS, pixels=pixels, requantizers=1, tape_depth=1,
                          activation_depth=1 << 16, single_port=False)
    dut = AddressGenerator()
    rng = random.Random(pixels)
    expected = [list(walk(step, config, source, pad)) for step, source, pad in cases]

    async def check(ctx):
        for (step, source, pad), words in zip(cases, expected, strict=True):
            at = Placement("source", source, step.shape, False, CHANNELS, False)
            to = Placement("target", 0, step.result, False, CHANNELS, False)
            ctx.set(dut.layer.as_value(), packed_layer(
                **descriptor_fields(step, config, [at], to, pad, last_layer=False)))
            ctx.set(dut.begin, 1)
            await ctx.tick()
            ctx.set(dut.begin, 0)
            for number, word in enumerate(words):
                got = await get(ctx, dut.o, stall, rng)
                assert (got.address, got.tag.column, got.tag.row_end) == word, (
                    step.shape, step.window, number)
            for _ in range(3):
                *_, valid = await ctx.tick().sample(dut.o.valid)
                assert not valid, "more words than the layer has"

    total = sum(len(words) + 4 for words in expected)
    simulate(dut, check, background=(held_until_ready(dut.o),),
             cycles=int(total * (1 + 2 * stall / (1 - stall))) + 200)


def random_step(rng):
    """A small step of any geometry."""
    depthwise = bool(rng.integers(2))
    kernel = tuple(map(int, rng.integers(1, 6, 2)))
    pads = tuple(int(rng.integers(0, size)) for size in kernel * 2)
    shape = (int(rng.integers(1, 10)), *(int(rng.integers(max(1, size - before - after), 9))
             for size, before, after in zip(kernel, pads[:2], pads[2:], strict=True)))
    window = Window(kernel, tuple(map(int, rng.integers(1, 5, 2))), pads)
    return make_step(shape, shape[0] if depthwise else int(rng.integers(1, 10)), window, depthwise)


@pytest.mark.parametrize("pixels", [1, 2, 3, 8])
def test_random_windows(pixels):
    rng = np.random.default_rng(pixels)
    cases = [(random_step(rng), int(rng.integers(1, 1000)), int(rng.integers(0, 5000)))
             for _ in range(8)]
    check_walk(cases, pixels, stall=0.2)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_strides(stride, kernel):
    """Full speed: one address per cycle, over strides shorter and longer than the kernel."""
    window = Window((kernel, kernel), (stride, stride), (kernel // 2, 0, 0, kernel - 1))
    check_walk([(make_step((6, 7, 9), outputs, window, outputs == 6), 3, 1)
                for outputs in (5, 6)], pixels=4, stall=0.0)


def test_highest_addresses_and_longest_rows():
    """The last word of the address space; a row as long as the coordinates allow."""
    row = make_step((4, 1, 4092), 4, Window((1, 3), (1, 4), (0, 2, 0, 2)), True)
    end = make_step((8, 5, 6), 8, Window((3, 3), (1, 1), (1, 1, 1, 1)), False)
    check_walk([(row, 0, 4090), (end, (1 << 16) - 60, 0)], pixels=2, stall=0.0)
    check_walk([(row.transposed(), 0, 4090)], pixels=2, stall=0.0)
