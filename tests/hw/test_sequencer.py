"""The sequencer: layer after layer, and a way out of a program that never ends."""

import random

import pytest

from hw.descriptor import FIELDS, pack_descriptor
from hw.sequencer import Sequencer

from .streams import put, simulate, wait_for


class Impatient(Sequencer):
    longest_run = 256


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
                ctx.set(dut.layer_done, last)
                await ctx.tick()
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
        assert clear == (not busy)
        if not busy:
            return cycles
        cycles += 1


@pytest.mark.parametrize("channels", [2, 4, 32])
def test_program_twice(channels):
    rng = random.Random(channels)
    dut = Sequencer(channels)
    layers = random_layers(rng, 5)

    async def host(ctx):
        for _ in range(2):
            await start(ctx, dut)
            assert await end(ctx, dut) == ctx.get(dut.cycles)
            assert not ctx.get(dut.error)

    simulate(dut, host, bench_of(dut, rng, layers * 2, 40), cycles=5000)


async def silent(ctx, dut, layer):
    """The tape gives no descriptor."""


async def unfinished(ctx, dut, layer):
    """A layer's last result is never written."""
    for word in pack_descriptor(layer, dut.word_bytes):
        await put(ctx, dut.words, word)


async def endless(ctx, dut, layer):
    """Layer after layer ends, and none is the last."""
    for _ in range(dut.longest_run):
        for word in pack_descriptor(layer | {"last_layer": 0}, dut.word_bytes):
            await put(ctx, dut.words, word)
        ctx.set(dut.layer_done, 1)
        await ctx.tick()
        await ctx.tick()
        ctx.set(dut.layer_done, 0)


@pytest.mark.parametrize("program", [silent, unfinished, endless])
def test_a_run_without_end(program):
    """An error after ``longest_run`` cycles, which stays until the next start."""
    rng = random.Random(0)
    dut = Impatient(16)
    bad, _ = random_layers(rng, 2)

    async def tape(ctx):
        await wait_for(ctx, dut.fetch)
        await program(ctx, dut, bad)

    async def host(ctx):
        await start(ctx, dut)
        took = await end(ctx, dut)
        assert dut.longest_run < took <= dut.longest_run + 3
        for _ in range(5):
            *_, error, busy = await ctx.tick().sample(dut.error, dut.busy)
            assert error and not busy

    simulate(dut, host, background=(tape,), cycles=500)


def test_the_run_after_an_error_is_clean():
    rng = random.Random(0)
    dut = Impatient(16)

    async def host(ctx):
        await start(ctx, dut)
        await end(ctx, dut)
        assert ctx.get(dut.error)
        await start(ctx, dut)
        await end(ctx, dut)
        assert not ctx.get(dut.error)

    async def blocks(ctx):
        await wait_for(ctx, dut.error)
        await bench_of(dut, rng, random_layers(rng, 2), 5)(ctx)

    simulate(dut, host, blocks, cycles=1000)
