"""The odd multiples of an activation, made once for all lanes that multiply it."""

from amaranth.hdl import Elaboratable, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .plan import ACTIVATION_BITS, Plan


def multiples_layout(plan: Plan) -> data.StructLayout:
    """An activation as ``x1`` and its odd multiples that the plan's lanes need, as ``x3``, ..."""
    return data.StructLayout({
        f"x{odd}": (odd * ((1 << ACTIVATION_BITS) - 1)).bit_length()
        for odd in (1, *plan.odd_multiples)})


class Multiples(wiring.Component):
    """An activation's odd multiples, one cycle later.

    Members
    -------
    x : In(8), o : Out(multiples_layout(plan))
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        super().__init__({"x": In(ACTIVATION_BITS), "o": Out(multiples_layout(plan))})

    def elaborate(self, platform: object) -> Elaboratable:
        """Additions of smaller multiples, each one adder."""
        m = Module()
        made: dict[int, Value] = {1: self.x}
        for odd in self.plan.odd_multiples:
            near, shift = next((near, shift) for near in made for shift in range(1, 9)
                               if odd in (near + (1 << shift), 1 + (near << shift)))
            multiple = Signal(self.o[f"x{odd}"].shape(), name=f"times{odd}")
            if odd == near + (1 << shift):
                m.d.comb += multiple.eq(made[near] + (self.x << shift))
            else:
                m.d.comb += multiple.eq(self.x + (made[near] << shift))
            made[odd] = multiple
        held = Signal.like(self.o, reset_less=True)
        m.d.sync += [held[f"x{odd}"].eq(multiple) for odd, multiple in made.items()]
        m.d.comb += self.o.eq(held)
        return m


def multiple_of(multiples: data.View, factor: int) -> list[Value | None]:
    """The bits of ``factor`` times the activation, lowest first; None where they are always 0."""
    shift = (factor & -factor).bit_length() - 1
    return [None] * shift + list(Value.cast(multiples[f"x{factor >> shift}"]))
