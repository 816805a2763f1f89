"""Constants of groups: the next set arrives while one is in use, and never disturbs it."""

import random
from collections import deque

import numpy as np
import pytest

from hw.compiler import constant_words
from hw.config import EngineConfig
from hw.constant_banks import ConstantBanks

from .streams import simulate


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("channels, requantizers, weight_bits, leaky", [
    (2, 2, 8, True), (4, 1, 8, True), (8, 2, 8, False), (8, 1, 4, True), (8, 8, 4, False),
    (8, 8, 5, True), (8, 2, 3, False),
    (8, 4, 8, False)])
def test_sets_follow_each_other(channels, requantizers, weight_bits, leaky, pipelined):
    config = EngineConfig(channels=channels, pixels=1, requantizers=requantizers, tape_depth=1,
                          activation_depth=1, single_port=False, weight_bits=weight_bits,
                          leaky=leaky, clips=leaky, pipelined=pipelined)
    dut = ConstantBanks(config)
    rng = random.Random(channels)
    size, chunk_bytes = config.tape_bytes, config.constant_bytes * requantizers
    chunks = [[rng.randbytes(chunk_bytes) for _ in range(dut.chunks)] for _ in range(12)]
    sets = [b"".join(bytes(word) for word in constant_words(
        np.frombuffer(b"".join(one), np.uint8).reshape(channels, -1), config)) for one in chunks]
    assert {len(one) for one in sets} == {config.constant_words * size}
    arrived, used = [], []                       # sets given whole, sets switched to

    async def feed(ctx):
        for number, one in enumerate(sets):
            for start in range(0, len(one), size):
                while not ctx.get(dut.ready) or rng.random() < 0.3:
                    await ctx.tick()
                assert len(used) >= number - 1 + (number == 0), "room for two sets, no more"
                ctx.set(dut.constant, list(one[start:start + size]))
                ctx.set(dut.valid, 1)
                await ctx.tick()
                ctx.set(dut.valid, 0)
                ctx.set(dut.constant, [rng.randrange(256) for _ in range(size)])
            await ctx.tick()
            arrived.append(number)

    async def check(ctx):
        due = deque([None] * (2 * pipelined))    # what is shown some cycles later
        while len(used) < len(sets):
            ctx.set(dut.switch, len(arrived) > len(used) and rng.random() < 0.3)
            chunk = rng.randrange(dut.chunks)
            ctx.set(dut.chunk, chunk)
            switched = ctx.get(dut.switch)
            await ctx.tick()
            if switched:
                used.append(len(used))
            due.append(chunks[used[-1]][chunk] if used else None)
            part = due.popleft()
            if part is not None:
                assert ctx.get(dut.o) == int.from_bytes(part, "little")

    simulate(dut, feed, check, cycles=5000)
