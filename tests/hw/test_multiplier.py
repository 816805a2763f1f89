"""The multiplier pair: every product of a byte and a signed byte, on both sides."""

from amaranth.hdl import Module, Signal

from hw.multiplier import MultiplierPair

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
