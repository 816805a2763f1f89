"""The sequencer: layer after layer, and a way out of a layer that never ends."""

import random

import pytest

from hw.descriptor import FIELDS, pack_descriptor
from hw.sequencer import Sequencer

from .streams import put, simulate, wait_for


class Impatient(Sequencer):
    patience = 40


def random_layers(rng, count):
    """Field values of ``count`` descriptors; only the last one ends the program."""
    return [{name: rng.randrange(1 << bits) for name, (bits, _) in FIELDS.items()}
            | {"last_layer": int(number == count - 1)} for number in range(count)]


def bench_of(dut, rng, layers, idle):
    """The blocks around the sequencer: they answer, work for a while and report the end.

    ``idle`` is the longest time without a result.
    """
    async def blocks(ctx):
        for values in layers:
            await wait_for(ctx, dut.fetch)
            for word in pack_descriptor(values, dut.word_bytes):
                for _ in range(rng.randrange(3)):
                    await ctx.tick()
                await put(ctx, dut.words, word)
            layer, = await wait_for(ctx, dut.begin, dut.layer)
            assert {name: layer[name] for name in FIELDS} == values
            for last in [False] * rng.randrange(4) + [True]:
                for _ in range(rng.choice([0, rng.randrange(idle + 1), idle])):
                    await ctx.tick()
                ctx.set(dut.progress, 1)
                ctx.set(dut.layer_done, last)
                await ctx.tick()
                ctx.set(dut.progress, 0)
                ctx.set(dut.layer_done, 0)
    return blocks


async def start(ctx, dut):
    ctx.set(dut.start, 1)
    _, _, clear, busy = await ctx.tick().sample(dut.clear, dut.busy)
    ctx.set(dut.start, 0)
    assert clear and not busy


async def end(ctx, dut):
    """Wait for the end; the number of busy cycles."""
    cycles = 0
    while True:
        _, _, busy, clear = await ctx.tick().sample(dut.busy, dut.clear)
        assert not clear
        if not busy:
            return cycles
        cycles += 1


@pytest.mark.parametrize("channels", [2, 4, 32])
def test_program_twice(channels):
    rng = random.Random(channels)
    dut = Impatient(channels)
    layers = random_layers(rng, 5)

    async def host(ctx):
        for _ in range(2):
            await start(ctx, dut)
            assert await end(ctx, dut) == ctx.get(dut.cycles)
            assert not ctx.get(dut.error)

    # A pause of patience - 3 cycles between results is still allowed.
    simulate(dut, host, bench_of(dut, rng, layers * 2, dut.patience - 3), cycles=5000)


def test_hanging_layer():
    """Nothing written for ``patience`` cycles: an error, and the next start clears it."""
    rng = random.Random(0)
    dut = Impatient(4)
    hanging, *good = random_layers(rng, 3)

    async def host(ctx):
        await start(ctx, dut)
        for word in pack_descriptor(hanging, 4):
            await put(ctx, dut.words, word)
        await wait_for(ctx, dut.begin)
        assert await end(ctx, dut) == dut.patience
        assert ctx.get(dut.error)
        for _ in range(5):
            *_, error, busy = await ctx.tick().sample(dut.error, dut.busy)
            assert error and not busy

    async def recovery(ctx):
        await wait_for(ctx, dut.error)
        for _ in range(10):
            await ctx.tick()
        await start(ctx, dut)
        await bench_of(dut, rng, good, 5)(ctx)
        await ctx.tick()
        assert not ctx.get(dut.error) and not ctx.get(dut.busy)

    simulate(dut, host, recovery, cycles=500)
