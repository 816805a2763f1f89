"""The result writer: tiles of sums in, requantized words at the right addresses out."""

import random
from collections import deque

import numpy as np
import pytest

from hw.compiler import constant_words
from hw.config import EngineConfig
from hw.mac_array import array_latency
from hw.requantizer import constants_layout
from hw.result_writer import ResultWriter
from hw.schedule import write_latency
from ref.model import SHIFTS, Requantization
from ref.ops import requantize

from .engines import packed_layer
from .streams import simulate


class LayerCase:
    """A random layer's sums and constants, and the words that have to be written."""

    def __init__(self, rng, config):
        pixels, channels = config.pixels, config.channels
        self.groups, rows, columns = (int(rng.integers(1, high)) for high in (4, 4, 3 * pixels + 2))
        self.shift, self.signed = int(rng.integers(len(SHIFTS))), int(rng.integers(2))
        tiles = -(-columns // pixels)
        self.pixel_last = (columns - 1) % pixels
        self.output_address = int(rng.integers(1 << 15))
        limit = 1 << (config.accumulator_bits - 1)
        lowest = -128 if self.signed else 0
        self.lo = int(rng.integers(lowest, lowest + 100))
        outputs = self.groups * channels
        self.multiplier = rng.integers(0, 1 << 14, outputs) * 2 + 1
        self.negative = rng.integers(0, 1 << 15, outputs)
        total = np.clip((rng.integers(-200, 400, (rows, columns, outputs)) << SHIFTS[self.shift])
                        // self.multiplier, -limit, limit - 1)
        self.bias = rng.integers(-(1 << 23), 1 << 23, outputs)
        self.hi = rng.integers(self.lo, lowest + 256, outputs)
        rule = Requantization(np.zeros(outputs, np.int64), self.multiplier, SHIFTS[self.shift],
                              np.full(outputs, self.lo), self.hi, self.negative)
        stored = requantize(total.reshape(-1, outputs), rule) + 128 * self.signed
        # Tiles go along a row or, where they slide, down a strip; groups of a pixel lie together.
        self.slides, self.pixels, self.size = bool(rng.integers(2)), pixels, (rows, columns)
        order = ([(row, tile) for tile in range(tiles) for row in range(rows)] if self.slides
                 else [(row, tile) for row in range(rows) for tile in range(tiles)])
        self.writes = [(self.output_address + pixel * self.groups + group,
                        stored[pixel, group * channels:(group + 1) * channels].tolist())
                       for group in range(self.groups) for row, tile in order
                       for pixel in range(row * columns + tile * pixels,
                                          row * columns + min((tile + 1) * pixels, columns))]
        padded = rng.integers(-limit, limit, (rows, tiles * pixels, outputs))
        padded[:, :columns] = (total - self.bias + limit) % (2 * limit) - limit
        self.tiles = [[(padded[row, tile * pixels:(tile + 1) * pixels,
                               group * channels:(group + 1) * channels],
                        {"row_last": tile == tiles - 1,
                         "inner_last": (row, tile)[not self.slides] == (rows, tiles)[
                             not self.slides] - 1,
                         "group_last": tile == tiles - 1 and row == rows - 1,
                         "layer_last": tile == tiles - 1 and row == rows - 1
                         and group == self.groups - 1})
                       for row, tile in order] for group in range(self.groups)]

    def descriptor(self):
        return packed_layer(
            shift=self.shift, signed_output=self.signed, lo=self.lo + 128 * self.signed,
            pixel_last=self.pixel_last, output_address=self.output_address,
            result_pixel=self.groups, **self.steps())

    def steps(self):
        """Address steps between the first results of tiles."""
        rows, columns = self.size
        back = (columns - 1) // self.pixels * self.pixels
        inner, outer = ((columns, self.pixels - (rows - 1) * columns) if self.slides
                        else (self.pixels, columns - back))
        last = (rows - 1) * columns + back
        return {"result_inner": inner * self.groups, "result_outer": outer * self.groups,
                "result_group": 1 - last * self.groups}

    def constants(self, group, config):
        """A group's constants as tape words."""
        channels = config.channels
        layout = constants_layout(clips=True, leaky=True)
        text = b"".join(
            layout.const({"bias": int(self.bias[k]), "multiplier": int(self.multiplier[k]),
                          "multiplier_negative": int(self.negative[k]),
                          "hi": int(self.hi[k]) + 128 * self.signed}
                         ).as_bits().to_bytes(8, "little")
            for k in range(group * channels, (group + 1) * channels))
        together = [config.requantized(lane)[chunk]
                    for chunk in range(channels // config.requantizers)
                    for lane in range(config.requantizers)]
        return constant_words(np.frombuffer(text, np.uint8).reshape(channels, 8)[together], config)


@pytest.mark.parametrize("channels, pixels, requantizers, bits, weight_bits, pipelined", [
    (2, 1, 2, 24, 8, False), (4, 3, 1, 24, 8, False), (4, 2, 2, 16, 8, True),
    (8, 2, 1, 22, 8, True), (8, 3, 8, 20, 4, True), (8, 3, 8, 20, 4, False)])
@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_layers(channels, pixels, requantizers, bits, weight_bits, pipelined, stall):
    config = EngineConfig(channels=channels, pixels=pixels, requantizers=requantizers,
                          tape_depth=1, activation_depth=1, single_port=False,
                          accumulator_bits=bits, weight_bits=weight_bits, pipelined=pipelined)
    rng = np.random.default_rng([channels, pixels, requantizers])
    pace = random.Random(channels)
    latency = array_latency(config)
    dut = ResultWriter(config, latency)
    layers = [LayerCase(rng, config) for _ in range(4)]
    results = []
    finishes, write_cycles = [], []

    async def array(ctx):
        """Sums appear a fixed time after ``finishing``; nonsense in every other cycle.

        A pipelined array is done a cycle earlier; its sums appear a cycle later, and stay.
        """
        pending = [False] * (latency - 1 - pipelined)
        coming = deque([None] * 2)
        async for _, _, finishing in ctx.tick().sample(dut.finishing):
            pending.append(finishing)
            due = pending.pop(0)
            ctx.set(dut.done, due)
            shown = coming.popleft()
            coming.append(None)
            if not pipelined:
                ctx.set(dut.sums.as_value(), pace.getrandbits(channels * pixels * bits))
            if due:
                sums, tags = results.pop(0)
                ctx.set(dut.tags, tags)
                if pipelined:
                    coming[-1] = sums.tolist()
                else:
                    shown = sums.tolist()
            if shown is not None:
                ctx.set(dut.sums, shown)

    async def drive(ctx):
        async def until(signal):
            while not ctx.get(signal):
                await ctx.tick()

        for layer in layers:
            ctx.set(dut.layer.as_value(), layer.descriptor())
            ctx.set(dut.begin, 1)
            await ctx.tick()
            ctx.set(dut.begin, 0)
            for group, tiles in enumerate(layer.tiles):
                words = layer.constants(group, config)
                assert len(words) == config.constant_words
                for word in words:
                    await until(dut.constant_ready)
                    while pace.random() < stall:
                        await ctx.tick()
                    ctx.set(dut.constant, word)
                    ctx.set(dut.constant_valid, 1)
                    await ctx.tick()
                    ctx.set(dut.constant_valid, 0)
                for tile in tiles:
                    while pace.random() < stall:
                        await ctx.tick()
                    await until(dut.may_finish)
                    results.append(tile)
                    ctx.set(dut.finishing, 1)
                    await ctx.tick()
                    ctx.set(dut.finishing, 0)
            await until(dut.layer_done)
            await ctx.tick()

    async def check(ctx):
        expected = [(*write, write == layer.writes[-1]) for layer in layers
                    for write in layer.writes]
        cycle = 0
        async for _, _, finishing, write, address, word, done in ctx.tick().sample(
                dut.finishing, dut.write, dut.address, dut.data, dut.layer_done):
            cycle += 1
            if finishing:
                finishes.append(cycle)
            if write:
                write_cycles.append(cycle)
                assert (address, list(word), done) == expected.pop(0)
            assert write or not done
            if not expected:
                return

    tiles = sum(len(group) for layer in layers for group in layer.tiles)
    groups = sum(layer.groups for layer in layers)
    each = config.drain_cycles + latency + config.constant_words
    cycles = tiles * config.drain_cycles + (groups + len(layers)) * each + 60
    simulate(dut, drive, check, background=(array,), cycles=cycles if not stall else 8 * cycles)
    assert write_cycles[0] == finishes[0] + write_latency(config) + channels // requantizers - 1
    assert min(np.diff(finishes), default=config.drain_cycles) >= config.drain_cycles
    if not stall:
        assert config.drain_cycles in np.diff(finishes), "tiles wait longer than the buffer is used"
