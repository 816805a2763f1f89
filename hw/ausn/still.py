"""Pixels by channels of multiply-accumulates that stand still where their activation is 0.

The lanes of `hw.ausn.tile` let what a product lacks depend on the code alone, so they have to work
for a 0 as well: its products go from 0 to -1 and back with each weight's sign. These are exact and
have nothing to do: no register of a pixel's lanes changes, and none of a channel where all its
pixels stand still. Nor is there a register between product and accumulator. That takes less energy
by a quarter for half of the activations being 0, and a few more lookup tables.

Exactness costs one carry. Where a term is inverted below its lowest bit too, it lacks 1, and so
does an inverted sum: together they lack 1 or nothing, what the accumulator's carry input adds.
"""

from amaranth.hdl import Cat, Const, Elaboratable, EnableInserter, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .decoder import Decoder, choice_layout
from .multiples import Multiples, multiples_layout
from .plan import Plan
from .selector import Selector
from .tile import Accumulator, tile_members


class StillLane(wiring.Component):
    """``weight * x = o + carry``, one cycle after multiples and choice.

    Members
    -------
    multiples : In(multiples_layout(plan)), choice : In(choice_layout(plan))
    o : Out(signed(plan.product_bits)), carry : Out(1)
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        super().__init__({
            "multiples": In(multiples_layout(plan)), "choice": In(choice_layout(plan)),
            "o": Out(signed(plan.product_bits)), "carry": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        """Two terms and what inverts them in registers of its own, and their sum."""
        m = Module()
        choice = self.choice
        below  = Signal(reset_less=True)        # whether the term that can be is inverted
        invert = Signal(reset_less=True)        # whether the sum is
        inverted = Cat(choice.terms[f"term{number}"].invert
                       for number, term in enumerate(self.plan.terms) if term.inverts).any()
        carry = Signal(reset_less=True)
        m.d.sync += [below.eq(inverted), invert.eq(choice.invert),
                     carry.eq(inverted ^ choice.invert)]
        m.d.comb += self.carry.eq(carry)

        terms = []
        for number, term in enumerate(self.plan.terms):
            m.submodules[f"term{number}"] = selector = Selector(self.plan, number)
            mine = choice.terms[f"term{number}"]
            m.d.comb += [selector.multiples.eq(self.multiples), selector.index.eq(mine.index),
                         selector.invert.eq(mine.invert), selector.clear.eq(mine.clear)]
            sign = below if term.inverts else Const(0, 1)
            terms.append(Cat(sign.replicate(term.low), selector.o, sign).as_signed())
        total = (terms[0] + terms[1])[:self.plan.product_bits]
        m.d.comb += self.o.eq(Mux(invert, ~total, total))
        return m


class StillTile(wiring.Component):
    """Accumulate ``sum of weight[c] * x[p]`` for each pixel p and channel c.

    Members are those of a `Tile` of one tap. What the sums lack is `first_lacks` of their first
    code. :attr:`latency` cycles after its operands the sums hold a product. Raises `ValueError`
    for plans of more terms, or whose adders choose (`hw.ausn.held.HeldTile`).

    Members
    -------
    x : In(1 x pixels x 8), code : In(1 x channels x plan.code_bits)
    valid : In(1), the operands are to be added; first, last : In(1), of a sum
    sums : Out(pixels x channels x signed(accumulator_bits))
    done : Out(1), ``sums`` hold a whole sum, in this cycle only
    """

    latency = 3

    def __init__(self, plan: Plan, pixels: int, channels: int, accumulator_bits: int = 20) -> None:
        if (len(plan.terms) != 2 or plan.chooses
                or sum(term.inverts for term in plan.terms) > 1):
            raise ValueError("only plans of two terms, of which one may be inverted and none is "
                             "chosen by an adder, stand still")
        self.plan = plan
        self.pixels = pixels
        self.channels = channels
        self.accumulator_bits = accumulator_bits
        super().__init__(tile_members(plan.code_bits, pixels, channels,
                                      accumulator_bits=accumulator_bits))

    def elaborate(self, platform: object) -> Elaboratable:
        """Operands that are held for zeros; then all of a pixel follows whether it is awake."""
        m = Module()
        plan = self.plan
        # The addition that starts a sum is made even of 0.
        awake = [self.valid & (self.first | self.x[0][p].any()) for p in range(self.pixels)]
        multiples, choices = [], []
        for p in range(self.pixels):
            m.submodules[f"multiples{p}"] = maker = EnableInserter(awake[p])(Multiples(plan))
            m.d.comb += maker.x.eq(self.x[0][p])
            multiples.append(maker.o)
        for c in range(self.channels):
            m.submodules[f"decoder{c}"] = decoder = Decoder(plan)
            choice = Signal(choice_layout(plan), name=f"choice{c}", reset_less=True)
            m.d.comb += decoder.code.eq(self.code[0][c])
            with m.If(Cat(awake).any()):
                m.d.sync += choice.eq(decoder.o)
            choices.append(choice)

        control = Cat(awake, self.valid & self.first, self.valid & self.last)
        for stage in range(2):
            following = Signal(self.pixels + 2, name=f"control{stage}")
            m.d.sync += following.eq(control)
            lanes_awake, control = control, following
        first, last = control[self.pixels:]
        m.d.sync += self.done.eq(last)
        for p in range(self.pixels):
            for c in range(self.channels):
                m.submodules[f"lane{p}_{c}"] = lane = EnableInserter(lanes_awake[p])(
                    StillLane(plan))
                accumulator = Accumulator(self.accumulator_bits, plan.product_bits, inverts=False)
                m.submodules[f"accumulator{p}_{c}"] = accumulator
                m.d.comb += [
                    lane.multiples.eq(multiples[p]), lane.choice.eq(choices[c]),
                    accumulator.addend.eq(lane.o), accumulator.carry.eq(lane.carry),
                    accumulator.accumulate.eq(control[p]), accumulator.first.eq(first),
                    accumulator.last.eq(last), self.sums[p][c].eq(accumulator.total)]
        return m


def first_lacks(plan: Plan, code: int) -> int:
    """By how much a sum is less than that of its products, whose first one is by this ``code``.

    It starts by loading a product, whose carry is not added.
    """
    choice = plan.choices[code]
    return (choice.inverted + sum(digit.inverted for digit in choice.digits)) % 2
