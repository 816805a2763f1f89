"""One product: terms chosen from multiples of the activation, added up."""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..adder import ChoosingAdder
from .decoder import choice_layout
from .multiples import multiple_of, multiples_layout
from .plan import ACTIVATION_BITS, Plan
from .selector import Selector


class Lane(wiring.Component):
    """``o = weight * x - lacks`` for the code (`Plan`), :attr:`latency` cycles later.

    Multiples and choices come with all their delays, which the lanes of a pixel or of a channel
    share: number k has been delayed by k cycles. Where the plan's adders choose (`Plan.chooses`)
    ``o`` is not inverted yet: that is for whoever adds it.

    Members
    -------
    multiples : In(latency x multiples_layout(plan)), choices : In(latency x choice_layout(plan))
    o : Out(signed(plan.product_bits))
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.latency = len(plan.terms)
        super().__init__({
            "multiples": In(data.ArrayLayout(multiples_layout(plan), self.latency)),
            "choices": In(data.ArrayLayout(choice_layout(plan), self.latency)),
            "o": Out(signed(plan.product_bits))})

    def elaborate(self, platform: object) -> Elaboratable:
        """The highest two terms first, then one more every cycle."""
        m = Module()
        last = len(self.plan.terms) - 1
        total = self.select(m, last, 0)
        largest = max(self.plan.terms[last].multiples)
        for stage in range(1, last + 1):
            number = last - stage
            term = self.plan.terms[number]
            largest += max(term.multiples)
            bits = min(self.plan.product_bits,
                       (largest * ((1 << ACTIVATION_BITS) - 1)).bit_length() + 1)
            added = self.select(m, number, stage - 1)
            total = self.add(m, total, added, number, stage, bits)
        m.d.comb += self.o.eq(total)
        return m

    def select(self, m: Module, number: int, stage: int) -> Value:
        """A term as it stands one cycle after ``stage``; nothing where the adder chooses it."""
        term = self.plan.terms[number]
        if term.constant:
            return Const(0, 1)
        m.submodules[f"term{number}"] = selector = Selector(self.plan, number)
        choice = self.choices[stage].terms[f"term{number}"]
        m.d.comb += [selector.multiples.eq(self.multiples[stage]),
                     selector.index.eq(choice.index), selector.invert.eq(choice.invert),
                     selector.clear.eq(choice.clear)]
        sign: Value = Const(0, 1)
        if term.inverts:
            sign = self.choices[stage + 1].terms[f"term{number}"].invert
        return Cat(Const(0, term.low), selector.o, sign).as_signed()

    def add(self, m: Module, total: Value, added: Value, number: int, stage: int, bits: int
            ) -> Value:
        """The sum, in its register: bits below all of ``total``'s multiples are those ``added``."""
        above = self.plan.terms[number + 1]
        held = Signal(signed(bits), name=f"sum{number}", reset_less=True)
        result = Signal(signed(bits), name=f"result{number}")
        high = bits - above.low
        if above.constant:
            m.submodules.adder = adder = ChoosingAdder(high)
            choice = self.choices[stage].terms[f"term{number + 1}"]
            zero, one = (Cat(Const(0, 1) if bit is None else bit for bit in
                             multiple_of(self.multiples[stage], factor)[above.low:])
                         for factor in above.multiples)
            m.d.comb += [adder.a.eq(added[above.low:].as_signed()), adder.choose.eq(choice.index),
                         adder.b.eq(one), adder.c.eq(zero)]
            upper = adder.o
        else:
            upper = (total[above.low:].as_signed() + added[above.low:].as_signed())[:high]
        m.d.comb += result.eq(Cat(added[:above.low], upper))
        inverts = number == 0 and not self.plan.chooses and any(
            choice.inverted for choice in self.plan.choices)
        m.d.sync += held.eq(Mux(self.choices[stage].invert, ~result, result) if inverts else result)
        return held
