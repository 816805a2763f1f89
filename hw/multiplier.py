"""Multipliers of the array: the only module that names a multiplier primitive."""

from amaranth.hdl import (
    Cat,
    ClockSignal,
    Const,
    Elaboratable,
    Instance,
    Module,
    Signal,
    signed,
    unsigned,
)
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out


class MultiplierPair(wiring.Component):
    """Two independent products of an unsigned activation and a signed weight.

    ``o[k] = x[k] * w[k]``, one pair per cycle, :attr:`latency` cycles later. Equal to Python's
    ``*`` over all operands. On iCE40 both products share one ``SB_MAC16`` in its dual 8x8 mode;
    elsewhere synthesis finds the multiplier blocks by itself.

    Members
    -------
    x : In(2 x unsigned(8)), w : In(2 x signed(8)), o : Out(2 x signed(16))
    """

    latency = 2

    def __init__(self) -> None:
        super().__init__({
            "x": In(data.ArrayLayout(unsigned(8), 2)),
            "w": In(data.ArrayLayout(signed(8), 2)),
            "o": Out(data.ArrayLayout(signed(16), 2)),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Registers, products, registers; or the one block that contains them."""
        m = Module()
        if getattr(platform, "family", None) == "ice40":
            m.submodules.block = Instance(
                "SB_MAC16",
                p_MODE_8x8=Const(1, 1), p_A_SIGNED=Const(0, 1), p_B_SIGNED=Const(1, 1),
                p_A_REG=Const(1, 1), p_B_REG=Const(1, 1),
                p_TOP_8x8_MULT_REG=Const(1, 1), p_BOT_8x8_MULT_REG=Const(1, 1),
                p_TOPOUTPUT_SELECT=Const(2, 2), p_BOTOUTPUT_SELECT=Const(2, 2),
                i_CLK=ClockSignal(), i_CE=Const(1, 1),
                i_A=Cat(self.x[0], self.x[1]), i_B=Cat(self.w[0], self.w[1]),
                i_C=Const(0, 16), i_D=Const(0, 16),
                i_AHOLD=Const(0), i_BHOLD=Const(0), i_CHOLD=Const(0), i_DHOLD=Const(0),
                i_IRSTTOP=Const(0), i_IRSTBOT=Const(0), i_ORSTTOP=Const(0), i_ORSTBOT=Const(0),
                i_OLOADTOP=Const(0), i_OLOADBOT=Const(0), i_ADDSUBTOP=Const(0),
                i_ADDSUBBOT=Const(0), i_OHOLDTOP=Const(0), i_OHOLDBOT=Const(0),
                i_CI=Const(0), i_ACCUMCI=Const(0), i_SIGNEXTIN=Const(0),
                o_O=Cat(self.o[0], self.o[1]),
            )
            return m
        for k in range(2):
            x = Signal(8, name=f"x{k}", reset_less=True)
            w = Signal(signed(8), name=f"w{k}", reset_less=True)
            product = Signal(signed(16), name=f"product{k}", reset_less=True)
            m.d.sync += [x.eq(self.x[k]), w.eq(self.w[k]), product.eq(x * w)]
            m.d.comb += self.o[k].eq(product)
        return m
