"""Additions of the lanes at one lookup table a bit on ECP5 (`hw.adder.carry_chain`)."""

from amaranth.hdl import Const, Elaboratable, Module, Mux, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..adder import carry_chain


class InvertingAdder(wiring.Component):
    """``o = a + (~b if invert else b) + carry`` modulo 2^width, within the cycle.

    Members
    -------
    a, b : In(signed(width)), invert, carry : In(1), o : Out(signed(width))
    """

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__({"a": In(signed(width)), "b": In(signed(width)), "invert": In(1),
                          "carry": In(1), "o": Out(signed(width))})

    def elaborate(self, platform: object) -> Elaboratable:
        """The sum as written, or carry cells."""
        m = Module()
        if getattr(platform, "family", None) == "ecp5":
            operands = [(b, Const(1), self.invert) for b in self.b]
            m.d.comb += self.o.eq(carry_chain(m, self.a, operands, lambda b, c, d: (b & c) ^ d,
                                         self.carry))
        else:
            m.d.comb += self.o.eq(self.a + Mux(self.invert, ~self.b, self.b) + self.carry)
        return m


class LoadingAdder(wiring.Component):
    """``o = a if load else a + b + carry`` modulo 2^width, within the cycle.

    Members
    -------
    a, b : In(signed(width)), load, carry : In(1), o : Out(signed(width))
    """

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__({"a": In(signed(width)), "b": In(signed(width)), "load": In(1),
                          "carry": In(1), "o": Out(signed(width))})

    def elaborate(self, platform: object) -> Elaboratable:
        """The choice behind the sum, which costs iCE40 nothing, or carry cells."""
        m = Module()
        if getattr(platform, "family", None) == "ecp5":
            operands = [(b, ~self.load, Const(0, 1)) for b in self.b]
            m.d.comb += self.o.eq(carry_chain(m, self.a, operands, lambda b, c, d: b & c,
                                         self.carry & ~self.load))
        else:
            m.d.comb += self.o.eq(Mux(self.load, self.a, self.a + self.b + self.carry))
        return m
