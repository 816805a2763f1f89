"""Pixels by channels of dot products, each over several taps a cycle, into accumulators."""

from amaranth.hdl import Elaboratable, Module, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .adder import InvertingAdder, LoadingAdder
from .decoder import Decoder, choice_layout
from .lane import Lane
from .multiples import Multiples, multiples_layout
from .plan import ACTIVATION_BITS, Plan


class Accumulator(wiring.Component):
    """Sum up addends and carries; addends that come inverted late (``inverts``) are so here.

    Without ``inverts`` an addend with ``first`` starts anew, its carry left out, and ``total``
    includes an addend one cycle later. With it the adder has no input left for that: ``total``
    includes an addend in its own cycle, and one with ``last`` leaves zero behind.

    Members
    -------
    addend : In(signed(addend_bits)), invert, carry, accumulate, first, last : In(1)
    total : Out(signed(bits))
    """

    def __init__(self, bits: int, addend_bits: int, *, inverts: bool) -> None:
        self.bits = bits
        self.inverts = inverts
        super().__init__({"addend": In(signed(addend_bits)), "invert": In(1), "carry": In(1),
                          "accumulate": In(1), "first": In(1), "last": In(1),
                          "total": Out(signed(bits))})

    def elaborate(self, platform: object) -> Elaboratable:
        """One adder and its register."""
        m = Module()
        held = Signal(signed(self.bits))
        if self.inverts:
            m.submodules.adder = adder = InvertingAdder(self.bits)
            m.d.comb += [adder.a.eq(held), adder.b.eq(self.addend), adder.invert.eq(self.invert),
                         adder.carry.eq(self.carry), self.total.eq(adder.o)]
            with m.If(self.accumulate & self.last):     # outermost: the register's own reset
                m.d.sync += held.eq(0)
            with m.Elif(self.accumulate):
                m.d.sync += held.eq(adder.o)
        else:
            m.submodules.adder = adder = LoadingAdder(self.bits)
            m.d.comb += [adder.a.eq(self.addend), adder.b.eq(held), adder.load.eq(self.first),
                         adder.carry.eq(self.carry), self.total.eq(held)]
            with m.If(self.accumulate):
                m.d.sync += held.eq(adder.o)
        return m


def tile_members(code_bits: int, pixels: int, channels: int, taps: int = 1,
                 accumulator_bits: int = 20) -> dict[str, wiring.Member]:
    """The ports of all tiles (`Tile`)."""
    return {
        "x": In(data.ArrayLayout(data.ArrayLayout(ACTIVATION_BITS, pixels), taps)),
        "code": In(data.ArrayLayout(data.ArrayLayout(code_bits, channels), taps)),
        "valid": In(1), "first": In(1), "last": In(1),
        "sums": Out(data.ArrayLayout(data.ArrayLayout(signed(accumulator_bits), channels),
                                     pixels)),
        "done": Out(1)}


