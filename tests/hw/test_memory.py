"""The engine's memory: some cycles to read, and the answer stays until the next."""

import random

import pytest

from hw.memory import EngineMemory

from .streams import simulate

CHANNELS, DEPTH = 4, 37


@pytest.mark.parametrize("single_port, pipelined", [(False, False), (True, False), (False, True)])
def test_random_accesses(single_port, pipelined):
    rng = random.Random(single_port)
    dut = EngineMemory(CHANNELS, DEPTH, single_port=single_port, pipelined=pipelined)
    contents = {address: [0] * CHANNELS for address in range(DEPTH)}

    async def check(ctx):
        answers = [None] * (2 + pipelined)      # what appears in the next cycles; None: no answer
        shown = None
        for _ in range(1500):
            read, write = rng.random() < 0.5, rng.random() < 0.5
            source, target = rng.choices([0, DEPTH - 1, *range(DEPTH)], k=2)
            write = write and source != target and not (single_port and read)
            word = [rng.randrange(256) for _ in range(CHANNELS)]
            ctx.set(dut.read_enable, read)
            ctx.set(dut.read_address, source)
            ctx.set(dut.write_enable, write)
            ctx.set(dut.write_address, target)
            ctx.set(dut.write_data, word)
            answers.append(contents[source] if read else None)
            _, _, got = await ctx.tick().sample(dut.read_data)
            shown = answers.pop(0) or shown
            assert shown is None or list(got) == shown
            if write:
                contents[target] = word

    simulate(dut, check, cycles=1600)
