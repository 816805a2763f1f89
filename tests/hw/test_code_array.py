"""The array of lanes of both kinds: sums of what each layer multiplies, at any pace."""

import random
from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from hw.ausn.code_product import ACTIVATIONS, WEIGHTS, lacks
from hw.code_array import ARRAY_LATENCY, REST, CodeArray
from hw.code_maps import HALF, PLACES
from hw.fit import ICE40_CODES
from hw.words import TAGS

from .streams import put, simulate
from .test_mac_array import wrapped

PIXELS = 2
CONFIG = replace(ICE40_CODES, pixels=PIXELS)
LEVELS = ACTIVATIONS.levels.tolist()


def lane_weights(rng, blocks_only):
    """A weight for each lane, and the tape's codes of them."""
    if blocks_only:
        weights = [rng.randint(-128, 127) for _ in range(HALF)]
        return weights, [value & 15 for value in weights] + [value >> 4 & 15 for value in weights]
    weights = [rng.randint(-7, 7) for _ in range(HALF)]
    coded = [rng.choice([-1, 1]) * rng.choice(WEIGHTS.levels.tolist()) for _ in range(HALF)]
    return weights + coded, [value & 15 for value in weights] + WEIGHTS.encode(
        np.array(coded)).tolist()


def random_word(rng, byte_input):
    """A pixel's operands, and how they come: levels, or one byte for all places."""
    if byte_input:
        byte = rng.randint(0, 255)
        return [byte] * PLACES, {"levels": [byte & 31] * PLACES, "above": byte >> 5}
    levels = [rng.choice(LEVELS) for _ in range(PLACES)]
    return levels, {"levels": levels, "above": 0}


def make_tiles(rng, *, depthwise, byte_input, blocks_only, products, count):
    """Windows, weights' codes and each tile's sums, of lanes that count; as nested lists."""
    windows, codes, tiles = [], [], []
    lanes = HALF if blocks_only else PLACES
    for number in range(count):
        sums = [[0] * lanes for _ in range(PIXELS)]
        size = rng.choice([1, 1, 2, 5])
        for index in range(size):
            operands, words = zip(*(random_word(rng, byte_input) for _ in range(PIXELS)),
                                  strict=True)
            windows.append((list(words), {"first": index == 0, "last": index == size - 1,
                                    "row_last": number & 1, "layer_last": number >> 1 & 1}))
            for k in range(products):
                weights, own = lane_weights(rng, blocks_only)
                codes.append(own)
                for p in range(PIXELS):
                    for c in range(lanes):
                        place = c if depthwise else (c + k) % PLACES
                        sums[p][c] += operands[p][place] * weights[c]
                        sums[p][c] -= lacks(weights[c]) if c >= HALF else 0
        tiles.append((sums, number & 1))
    return windows, codes, tiles


@pytest.mark.parametrize("depthwise, byte_input, blocks_only, products", [
    (False, False, False, 8), (True, False, False, 1), (True, False, False, 3),
    (False, True, False, 1), (False, False, True, 8)])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_sums(depthwise, byte_input, blocks_only, products, stall):
    rng = random.Random(f"{depthwise} {byte_input} {products} {stall}")
    dut = CodeArray(CONFIG)
    windows, codes, tiles = make_tiles(rng, depthwise=depthwise, byte_input=byte_input,
                                       blocks_only=blocks_only, products=products, count=24)
    finished = []

    async def present(ctx):
        """The words of a window from the cycle after it was taken."""
        coming, taken = deque(), iter(windows)
        async for _, _, valid, ready in ctx.tick().sample(dut.i.valid, dut.i.ready):
            coming.append(next(taken)[0] if valid and ready else None)
            words = coming.popleft()
            if words is not None:
                ctx.set(dut.words, words)

    async def feed(ctx):
        ctx.set(dut.depthwise, depthwise)
        ctx.set(dut.blocks_only, blocks_only)
        ctx.set(dut.channel_last, products - 1)
        for _, tags in windows:
            while rng.random() < stall:
                await ctx.tick()
            await put(ctx, dut.i, dict.fromkeys(TAGS.members, 0) | tags)

    async def feed_weights(ctx):
        for own in codes:
            while rng.random() < stall:
                await ctx.tick()
            await put(ctx, dut.weights, own)

    async def allow(ctx):
        while True:
            ctx.set(dut.may_finish, rng.random() >= stall)
            await ctx.tick()

    async def check(ctx):
        cycle = 0
        for sums, row_last in tiles:
            done = False
            while not done:
                _, _, finishing, allowed, done, got, tags = await ctx.tick().sample(
                    dut.finishing, dut.may_finish, dut.done, dut.sums, dut.tags)
                cycle += 1
                if finishing:
                    assert allowed
                    finished.append(cycle)
            assert cycle == finished.pop(0) + ARRAY_LATENCY
            assert [list(row)[:len(sums[0])] for row in got] == [
                [wrapped(value, CONFIG.accumulator_bits) for value in row] for row in sums]
            assert tags["row_last"] == row_last

    cycles = len(codes) + REST * len(tiles) + 2 + ARRAY_LATENCY if not stall else 30 * len(codes)
    simulate(dut, feed, feed_weights, check, background=(allow, present), cycles=cycles)
