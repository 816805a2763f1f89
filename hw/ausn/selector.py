"""The choice of one multiple for one lane, at two lookup tables a bit for up to four of them."""

from amaranth.hdl import Array, Const, Elaboratable, Instance, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .multiples import multiple_of, multiples_layout
from .plan import Plan


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
            "index": In(ceil_log2(len(self.term.multiples))),
            "invert": In(1),
            "clear": In(1),
            "o": Out(self.term.high - self.term.low)})

    def elaborate(self, platform: object) -> Elaboratable:
        """A multiplexer and an inverter for each bit, and the register."""
        m = Module()
        sources = [multiple_of(self.multiples, factor) for factor in self.term.multiples]
        held = Signal.like(self.o, reset_less=True)
        m.d.comb += self.o.eq(held)
        for bit in range(self.term.low, self.term.high):
            inputs = [source[bit] if bit < len(source) else None for source in sources]
            present = [one for one in inputs if one is not None]
            if getattr(platform, "family", None) == "ecp5" and len(present) > 1 and len(inputs) > 2:
                chosen = self.pair(m, inputs)
            else:
                plain = Array([Const(0, 1) if one is None else one for one in inputs])[self.index]
                chosen = plain ^ self.invert
            m.d.sync += held[bit - self.term.low].eq(Mux(self.clear, 0, chosen))
        return m

    def pair(self, m: Module, inputs: list[Value | None]) -> Value:
        """The inverted choice as two ECP5 tables, each of two inputs, and the cell between them.

        Yosys' mapper knows that cell only between tables of the same inputs.
        """
        table = sum((((k >> 1 if k >> 2 & 1 else k) ^ k >> 3) & 1) << k for k in range(16))
        inputs = inputs + [None] * (4 - len(inputs))
        halves = []
        for low in (0, 2):
            half = Signal(name=f"half{low}")
            zero, one = (Const(0, 1) if source is None else source
                         for source in inputs[low:low + 2])
            m.submodules += Instance("LUT4", p_INIT=Const(table, 16), i_A=zero, i_B=one,
                                     i_C=self.index[0], i_D=self.invert, o_Z=half)
            halves.append(half)
        chosen = Signal(name="chosen")
        m.submodules += Instance("PFUMX", i_BLUT=halves[0], i_ALUT=halves[1], i_C0=self.index[1],
                                 o_Z=chosen)
        return chosen
