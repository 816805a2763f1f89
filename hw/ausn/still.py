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
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..adder import ChoosingAdder
from .decoder import Decoder, choice_layout
from .multiples import Multiples, multiple_of, multiples_layout
from .plan import ACTIVATION_BITS, Plan
from .selector import Selector
from .tile import Accumulator


class StillLane(wiring.Component):
    """``weight * x = (~o if invert else o) + carry``, one cycle after multiples and choice.

    ``later`` are the multiples of one cycle ago, for an adder that chooses. Where none does
    (`Plan.chooses`) ``o`` is inverted already and ``invert`` 0.

    Members
    -------
    multiples, later : In(multiples_layout(plan)), choice : In(choice_layout(plan))
    o : Out(signed(plan.product_bits)), invert, carry : Out(1)
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        super().__init__({
            "multiples": In(multiples_layout(plan)), "later": In(multiples_layout(plan)),
            "choice": In(choice_layout(plan)),
            "o": Out(signed(plan.product_bits)), "invert": Out(1), "carry": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        """Two terms and what inverts them in registers of its own, and their sum."""
        m = Module()
        choice = self.choice
        below  = Signal(reset_less=True)        # whether the term that can be is inverted
        invert = Signal(reset_less=True)        # whether the sum is
        short  = Signal(reset_less=True)        # whether one of them is
        inverted = Cat(choice.terms[f"term{number}"].invert
                       for number, term in enumerate(self.plan.terms) if term.inverts).any()
        m.d.sync += [below.eq(inverted), invert.eq(choice.invert),
                     short.eq(inverted ^ choice.invert)]
        m.d.comb += self.carry.eq(short)

        terms = []
        for number, term in enumerate(self.plan.terms):
            if term.constant:
                continue
            m.submodules[f"term{number}"] = selector = Selector(self.plan, number)
            mine = choice.terms[f"term{number}"]
            m.d.comb += [selector.multiples.eq(self.multiples), selector.index.eq(mine.index),
                         selector.invert.eq(mine.invert), selector.clear.eq(mine.clear)]
            sign = below if term.inverts else Const(0, 1)
            terms.append(Cat(sign.replicate(term.low), selector.o, sign).as_signed())
        bits = self.plan.product_bits
        if not self.plan.chooses:
            total = (terms[0] + terms[1])[:bits]
            m.d.comb += self.o.eq(Mux(invert, ~total, total))
            return m
        constant, = (term for term in self.plan.terms if term.constant)
        index = Signal(reset_less=True)
        m.d.sync += index.eq(choice.terms[f"term{self.plan.terms.index(constant)}"].index)
        zero, one = (Cat(Const(0, 1) if bit is None else bit for bit in
                         multiple_of(self.later, factor)[constant.low:])
                     for factor in constant.multiples)
        m.submodules.adder = adder = ChoosingAdder(bits - constant.low)
        m.d.comb += [adder.a.eq(terms[0][constant.low:].as_signed()), adder.choose.eq(index),
                     adder.b.eq(one), adder.c.eq(zero), self.invert.eq(invert),
                     self.o.eq(Cat(terms[0][:constant.low], adder.o))]
        return m


class StillTile(wiring.Component):
    """Accumulate ``sum of weight[c] * x[p]`` for each pixel p and channel c.

    Members are those of a `Tile` of one tap. What the sums lack is `first_lacks` of their first
    code. :attr:`latency` cycles after its operands the sums hold a product.

    Members
    -------
    x : In(1 x pixels x 8), code : In(1 x channels x plan.code_bits)
    valid : In(1), the operands are to be added; first, last : In(1), of a sum
    sums : Out(pixels x channels x signed(accumulator_bits))
    done : Out(1), ``sums`` hold a whole sum, in this cycle only
    """

    def __init__(self, plan: Plan, pixels: int, channels: int, accumulator_bits: int = 20) -> None:
        if len(plan.terms) != 2 or sum(term.inverts for term in plan.terms) > 1:
            raise ValueError("only plans of two terms, of which one may be inverted, stand still")
        self.plan = plan
        self.pixels = pixels
        self.channels = channels
        self.accumulator_bits = accumulator_bits
        #: From operands to accumulators: registers of operands, multiples, terms.
        self.depth = 3
        self.latency = self.depth + (not plan.chooses)
        super().__init__({
            "x": In(data.ArrayLayout(data.ArrayLayout(ACTIVATION_BITS, pixels), 1)),
            "code": In(data.ArrayLayout(data.ArrayLayout(plan.code_bits, channels), 1)),
            "valid": In(1), "first": In(1), "last": In(1),
            "sums": Out(data.ArrayLayout(data.ArrayLayout(signed(accumulator_bits), channels),
                                         pixels)),
            "done": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        """Operands that are held for zeros; then all of a pixel follows whether it is awake."""
        m = Module()
        plan = self.plan
        # The addition that starts or ends a sum is made even of 0.
        always = self.last if plan.chooses else self.first
        awake = [self.valid & (always | self.x[0][p].any()) for p in range(self.pixels)]
        multiples, later = [], []
        for p in range(self.pixels):
            operand = Signal(ACTIVATION_BITS, name=f"x{p}", reset_less=True)
            with m.If(awake[p]):
                m.d.sync += operand.eq(self.x[0][p])
            m.submodules[f"multiples{p}"] = maker = Multiples(plan)
            m.d.comb += maker.x.eq(operand)
            multiples.append(maker.o)
            later.append(Signal(multiples_layout(plan), name=f"later{p}", reset_less=True))
            m.d.sync += later[p].eq(maker.o)
        choices = []
        for c in range(self.channels):
            operand = Signal(plan.code_bits, name=f"code{c}", reset_less=True)
            with m.If(Cat(awake).any()):
                m.d.sync += operand.eq(self.code[0][c])
            m.submodules[f"decoder{c}"] = decoder = Decoder(plan)
            m.d.comb += decoder.code.eq(operand)
            choices.append(decoder.o)

        stages = [Cat(awake, self.valid & self.first, self.valid & self.last)]
        for stage in range(self.depth):
            stages.append(Signal(self.pixels + 2, name=f"control{stage}"))
            m.d.sync += stages[-1].eq(stages[-2])
        first, last = stages[-1][self.pixels:]
        for p in range(self.pixels):
            lane_awake, sum_awake = stages[-2][p], stages[-1][p]
            for c in range(self.channels):
                lane = StillLane(plan)
                m.submodules[f"lane{p}_{c}"] = EnableInserter(lane_awake)(lane)
                accumulator = Accumulator(self.accumulator_bits, plan.product_bits,
                                          inverts=plan.chooses)
                m.submodules[f"accumulator{p}_{c}"] = accumulator
                m.d.comb += [
                    lane.multiples.eq(multiples[p]), lane.later.eq(later[p]),
                    lane.choice.eq(choices[c]),
                    accumulator.addend.eq(lane.o), accumulator.invert.eq(lane.invert),
                    accumulator.carry.eq(lane.carry), accumulator.accumulate.eq(sum_awake),
                    accumulator.first.eq(first), accumulator.last.eq(last),
                    self.sums[p][c].eq(accumulator.total)]
        if plan.chooses:
            m.d.comb += self.done.eq(last)
        else:
            m.d.sync += self.done.eq(last)
        return m


def first_lacks(plan: Plan, code: int) -> int:
    """By how much a sum is less than that of its products, whose first one is by this ``code``.

    Where a sum starts by loading a product, that carry is not added.
    """
    choice = plan.choices[code]
    inversions = choice.inverted + sum(digit.inverted for digit in choice.digits)
    return 0 if plan.chooses else inversions % 2
