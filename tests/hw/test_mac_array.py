"""The array: sums of broadcast, lane-wise and largest products, at any pace of its three sides."""

import random
from collections import deque
from itertools import count

import pytest

from hw.config import EngineConfig
from hw.mac_array import MacArray, array_latency
from hw.window_memory import read_latency
from hw.words import TAGS

from .streams import put, simulate

NO_TAGS = dict.fromkeys(TAGS.members, 0)


def wrapped(value, bits):
    """``value`` as two's complement of ``bits`` bits."""
    return (value + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def corner(rng, lo, hi):
    """A number of a range, often one of its ends."""
    return rng.choice([lo, hi, rng.randint(lo, hi), rng.randint(lo, hi)])


def make_tiles(rng, pixels, channels, largest, mode, channel_last, count):
    """Windows, weights and, for each tile, its sums and tags; all as nested lists."""
    windows, weights, tiles = [], [], []
    for number in range(count):
        sums = [[0] * channels for _ in range(pixels)]
        size = rng.choice([1, 1, 2, 3, 6])
        for index in range(size):
            words = [[corner(rng, 0, 255) for _ in range(channels)] for _ in range(pixels)]
            tags = {"first": index == 0, "last": index == size - 1,
                    "partial": rng.randrange(2), "row_last": number & 1,
                    "group_last": number >> 1 & 1, "layer_last": number >> 2 & 1}
            windows.append({"words": words, "tags": tags})
            used = channel_last + 1 if tags["partial"] else channels
            for channel in range(used):
                weight = [2 if mode == "maximum" else corner(rng, -largest, largest)
                          for _ in range(channels)]
                weights.append(weight)
                for p in range(pixels):
                    for c in range(channels):
                        x = words[p][channel if mode == "broadcast" else c]
                        product = x * weight[c]
                        sums[p][c] = (max(sums[p][c], product) if mode == "maximum"
                                      else sums[p][c] + product)
        tiles.append((sums, {name: int(tags[name]) for name in ("row_last", "group_last",
                                                                "layer_last")}))
    return windows, weights, tiles


@pytest.mark.parametrize("mode", ["broadcast", "depthwise", "maximum"])
@pytest.mark.parametrize("pixels, channels, bits, weight_bits, table_pixels", [
    (1, 2, 16, 8, 0), (3, 4, 24, 8, 1), (2, 8, 18, 8, 0), (3, 4, 18, 4, 0), (4, 2, 18, 4, 1),
    (2, 8, 16, 3, 1), (2, 8, 20, 5, 1)])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_sums(mode, pixels, channels, bits, weight_bits, table_pixels, stall):
    rng = random.Random(f"{mode} {pixels} {channels} {stall}")
    config = EngineConfig(channels=channels, pixels=pixels, requantizers=channels, tape_depth=1,
                          activation_depth=1, single_port=False, accumulator_bits=bits,
                          weight_bits=weight_bits, table_pixels=table_pixels,
                          pipelined=weight_bits <= 4)
    dut = MacArray(config)
    channel_last = rng.randrange(channels)
    windows, weights, tiles = make_tiles(rng, pixels, channels, (1 << (weight_bits - 1)) - 1, mode,
                                         channel_last, 24)
    finished = []

    async def present(ctx):
        """The words of a window, `read_latency` cycles after it was taken, until the next one's."""
        coming = deque([None] * (read_latency(config) - 1))
        taken = iter(windows)
        async for _, _, valid, ready in ctx.tick().sample(dut.i.valid, dut.i.ready):
            coming.append(next(taken)["words"] if valid and ready else None)
            words = coming.popleft()
            if words is not None:
                ctx.set(dut.words, words)

    async def feed(ctx):
        ctx.set(dut.depthwise, mode != "broadcast")
        ctx.set(dut.maximum, mode == "maximum")
        ctx.set(dut.channel_last, channel_last)
        for window in windows:
            while rng.random() < stall:
                await ctx.tick()
            await put(ctx, dut.i, window["tags"])

    async def feed_weights(ctx):
        for weight in weights:
            while rng.random() < stall:
                await ctx.tick()
            await put(ctx, dut.weights, weight)

    async def allow(ctx):
        while True:
            ctx.set(dut.may_finish, rng.random() >= stall)
            await ctx.tick()

    async def check(ctx):
        shown = []                      # the sums of a tile that were to be seen in this cycle
        for cycle in count(1):
            _, _, finishing, allowed, done, got, got_tags = await ctx.tick().sample(
                dut.finishing, dut.may_finish, dut.done, dut.sums, dut.tags)
            if finishing:
                assert allowed
                finished.append(cycle)
            if shown:
                assert [list(row) for row in ctx.get(dut.sums)] == shown.pop()
            if done:
                assert cycle == finished.pop(0) + array_latency(config) - config.pipelined
                sums, tags = tiles.pop(0)
                sums = [[wrapped(value, bits) for value in row] for row in sums]
                assert {name: got_tags[name] for name in tags} == tags
                if config.pipelined:
                    shown.append(sums)
                else:
                    assert [list(row) for row in got] == sums
            if not tiles and not shown:
                break

    # One product per cycle, and a cycle for each window whose predecessor was still in use.
    cycles = len(weights) + 2 + array_latency(config) if not stall else 20 * len(weights)
    simulate(dut, feed, feed_weights, check, background=(allow, present), cycles=cycles)
