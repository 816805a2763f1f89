"""A multiplexer that uses the ones behind ECP5's lookup tables."""

from amaranth.hdl import Array, Const, Elaboratable, Instance, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2


class Selector(wiring.Component):
    """``o = i[index]``, within the cycle; for an index of ``count`` or more ``o`` is anything.

    On ECP5 each table chooses among two, a ``PFUMX`` between two tables and an ``L6MUX21`` between
    two of those: four inputs cost two tables a bit and eight cost four, half of what Yosys needs.

    Members
    -------
    i : In(count x width), index : In(range(count)), o : Out(width)
    """

    def __init__(self, width: int, count: int) -> None:
        self.width = width
        self.count = count
        super().__init__({
            "i": In(data.ArrayLayout(width, count)),
            "index": In(range(max(count, 2))),
            "o": Out(width),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """The choice as written, or cells for each bit."""
        m = Module()
        inputs = [self.i[k] for k in range(self.count)]
        if getattr(platform, "family", None) == "ecp5":
            m.d.comb += self.o.eq(self.choice(m, inputs, ceil_log2(self.count)))
        else:
            m.d.comb += self.o.eq(Array(inputs)[self.index])
        return m

    def choice(self, m: Module, inputs: list[Value], bits: int) -> Value:
        """The one of up to 2^``bits`` ``inputs`` that the index's lowest ``bits`` bits number."""
        if len(inputs) == 1:
            return inputs[0]
        low, high = inputs[:1 << bits - 1], inputs[1 << bits - 1:]
        if not high:
            return self.choice(m, low, bits - 1)
        if 1 < bits < 4:                       # the wide multiplexers have tables on both sides
            high = high + high[-1:] * (len(low) - len(high))
        pair = [self.choice(m, half, bits - 1) for half in (low, high)]
        chosen = Signal(self.width)
        for bit in range(self.width):
            zero, one = pair[0][bit], pair[1][bit]
            select = self.index[bits - 1]
            if bits == 2:
                cell = Instance("PFUMX", i_BLUT=zero, i_ALUT=one, i_C0=select, o_Z=chosen[bit])
            elif bits == 3:
                cell = Instance("L6MUX21", i_D0=zero, i_D1=one, i_SD=select, o_Z=chosen[bit])
            else:
                cell = Instance("LUT4", p_INIT=Const(0xCACA, 16), i_A=zero, i_B=one, i_C=select,
                                i_D=Const(0), o_Z=chosen[bit])
            m.submodules += cell
        return chosen