class Tile(wiring.Component):
    """Accumulate ``sum over t of weight[t][c] * x[t][p] - lacks`` for each pixel p and channel c.

    What the sums lack is `group_lacks` of each cycle's codes. One group of ``taps`` products per
    lane and cycle, :attr:`latency` cycles after its operands the sums hold it.

    Members
    -------
    x : In(taps x pixels x 8), code : In(taps x channels x plan.code_bits)
    valid : In(1), the operands are to be added; first, last : In(1), of a sum
    sums : Out(pixels x channels x signed(accumulator_bits))
    done : Out(1), ``sums`` hold a whole sum, in this cycle only
    """

    def __init__(self, plan: Plan, pixels: int, channels: int, taps: int = 1,
                 accumulator_bits: int = 20) -> None:
        if taps & taps - 1 or taps < 1:
            raise ValueError(f"taps must be a power of two, not {taps}")
        self.plan = plan
        self.pixels = pixels
        self.channels = channels
        self.taps = taps
        self.accumulator_bits = accumulator_bits
        levels = taps.bit_length() - 1
        #: From operands to accumulators: registers of multiples and choices, the lane, the tree.
        self.depth = 1 + len(plan.terms) + levels
        self.latency = self.depth + (not plan.chooses)
        super().__init__(tile_members(plan.code_bits, pixels, channels, taps, accumulator_bits))

    def elaborate(self, platform: object) -> Elaboratable:
        """What pixels and channels share, the lanes, their trees and accumulators."""
        m = Module()
        terms = len(self.plan.terms)
        multiples = [[self.multiples(m, tap, p) for p in range(self.pixels)]
                     for tap in range(self.taps)]
        choices = [[self.choices(m, tap, c) for c in range(self.channels)]
                   for tap in range(self.taps)]
        valid, first, last = (self.delays(m, signal, self.depth)[-1]
                              for signal in (self.valid, self.first, self.last))
        for p in range(self.pixels):
            for c in range(self.channels):
                nodes = []
                for tap in range(self.taps):
                    lane = Lane(self.plan)
                    m.submodules[f"lane{p}_{c}_{tap}"] = lane
                    m.d.comb += [
                        *(lane.multiples[k].eq(multiples[tap][p][k]) for k in range(terms)),
                        *(lane.choices[k].eq(choices[tap][c][k]) for k in range(terms))]
                    nodes.append((lane.o, [choice.invert for choice in choices[tap][c][terms:]]))
                total, inverts = self.tree(m, nodes, f"{p}_{c}")
                accumulator = Accumulator(self.accumulator_bits, len(total),
                                          inverts=self.plan.chooses)
                m.submodules[f"accumulator{p}_{c}"] = accumulator
                m.d.comb += [accumulator.addend.eq(total), accumulator.invert.eq(inverts[0]),
                             accumulator.accumulate.eq(valid), accumulator.first.eq(first),
                             accumulator.last.eq(last), self.sums[p][c].eq(accumulator.total)]
        if self.plan.chooses:
            m.d.comb += self.done.eq(valid & last)
        else:
            m.d.sync += self.done.eq(valid & last)
        return m

    def multiples(self, m: Module, tap: int, p: int) -> list[data.View]:
        """An activation's multiples and their delays."""
        m.submodules[f"multiples{tap}_{p}"] = maker = Multiples(self.plan)
        m.d.comb += maker.x.eq(self.x[tap][p])
        layout = multiples_layout(self.plan)
        return [data.View(layout, one) for one in
                self.delays(m, Value.cast(maker.o), len(self.plan.terms) - 1)]

    def choices(self, m: Module, tap: int, c: int) -> list[data.View]:
        """A code's choices and their delays, as far as the accumulator."""
        m.submodules[f"decoder{tap}_{c}"] = decoder = Decoder(self.plan)
        m.d.comb += decoder.code.eq(self.code[tap][c])
        layout = choice_layout(self.plan)
        return [data.View(layout, one) for one in
                self.delays(m, Value.cast(decoder.o), self.depth)[1:]]

    def delays(self, m: Module, value: Value, cycles: int) -> list[Value]:
        """The value and what it was 1 to ``cycles`` cycles ago; control bits are 0 after reset."""
        values = [value]
        for _ in range(cycles):
            later = Signal(len(value), name="later", reset_less=len(value) > 1)
            m.d.sync += later.eq(values[-1])
            values.append(later)
        return values

    def tree(self, m: Module, nodes: list[tuple[Value, list[Value]]], name: str
             ) -> tuple[Value, list[Value]]:
        """The nodes' sum and whether it is inverted, now and with delays, in pairs.

        Where the nodes come inverted late, the second of a pair is inverted if not as the first,
        and their sum as the first.
        """
        while len(nodes) > 1:
            sums = []
            for k, ((a, invert), (b, other)) in enumerate(zip(nodes[::2], nodes[1::2],
                                                              strict=True)):
                total = Signal(signed(len(a) + 1), name=f"tree{len(nodes)}_{k}_{name}",
                               reset_less=True)
                if self.plan.chooses:
                    m.submodules += (adder := InvertingAdder(len(total)))
                    m.d.comb += [adder.a.eq(a), adder.b.eq(b),
                                 adder.invert.eq(invert[0] ^ other[0])]
                    m.d.sync += total.eq(adder.o)
                else:
                    m.d.sync += total.eq(a + b)
                sums.append((total, invert[1:]))
            nodes = sums
        return nodes[0]


def group_lacks(plan: Plan, codes: tuple[int, ...]) -> int:
    """By how much a tile's sum over taps of these ``codes`` is less than that of the products."""
    if not plan.chooses:
        return sum(plan.lacks[code] for code in codes)
    # A node is its sum, with the sign of its first leaf, less the second number.
    nodes = [(plan.choices[code].inverted,
              1 - plan.lacks[code] if plan.choices[code].inverted else plan.lacks[code])
             for code in codes]
    while len(nodes) > 1:
        nodes = [(a, short - other + 1 if a != b else short + other)
                 for (a, short), (b, other) in zip(nodes[::2], nodes[1::2], strict=True)]
    (inverted, short), = nodes
    return 1 - short if inverted else short
