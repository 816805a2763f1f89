"""Additions at one lookup table a bit on ECP5, whose carry cells take a function of three inputs.

Half of a ``CCU2C`` adds A to what its table makes of B, C and D, which must be 0 for C = D = 0:
its carry, where both operands are equal, is the table's output for C = D = 0, which then is A.
Yosys uses these inputs for A + B and A - B only.
"""

from collections.abc import Callable

from amaranth.hdl import Const, Elaboratable, Instance, Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class InvertingAdder(wiring.Component):
    """``o = a + (~b if invert else b)`` modulo 2^width, within the cycle.

    Members
    -------
    a, b : In(signed(width)), invert : In(1), o : Out(signed(width))
    """

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__({"a": In(signed(width)), "b": In(signed(width)), "invert": In(1),
                          "o": Out(signed(width))})

    def elaborate(self, platform: object) -> Elaboratable:
        """The sum as written, or carry cells."""
        m = Module()
        if getattr(platform, "family", None) == "ecp5":
            operands = [(b, Const(1), self.invert) for b in self.b]
            m.d.comb += self.o.eq(chain(m, self.a, operands, lambda b, c, d: (b & c) ^ d))
        else:
            m.d.comb += self.o.eq(self.a + Mux(self.invert, ~self.b, self.b))
        return m


class ChoosingAdder(wiring.Component):
    """``o = a + (b if choose else c)`` modulo 2^width, within the cycle.

    Members
    -------
    a, b, c : In(signed(width)), choose : In(1), o : Out(signed(width))
    """

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__({"a": In(signed(width)), "b": In(signed(width)), "c": In(signed(width)),
                          "choose": In(1), "o": Out(signed(width))})

    def elaborate(self, platform: object) -> Elaboratable:
        """The sum as written, or carry cells."""
        m = Module()
        if getattr(platform, "family", None) == "ecp5":
            operands = [(b, self.choose, c) for b, c in zip(self.b, self.c, strict=True)]
            m.d.comb += self.o.eq(chain(m, self.a, operands, lambda b, c, d: b if c else d))
        else:
            m.d.comb += self.o.eq(self.a + Mux(self.choose, self.b, self.c))
        return m


class LoadingAdder(wiring.Component):
    """``o = a if load else a + b`` modulo 2^width, within the cycle.

    Members
    -------
    a, b : In(signed(width)), load : In(1), o : Out(signed(width))
    """

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__({"a": In(signed(width)), "b": In(signed(width)), "load": In(1),
                          "o": Out(signed(width))})

    def elaborate(self, platform: object) -> Elaboratable:
        """The choice behind the sum, which costs iCE40 nothing, or carry cells."""
        m = Module()
        if getattr(platform, "family", None) == "ecp5":
            operands = [(b, ~self.load, Const(0, 1)) for b in self.b]
            m.d.comb += self.o.eq(chain(m, self.a, operands, lambda b, c, d: b & c))
        else:
            m.d.comb += self.o.eq(Mux(self.load, self.a, self.a + self.b))
        return m


def chain(m: Module, a: Value, operands: list[tuple[Value, Value, Value]],
          function: Callable[[int, int, int], int]) -> Value:
    """The sum of ``a`` and of ``function`` of each bit's three ``operands``: carry cells in ``m``.

    Both have the same bits. The function is 0 where its second and third argument are.
    """
    table = sum((bit & 1 ^ function(bit >> 1 & 1, bit >> 2 & 1, bit >> 3)) << bit
                for bit in range(16))
    width = len(a)
    total = Signal(-(-width // 2) * 2)
    carry: Const | Signal = Const(0, 1)
    for low in range(0, width, 2):
        following = Signal(name=f"carry{low}")
        (b0, c0, d0), (b1, c1, d1) = operands[low], operands[min(low + 1, width - 1)]
        m.submodules[f"cell{low}"] = Instance(
            "CCU2C", p_INIT0=Const(table, 16), p_INIT1=Const(table, 16),
            p_INJECT1_0="NO", p_INJECT1_1="NO", i_CIN=carry,
            i_A0=a[low], i_B0=b0, i_C0=c0, i_D0=d0,
            i_A1=a[min(low + 1, width - 1)], i_B1=b1, i_C1=c1, i_D1=d1,
            o_S0=total[low], o_S1=total[low + 1], o_COUT=following)
        carry = following
    return total[:width]
