"""The buffer of two places: order kept, a payload a cycle, and no wait that is not necessary."""

import random

import pytest

from hw.buffer import Buffer

from .streams import get, held_until_ready, put, simulate


@pytest.mark.parametrize("slow_input, slow_output", [(0, 0), (0.6, 0), (0, 0.6), (0.4, 0.4)])
def test_order(slow_input, slow_output):
    rng = random.Random(f"{slow_input} {slow_output}")
    payloads = [rng.randrange(256) for _ in range(300)]
    dut = Buffer(8)

    async def feed(ctx):
        for payload in payloads:
            while rng.random() < slow_input:
                await ctx.tick()
            await put(ctx, dut.i, payload)

    async def check(ctx):
        for payload in payloads:
            assert await get(ctx, dut.o, slow_output, rng) == payload

    # A payload a cycle: the first comes a cycle later.
    cycles = 20 * len(payloads) if slow_input or slow_output else len(payloads) + 2
    simulate(dut, feed, check, background=(held_until_ready(dut.o),), cycles=cycles)


def test_two_places():
    """It takes two payloads without a consumer, and a third once one has left, a cycle later."""
    dut = Buffer(8)

    async def check(ctx):
        ctx.set(dut.i.valid, 1)
        accepted = []
        for cycle in range(8):
            ctx.set(dut.i.payload, cycle)
            ctx.set(dut.o.ready, cycle == 5)
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            if ready:
                accepted.append(cycle)
        assert accepted == [0, 1, 6]

    simulate(dut, check, cycles=20)
