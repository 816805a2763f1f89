"""One lane's accumulator: a sum of products, or the largest of them."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .adder import ChoosingAdder


class Accumulator(wiring.Component):
    """Sum up products, or keep the largest; the sum includes a product one cycle later.

    ``load`` starts anew with its product. Sums wrap. With ``largest`` (only if the accumulator was
    made with it) products are twice an unsigned byte and the largest since ``load`` is kept. One
    that ``carries`` adds a unit to the product where ``carry`` says so.

    Members
    -------
    product : In(signed(product_bits)); accumulate, load, largest, carry : In(1)
    total : Out(signed(bits))
    """

    def __init__(self, bits: int, product_bits: int, *, maximum: bool, carries: bool = False
                 ) -> None:
        self.bits = bits
        self.maximum = maximum
        self.carries = carries
        super().__init__({
            "product":    In(signed(product_bits)),
            "accumulate": In(1),
            "load":       In(1),
            "largest":    In(1),
            "total":      Out(signed(bits)),
        } | ({"carry": In(1)} if carries else {}))

    def elaborate(self, platform: object) -> Elaboratable:
        """The register and its adder; on ECP5 the adder also chooses what is kept."""
        m = Module()
        keeps = self.largest & ~self.load & (self.product[:9] <= self.total[:9])
        replaces = self.load | self.largest if self.maximum else self.load
        total = Signal(signed(self.bits), reset_less=True)
        m.d.comb += self.total.eq(total)
        following = Signal.like(total)
        if getattr(platform, "family", None) == "ecp5":
            m.submodules.adder = adder = ChoosingAdder(self.bits, alternative=False)
            m.d.comb += [
                adder.a.eq(self.product),
                adder.b.eq(total),
                adder.choose.eq(~replaces),
                following.eq(adder.o),
            ]
            if self.carries:
                m.d.comb += adder.carry.eq(self.carry)
        else:
            product = self.product + self.carry if self.carries else self.product
            m.d.comb += following.eq(Mux(replaces, product, total + product))
        with m.If(self.accumulate & ~keeps if self.maximum else self.accumulate):
            m.d.sync += total.eq(following)
        return m
