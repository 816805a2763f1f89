"""Two places in a stream: neither side's handshake waits for the other's."""

from amaranth.hdl import Elaboratable, Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class Buffer(wiring.Component):
    """Pass payloads on in order, one a cycle, each a cycle later or when the consumer is ready.

    ``i.ready`` and ``o.valid`` are registers, so that long chains of ready signals end here.

    Members
    -------
    i : In(stream of ``shape``), o : Out(stream of ``shape``)
    """

    def __init__(self, shape: ShapeLike) -> None:
        super().__init__({
            "i": In(stream.Signature(shape)),
            "o": Out(stream.Signature(shape)),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """The output, and a place for what comes while it waits."""
        m = Module()
        waiting = Signal()
        spare = Signal.like(self.i.payload, reset_less=True)
        m.d.comb += self.i.ready.eq(~waiting)
        with m.If(~waiting):
            m.d.sync += spare.eq(self.i.payload)
        with m.If(~self.o.valid | self.o.ready):
            m.d.sync += [self.o.valid.eq(self.i.valid | waiting), waiting.eq(0)]
            with m.If(waiting):
                m.d.sync += self.o.payload.eq(spare)
            with m.Else():
                m.d.sync += self.o.payload.eq(self.i.payload)
        with m.Elif(self.i.valid):
            m.d.sync += waiting.eq(1)
        return m
