"""The memory reader: every word once, in order, with its tag, at any pace of both sides."""

import random

import pytest

from hw.memory_reader import MemoryReader

from .streams import get, held_until_ready, put, simulate

CHANNELS = 2


def word_at(address):
    return [address * 7 & 255, address >> 8 ^ 0x5A]


def memory_model(dut):
    """A memory that answers after `MemoryReader.memory_latency` cycles and else says nonsense."""
    async def memory(ctx):
        answers = [None] * (dut.memory_latency - 1)
        nonsense = random.Random(1)
        async for _, _, enable, address, blocked in ctx.tick().sample(
                dut.enable, dut.address, dut.blocked):
            assert not (enable and blocked), "issued while blocked"
            answers.append(word_at(address) if enable else None)
            ctx.set(dut.data, answers.pop(0) or [nonsense.randrange(256) for _ in range(CHANNELS)])
    return memory


@pytest.mark.parametrize("quick_tags", [False, True])
@pytest.mark.parametrize("slow_request, slow_consumer, blocked",
                         [(0, 0, 0), (0.6, 0, 0), (0, 0.6, 0), (0, 0, 0.6), (0.3, 0.3, 0.3),
                          (0, 0.9, 0.1)])
def test_no_loss(slow_request, slow_consumer, blocked, quick_tags):
    rng = random.Random(f"{slow_request} {slow_consumer} {blocked}")
    dut = MemoryReader(CHANNELS, 5, quick_tags=quick_tags)
    requests = [(rng.randrange(1 << 16), rng.randrange(32)) for _ in range(250)]

    async def feed(ctx):
        for address, tag in requests:
            while rng.random() < slow_request:
                await ctx.tick()
            await put(ctx, dut.request, {"address": address, "tag": tag})

    async def check(ctx):
        for address, tag in requests:
            payload = await get(ctx, dut.o, slow_consumer, rng)
            assert (list(payload.word), payload.tag) == (word_at(address), tag)

    async def block(ctx):
        while True:
            ctx.set(dut.blocked, rng.random() < blocked)
            await ctx.tick()

    latency = dut.memory_latency + dut.queue_latency
    cycles = len(requests) + latency + 1 if not slow_request + slow_consumer + blocked else 8000
    simulate(dut, feed, check, background=(memory_model(dut), held_until_ready(dut.o), block),
             cycles=cycles)


def test_latency_and_capacity():
    """A word comes exactly as late as promised, and a consumer that sleeps gets a full queue."""
    dut = MemoryReader(CHANNELS, 5)
    issued = taken = None
    accepted = 0

    async def feed(ctx):
        ctx.set(dut.request.valid, 1)
        while True:
            await ctx.tick()

    async def watch(ctx):
        nonlocal issued, taken, accepted
        for cycle in range(60):
            _, _, enable, valid = await ctx.tick().sample(dut.enable, dut.o.valid)
            accepted += enable
            issued = cycle if enable and issued is None else issued
            taken = cycle if valid and taken is None else taken

    simulate(dut, watch, background=(feed, memory_model(dut)), cycles=70)
    assert taken - issued == dut.memory_latency + dut.queue_latency
    assert accepted == dut.depth
