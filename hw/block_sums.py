"""Products and their sums in the multiplier blocks of iCE40, which contain adders and registers."""

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

#: Bits of a sum.
SUM_BITS = 16


class BlockSums(wiring.Component):
    """Two independent sums of products of an unsigned activation and a signed weight.

    A product is in its sum :attr:`latency` + 1 cycles later if ``accumulate`` is high ``latency``
    cycles later; ``clear`` makes both sums 0 instead. Sums wrap. On iCE40 it is one ``SB_MAC16`` in
    its dual 8x8 mode: nothing is in fabric.

    Members
    -------
    x : In(2 x unsigned(8)), w : In(2 x signed(8)); accumulate, clear : In(1)
    total : Out(2 x signed(16))
    """

    latency = 2

    def __init__(self) -> None:
        super().__init__({
            "x": In(data.ArrayLayout(unsigned(8), 2)),
            "w": In(data.ArrayLayout(signed(8), 2)),
            "accumulate": In(1),
            "clear": In(1),
            "total": Out(data.ArrayLayout(signed(SUM_BITS), 2)),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Registers, products, registers, sums; or the one block that contains them."""
        m = Module()
        if getattr(platform, "family", None) == "ice40":
            # The sum is fed back (UPPERINPUT 0) and added to the product (LOWERINPUT 1); loading
            # takes C and D, which are 0.
            hold = ~(self.accumulate | self.clear)
            m.submodules.block = Instance(
                "SB_MAC16",
                p_MODE_8x8=Const(1, 1), p_A_SIGNED=Const(0, 1), p_B_SIGNED=Const(1, 1),
                p_A_REG=Const(1, 1), p_B_REG=Const(1, 1),
                p_TOP_8x8_MULT_REG=Const(1, 1), p_BOT_8x8_MULT_REG=Const(1, 1),
                p_TOPOUTPUT_SELECT=Const(1, 2), p_BOTOUTPUT_SELECT=Const(1, 2),
                p_TOPADDSUB_LOWERINPUT=Const(1, 2), p_BOTADDSUB_LOWERINPUT=Const(1, 2),
                p_TOPADDSUB_UPPERINPUT=Const(0, 1), p_BOTADDSUB_UPPERINPUT=Const(0, 1),
                p_TOPADDSUB_CARRYSELECT=Const(0, 2), p_BOTADDSUB_CARRYSELECT=Const(0, 2),
                i_CLK=ClockSignal(), i_CE=Const(1, 1),
                i_A=Cat(self.x[0], self.x[1]), i_B=Cat(self.w[0], self.w[1]),
                i_C=Const(0, 16), i_D=Const(0, 16),
                i_AHOLD=Const(0), i_BHOLD=Const(0), i_CHOLD=Const(0), i_DHOLD=Const(0),
                i_IRSTTOP=Const(0), i_IRSTBOT=Const(0), i_ORSTTOP=Const(0), i_ORSTBOT=Const(0),
                i_OLOADTOP=self.clear, i_OLOADBOT=self.clear,
                i_ADDSUBTOP=Const(0), i_ADDSUBBOT=Const(0), i_OHOLDTOP=hold, i_OHOLDBOT=hold,
                i_CI=Const(0), i_ACCUMCI=Const(0), i_SIGNEXTIN=Const(0),
                o_O=Cat(self.total[0], self.total[1]),
            )
            return m
        for k in range(2):
            x = Signal(8, name=f"x{k}", reset_less=True)
            w = Signal(signed(8), name=f"w{k}", reset_less=True)
            product = Signal(signed(16), name=f"product{k}", reset_less=True)
            total = Signal(signed(SUM_BITS), name=f"total{k}", reset_less=True)
            m.d.sync += [x.eq(self.x[k]), w.eq(self.w[k]), product.eq(x * w)]
            with m.If(self.clear):
                m.d.sync += total.eq(0)
            with m.Elif(self.accumulate):
                m.d.sync += total.eq(total + product)
            m.d.comb += self.total[k].eq(total)
        return m
