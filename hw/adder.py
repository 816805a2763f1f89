"""Adders with a choice in front, at one lookup table a bit on ECP5."""

from collections.abc import Callable

from amaranth.hdl import Const, Elaboratable, Instance, Module, Mux, Signal, Value, signed
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
        # A D of 0 would have to be wired to every cell; one of 1 is an input without a wire.
        others = self.c if self.alternative else Const(-1, self.width)
        operands = [(b, self.choose, c) for b, c in zip(self.b, others, strict=True)]
        m.d.comb += self.o.eq(carry_chain(
            m, self.a, operands,
            lambda b, c, d: b ^ self.inverts if c else d & self.alternative, self.carry))
        return m


def carry_chain(m: Module, a: Value, operands: list[tuple[Value, Value, Value]],
                function: Callable[[int, int, int], int], carry: Value | None = None) -> Value:
    """The sum of ``a``, of ``function`` of each bit's three ``operands`` and of ``carry``.

    Both have the same bits; the cells are put into ``m``. Half of a ``CCU2C`` adds A to what its
    table makes of B, C and D, which must be 0 for C = D = 0: its carry, where both operands are
    equal, is the table's output for C = D = 0, which then is A. Yosys uses these inputs for A + B
    and A - B only.
    """
    table = sum((bit & 1 ^ function(bit >> 1 & 1, bit >> 2 & 1, bit >> 3)) << bit
                for bit in range(16))
    width = len(a)
    total = Signal(-(-width // 2) * 2)
    carry = Const(0, 1) if carry is None else carry
    for low in range(0, width, 2):
        high = min(low + 1, width - 1)
        following = Signal(name=f"carry{low}")
        (b0, c0, d0), (b1, c1, d1) = operands[low], operands[high]
        m.submodules[f"cell{low}"] = Instance(
            "CCU2C", p_INIT0=Const(table, 16), p_INIT1=Const(table, 16),
            p_INJECT1_0="NO", p_INJECT1_1="NO", i_CIN=carry,
            i_A0=a[low], i_B0=b0, i_C0=c0, i_D0=d0,
            i_A1=a[high], i_B1=b1, i_C1=c1, i_D1=d1,
            o_S0=total[low], o_S1=total[low + 1], o_COUT=following)
        carry = following
    return total[:width]
