# amaranth: UnusedElaboratable=no
"""Columns of block RAM in place of a deep Memory: as many blocks as bits, and the same words."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from boards.block_ram import Column, blocks, column_memory, in_columns, tiers

from ..hw.streams import simulate


class Both(wiring.Component):
    """A memory as it is and in columns, under the same accesses."""

    def __init__(self, width, depth):
        self.width, self.depth = width, depth
        super().__init__({
            "write": In(1), "read": In(1), "write_address": In(range(depth)),
            "read_address": In(range(depth)), "written": In(width),
            "plain": Out(width), "columns": Out(width)})

    def elaborate(self, platform):
        m = Module()
        for output in (self.plain, self.columns):
            ram = memory.Memory(shape=self.width, depth=self.depth, init=[],
                                attrs={"ram_style": "block"})
            write, read = ram.write_port(), ram.read_port()
            m.d.comb += [write.en.eq(self.write), write.addr.eq(self.write_address),
                         write.data.eq(self.written), read.en.eq(self.read),
                         read.addr.eq(self.read_address), output.eq(read.data)]
            assert in_columns(ram)
            m.submodules += ram if output is self.plain else column_memory(ram)
        return m


@pytest.mark.parametrize(("width", "depth"), [(10, 4096), (9, 10240), (40, 1536), (1, 34816)])
def test_the_same_words(width, depth):
    dut = Both(width, depth)
    rng = random.Random(depth)
    bounds = [sum(words for _, words in tiers(depth)[:k])
              for k in range(len(tiers(depth)) + 1)]
    places = sorted({place for bound in bounds for place in (bound - 1, bound, bound + 1)
                     if 0 <= place < depth} | {rng.randrange(depth) for _ in range(20)})

    async def check(ctx):
        differing = 0
        for cycle in range(1500):
            place = rng.choice(places)
            ctx.set(dut.write, cycle < len(places) or rng.random() < 0.3)
            ctx.set(dut.write_address, places[cycle] if cycle < len(places) else place)
            ctx.set(dut.written, rng.getrandbits(width))
            other = rng.choice([known for known in places if known != place])
            ctx.set(dut.read, cycle >= len(places) and rng.random() < 0.8)
            ctx.set(dut.read_address, other)
            _, _, plain, columns = await ctx.tick().sample(dut.plain, dut.columns)
            assert plain == columns
            differing += plain != 0
        assert differing > 300

    simulate(dut, check, cycles=1600)


def test_tiers():
    assert tiers(8704) == [(2, 8192), (36, 512)] and tiers(1 << 16) == [(1, 16384)] * 4
    assert tiers(3584) == [(9, 2048), (18, 1024), (36, 512)]


@pytest.mark.parametrize(("bits", "depth", "count"), [
    (256, 512, 8), (256, 2880, 44), (128, 8192, 64), (128, 8500, 68), (66, 1, 2)])
def test_blocks_of_a_memory(bits, depth, count):
    assert blocks(bits, depth) == count


@pytest.mark.parametrize(("depth", "attributes", "init"), [
    (512, {"ram_style": "block"}, []), (5000, {"ram_style": "block"}, []),
    (4096, {"ram_style": "huge"}, []), (4096, {}, []), (4096, {"ram_style": "block"}, [1])])
def test_other_memories_are_left_alone(depth, attributes, init):
    ram = Column(shape=8, depth=depth, init=init, attrs=attributes)
    ram.write_port()
    ram.read_port()
    assert not in_columns(ram)
