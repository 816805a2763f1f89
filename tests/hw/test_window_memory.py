"""The window memory: every tap of every tile, whatever the pace of memory and array."""

import random
from collections import deque

import numpy as np
import pytest

from hw.address_generator import AddressGenerator
from hw.compiler import descriptor_fields, layer_shape
from hw.config import EngineConfig
from hw.memory import memory_latency
from hw.program import Placement
from hw.window_memory import ROWS_BITS, WindowMemory, read_latency, row_places
from hw.words import TAGS
from ref.model import Window

from .engines import packed_layer
from .streams import get, held_until_ready, put, simulate
from .test_address_generator import CHANNELS, make_step, random_step, walk


def word_at(address):
    """What the tests' memory holds: bytes that tell the address."""
    return [(address * 31 + byte * 89 + (address >> 6)) & 255 for byte in range(CHANNELS)]


def windows(step, config, source, pad_address):
    """The window of each tap in order, one word or None (a lane without a pixel) each, and tags."""
    _, height, width = step.shape
    outputs, lines, columns = step.result
    (kernel_rows, kernel_columns), (down, right) = step.window.kernel, step.window.stride
    top, left = step.window.pads[:2]
    pixel_words = -(-step.shape[0] // CHANNELS)
    input_groups = 1 if step.depthwise else pixel_words
    tiles, groups = -(-columns // config.pixels), -(-outputs // CHANNELS)
    slides = layer_shape(step, config).slides
    order = ([(line, tile) for tile in range(tiles) for line in range(lines)] if slides
             else [(line, tile) for line in range(lines) for tile in range(tiles)])
    for group in range(groups):
        for line, tile in order:
            taps = [(i, ky, kx) for i in range(input_groups) for ky in range(kernel_rows)
                    for kx in range(kernel_columns)]
            for i, ky, kx in taps:
                lanes = []
                for lane in range(config.pixels):
                    pixel = tile * config.pixels + lane
                    y, x = line * down + ky - top, pixel * right + kx - left
                    address = source + (y * width + x) * pixel_words
                    address += group if step.depthwise else i
                    inside = 0 <= y < height and 0 <= x < width
                    lanes.append(word_at(address if inside else pad_address)
                                 if pixel < columns else None)
                last = (line, tile) == order[-1]
                yield lanes, {
                    "first": (i, ky, kx) == taps[0], "last": (i, ky, kx) == taps[-1],
                    "partial": i == input_groups - 1, "row_last": tile == tiles - 1,
                    "inner_last": line == lines - 1 if slides else tile == tiles - 1,
                    "group_last": last, "layer_last": last and group == groups - 1, "strip": 0}


def make_config(pixels, pipelined):
    return EngineConfig(channels=CHANNELS, pixels=pixels, requantizers=1, tape_depth=1,
                        activation_depth=1 << 16, single_port=False, pipelined=pipelined)


def check_windows(steps, pixels, slow_request, slow_output, blocked, limit=None, *,
                  pipelined=False):
    """Run one step after another; with ``limit`` no more rows than that are ever kept."""
    config = make_config(pixels, pipelined)
    rng = random.Random(f"{pixels} {slow_request} {slow_output} {blocked}")
    dut = WindowMemory(config)
    source, pad = 500, 7
    requests, expected = [], []
    for step in steps:
        at = Placement("source", source, step.shape, False, CHANNELS, False)
        to = Placement("target", 0, step.result, False, CHANNELS, False)
        fields = descriptor_fields(step, config, [at], to, pad, last_layer=False)
        if limit is not None:
            fields["row_places"] = max(limit, step.window.kernel[0] if fields["slides"] else 1)
        requests.append((packed_layer(**fields), list(walk(step, config, source, pad))))
        expected.append(list(windows(step, config, source, pad)))
    started, taken = [], []

    async def memory(ctx):
        """Answers some cycles later; nonsense in between."""
        pending = [None] * (memory_latency(config) - 1)
        async for _, _, enable, address in ctx.tick().sample(dut.enable, dut.address):
            pending.append(address if enable else None)
            due = pending.pop(0)
            ctx.set(dut.data, [rng.randrange(256) for _ in range(CHANNELS)] if due is None
                    else word_at(due))

    async def block(ctx):
        while True:
            ctx.set(dut.blocked, rng.random() < blocked)
            await ctx.tick()

    async def feed(ctx):
        for number, (layer, words) in enumerate(requests):
            while len(started) < number:
                await ctx.tick()
            ctx.set(dut.layer.as_value(), layer)
            ctx.set(dut.begin, 1)
            await ctx.tick()
            ctx.set(dut.begin, 0)
            for address, column, row_end in words:
                while rng.random() < slow_request:
                    await ctx.tick()
                await put(ctx, dut.request, {"address": address, "tag": {
                    "column": column, "row_end": row_end}})

    async def check(ctx):
        for number, taps in enumerate(expected):
            for index, (lanes, tags) in enumerate(taps):
                got = await get(ctx, dut.o, slow_output, rng)
                assert {name: got[name] for name in TAGS.members} == tags, (number, index)
                taken.append(lanes)
            for _ in range(3):
                *_, valid = await ctx.tick().sample(dut.o.valid)
                assert not valid, "more windows than the layer has"
            started.append(number)

    async def look(ctx):
        """Words come as long after their window was taken as they should, and stay."""
        coming = deque([None] * (read_latency(config) - 1))
        shown, seen = [], 0
        async for *_, words in ctx.tick().sample(dut.words):
            for lane, word in enumerate(shown):
                assert word is None or list(words[lane]) == word, (seen, lane)
            coming.append(taken[seen] if seen < len(taken) else None)
            seen += coming[-1] is not None
            lanes = coming.popleft()
            shown = shown if lanes is None else lanes

    total = sum(len(words) for _, words in requests) + sum(map(len, expected))
    simulate(dut, feed, check, background=(memory, block, held_until_ready(dut.o), look),
             cycles=60 * total + 500)


@pytest.mark.parametrize("pixels", [1, 2, 3, 5])
@pytest.mark.parametrize("paces", [(0, 0, 0), (0.7, 0, 0.3), (0, 0.7, 0), (0.4, 0.4, 0.4)])
def test_random_steps(pixels, paces):
    rng = np.random.default_rng([pixels, int(10 * sum(paces))])
    check_windows([random_step(rng) for _ in range(4)], pixels, *paces, pipelined=pixels == 3)


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("limit", [1, 2, 4])
def test_few_places(limit, pipelined):
    """Rows wait for places; the oldest is replaced soon after its last window was taken."""
    rng = np.random.default_rng(limit)
    check_windows([random_step(rng) for _ in range(6)], 3, 0, 0.2, 0, limit, pipelined=pipelined)


def test_more_rows_than_places():
    """Row numbers wrap around; a wide kernel leaves few places for rows."""
    window = Window((3, 40), (1, 1), (1, 20, 1, 19))
    tall = Window((3, 1), (2, 1), (1, 0, 1, 0))
    steps = [make_step((4, 12, 6), 4, window, True), make_step((4, 300, 2), 4, tall, True)]
    assert 12 > row_places(40) == 4 and 300 > 1 << ROWS_BITS
    check_windows(steps, 2, 0, 0, 0)


def test_the_address_generator_feeds_it():
    """Both ends agree on what a row is: the generator's own stream, joined to the memory."""
    from amaranth.hdl import Module
    from amaranth.lib.wiring import connect

    config = make_config(3, pipelined=False)
    rng = np.random.default_rng(8)
    step = random_step(rng)
    m = Module()
    m.submodules.addresses = addresses = AddressGenerator()
    m.submodules.dut = dut = WindowMemory(config)
    connect(m, addresses.o, dut.request)
    m.d.comb += [addresses.layer.eq(dut.layer), addresses.begin.eq(dut.begin)]
    at = Placement("source", 90, step.shape, False, CHANNELS, False)
    to = Placement("target", 0, step.result, False, CHANNELS, False)

    async def memory(ctx):
        pending = [0]
        async for _, _, address in ctx.tick().sample(dut.address):
            pending.append(address)
            ctx.set(dut.data, word_at(pending.pop(0)))

    async def check(ctx):
        ctx.set(dut.layer.as_value(), packed_layer(
            **descriptor_fields(step, config, [at], to, 3, last_layer=False)))
        ctx.set(dut.begin, 1)
        await ctx.tick()
        ctx.set(dut.begin, 0)
        for lanes, _ in windows(step, config, 90, 3):
            await get(ctx, dut.o, 0.1, random.Random(1))
            for lane, word in enumerate(lanes):
                assert word is None or list(ctx.get(dut.words[lane])) == word

    simulate(m, check, background=(memory,), cycles=20_000)
