"""Products and their sums in the multiplier blocks of iCE40, which contain adders and registers."""

from amaranth.hdl import Cat, Elaboratable, Module, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .multiplier_blocks import ice40_block

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
            m.submodules.block = ice40_block(
                Cat(self.x[0], self.x[1]), Cat(self.w[0], self.w[1]),
                Cat(self.total[0], self.total[1]), sums=True, clear=self.clear,
                hold=~(self.accumulate | self.clear))
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
