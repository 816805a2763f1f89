"""The choice of one multiple for one lane, at two lookup tables a bit for up to four of them."""

from amaranth.hdl import Array, Cat, Const, Elaboratable, Instance, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .multiples import multiple_of, multiples_layout
from .plan import Plan, Term


class Selector(wiring.Component):
    """A term of a plan, one cycle later: a multiple of the activation, inverted, or zero.

    ``o`` holds the bits from `Term.low` up to `Term.high`; above them stands the inversion.
    Tables get zero from the reset of the register behind them.

    Members
    -------
    multiples : In(multiples_layout(plan)); index, invert, clear : In; o : Out(bits of the term)
    """

    def __init__(self, plan: Plan, term: int) -> None:
        self.term = plan.terms[term]
        super().__init__({
            "multiples": In(multiples_layout(plan)),
            "index": In(self.term.index_bits),
            "invert": In(1),
            "clear": In(1),
            "o": Out(self.term.high - self.term.low)})

    def elaborate(self, platform: object) -> Elaboratable:
        """The choice and its register."""
        m = Module()
        chosen = chosen_multiple(m, self.term, self.multiples, self.index, self.invert, platform)
        held = Signal.like(self.o, reset_less=True)
        m.d.comb += self.o.eq(held)
        m.d.sync += held.eq(Mux(self.clear, 0, chosen))
        return m


def chosen_multiple(m: Module, term: Term, multiples: data.View, index: Value, invert: Value,
                    platform: object) -> Value:
    """The bits of a term from `Term.low` up to `Term.high`, within the cycle.

    Each is a multiplexer and an inverter, or the gates of a `Term.gated`: multiplexers between a
    source and zero would become resets of single registers, which leave their cells' tables empty.
    """
    sources = [multiple_of(multiples, factor) for factor in term.multiples]
    bits: list[Value] = []
    for bit in range(term.low, term.high):
        inputs = [source[bit] if bit < len(source) else None for source in sources]
        present = [one for one in inputs if one is not None]
        if term.gated:
            bits.append(Cat(gate & one for gate, one in zip(index, inputs, strict=True)
                            if one is not None).any())
        elif getattr(platform, "family", None) == "ecp5" and len(present) > 1 and len(inputs) > 2:
            bits.append(chosen_by_pair(m, inputs, index, invert))
        else:
            plain = Array([Const(0, 1) if one is None else one for one in inputs])[index]
            bits.append(plain ^ invert)
    return Cat(*bits)


def chosen_by_pair(m: Module, inputs: list[Value | None], index: Value, invert: Value) -> Value:
    """The inverted choice as two ECP5 tables, each of two inputs, and the cell between them.

    Yosys' mapper knows that cell only between tables of the same inputs.
    """
    table = sum((((k >> 1 if k >> 2 & 1 else k) ^ k >> 3) & 1) << k for k in range(16))
    inputs = inputs + [None] * (4 - len(inputs))
    halves = []
    for low in (0, 2):
        half = Signal(name=f"half{low}")
        zero, one = (Const(0, 1) if source is None else source for source in inputs[low:low + 2])
        m.submodules += Instance("LUT4", p_INIT=Const(table, 16), i_A=zero, i_B=one,
                                 i_C=index[0], i_D=invert, o_Z=half)
        halves.append(half)
    chosen = Signal(name="chosen")
    m.submodules += Instance("PFUMX", i_BLUT=halves[0], i_ALUT=halves[1], i_C0=index[1],
                             o_Z=chosen)
    return chosen
