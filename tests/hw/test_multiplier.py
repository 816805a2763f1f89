"""Multipliers: every product of a byte and a signed byte; small weights for two pixels."""

import random

from amaranth.hdl import Module, Signal

from hw.multiplier import MultiplierPair, PackedPair, SumOfFour

from .streams import simulate


def signed_byte(value: int) -> int:
    return (value & 255) - 256 * (value >> 7 & 1)


def test_all_operands():
    """A counter gives one side every (low, high) byte pair and the other every (high, low)."""
    m = Module()
    m.submodules.pair = pair = MultiplierPair()
    count = Signal(16)
    m.d.sync += count.eq(count + 1)
    m.d.comb += [pair.x[0].eq(count[:8]), pair.w[0].eq(count[8:].as_signed()),
                 pair.x[1].eq(count[8:]), pair.w[1].eq(count[:8].as_signed())]

    async def check(ctx):
        for cycle in range((1 << 16) + pair.latency):
            _, _, left, right = await ctx.tick().sample(pair.o[0], pair.o[1])
            low, high = (cycle - pair.latency) & 255, (cycle - pair.latency) >> 8
            if cycle >= pair.latency:
                assert left == low * signed_byte(high), (low, high)
                assert right == high * signed_byte(low), (low, high)

    simulate(m, check, cycles=(1 << 16) + 10)


def test_packed_pair():
    """Every activation beside chosen ones and others, with every weight."""
    dut = PackedPair()
    rng = random.Random(0)
    pairs = [(x, other) for x in range(256) for other in (0, 1, 145, 146, 147, 255)]
    pairs += [(other, x) for x, other in pairs] + [
        (rng.randrange(256), rng.randrange(256)) for _ in range(1000)]
    cases = [(x, w) for w in range(-7, 8) for x in rng.sample(pairs, 600)] + [
        (x, w) for w in (-7, 7) for x in pairs]

    async def check(ctx):
        for cycle in range(len(cases) + dut.latency):
            (x0, x1), w = cases[min(cycle, len(cases) - 1)]
            ctx.set(dut.x, [x0, x1])
            ctx.set(dut.w, w)
            _, _, low, high = await ctx.tick().sample(dut.o[0], dut.o[1])
            if cycle >= dut.latency:
                (x0, x1), w = cases[cycle - dut.latency]
                assert (low, high) == (x0 * w, x1 * w), (x0, x1, w)

    simulate(dut, check, cycles=len(cases) + 10)


def test_sum_of_four():
    dut = SumOfFour()
    rng = random.Random(0)
    cases = [([x] * 4, [w] * 4) for x in (0, 255) for w in (-128, 127)] + [
        (list(rng.randbytes(4)), [signed_byte(w) for w in rng.randbytes(4)]) for _ in range(200)]

    async def check(ctx):
        for cycle in range(len(cases) + dut.latency):
            x, w = cases[min(cycle, len(cases) - 1)]
            ctx.set(dut.x, x)
            ctx.set(dut.w, w)
            _, _, total = await ctx.tick().sample(dut.o)
            if cycle >= dut.latency:
                x, w = cases[cycle - dut.latency]
                assert total == sum(a * b for a, b in zip(x, w, strict=True)), (x, w)

    simulate(dut, check, cycles=len(cases) + 10)
