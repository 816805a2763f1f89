"""An adder that chooses one of its operands, at one lookup table a bit on ECP5."""

from amaranth.hdl import Const, Elaboratable, Instance, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class ChoosingAdder(wiring.Component):
    """``o = a + (b if choose else c) + carry`` modulo 2^width, within the cycle.

    Without ``alternative`` there is no ``c``, and 0 in place of it; with ``inverts`` it is ``~b``
    that may be chosen. Each half of an ECP5 ``CCU2C`` has a table of four inputs in front of its
    carry, which holds the choice as well; Yosys spends a table of its own on it. Elsewhere it is
    written plainly.

    Members
    -------
    a, b, c : In(signed(width)), choose, carry : In(1), o : Out(signed(width))
    """

    def __init__(self, width: int, *, alternative: bool = True, inverts: bool = False) -> None:
        self.width = width
        self.alternative = alternative
        self.inverts = inverts
        super().__init__({
            "a": In(signed(width)),
            "b": In(signed(width)),
            "choose": In(1),
            "carry": In(1),
            "o": Out(signed(width)),
        } | ({"c": In(signed(width))} if alternative else {}))

    def elaborate(self, platform: object) -> Elaboratable:
        """The sum as written, or a chain of carry cells of two bits."""
        m = Module()
        if getattr(platform, "family", None) != "ecp5":
            b = ~self.b if self.inverts else self.b
            other = self.c if self.alternative else 0
            m.d.comb += self.o.eq(self.a + Mux(self.choose, b, other) + self.carry)
            return m
        # Of inputs A, B, C, D a cell's half sums A and (C ? B : D), or (C ? ~B : D). Its carry,
        # where A and the choice are equal, is the table's output for C = D = 0, which is A. A D of
        # 0 would have to be wired to every cell, a D of 1 is what an input is without a wire.
        table = sum((a ^ (b ^ self.inverts if c else d and self.alternative))
                    << (a | b << 1 | c << 2 | d << 3)
                    for a in (0, 1) for b in (0, 1) for c in (0, 1) for d in (0, 1))
        others = self.c if self.alternative else Const(-1, self.width)
        carry = self.carry
        total = Signal(-(-self.width // 2) * 2)
        for low in range(0, self.width, 2):
            high = min(low + 1, self.width - 1)
            following = Signal(name=f"carry{low}")
            m.submodules[f"cell{low}"] = Instance(
                "CCU2C", p_INIT0=Const(table, 16), p_INIT1=Const(table, 16),
                p_INJECT1_0="NO", p_INJECT1_1="NO", i_CIN=carry,
                i_A0=self.a[low], i_B0=self.b[low], i_C0=self.choose, i_D0=others[low],
                i_A1=self.a[high], i_B1=self.b[high], i_C1=self.choose, i_D1=others[high],
                o_S0=total[low], o_S1=total[low + 1], o_COUT=following)
            carry = following
        m.d.comb += self.o.eq(total[:self.width])
        return m
