"""An asynchronous serial line (8 data bits, no parity, one stop bit) as byte streams."""

from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out


def _check_divisor(divisor: int) -> None:
    """Refuse a bit time in which the middle of a bit cannot be found."""
    if divisor < 4:
        raise ValueError(f"UART divisor must be at least 4 clock cycles per bit, not {divisor!r}")


class UartReceiver(wiring.Component):
    """Serial line to bytes.

    A bit lasts ``divisor`` clock cycles (clock frequency / baud rate) and is sampled once, in its
    middle; the sender's clock may be wrong by 2 %. A byte is offered half a bit after its stop bit
    began and is held until it is taken; at most one byte arrives every ``10 * divisor`` cycles.
    A byte whose stop bit is low (framing error, or a break, which counts once), or which is
    complete before the byte ahead of it was taken, is lost: ``error`` is then high for one cycle.

    Members: ``rx`` the line, may be asynchronous; ``o`` the bytes; ``error`` a byte was lost.
    Raises ValueError when ``divisor`` is below 4.
    """

    def __init__(self, divisor: int) -> None:
        _check_divisor(divisor)
        self.divisor = divisor
        super().__init__({
            "rx":    In(1, init=1),
            "o":     Out(stream.Signature(8)),
            "error": Out(1),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Build the circuit."""
        m = Module()
        line  = Signal(init=1)
        timer = Signal(range(self.divisor))
        bits  = Signal(range(9))                 # data bits still to come
        byte  = Signal(8, reset_less=True)
        m.submodules.synchroniser = FFSynchronizer(self.rx, line, init=1)

        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        m.d.sync += timer.eq(timer - 1)
        with m.FSM():
            with m.State("Idle"):
                m.d.sync += timer.eq(self.divisor // 2 - 1)
                with m.If(~line):
                    m.next = "Start"
            with m.State("Start"):
                m.d.sync += bits.eq(8)
                with m.If(timer == 0):
                    m.d.sync += timer.eq(self.divisor - 1)
                    with m.If(line):             # shorter than half a bit: a spike, no start bit
                        m.next = "Idle"
                    with m.Else():
                        m.next = "Data"
            with m.State("Data"):
                with m.If(timer == 0):
                    m.d.sync += [
                        timer.eq(self.divisor - 1),
                        byte.eq(Cat(byte[1:], line)),
                        bits.eq(bits - 1),
                    ]
                    with m.If(bits == 1):
                        m.next = "Stop"
            with m.State("Stop"):
                with m.If(timer == 0):
                    with m.If(~line):
                        m.d.comb += self.error.eq(1)
                        m.next = "Break"
                    with m.Else():
                        with m.If(self.o.valid & ~self.o.ready):
                            m.d.comb += self.error.eq(1)
                        with m.Else():
                            m.d.sync += [self.o.payload.eq(byte), self.o.valid.eq(1)]
                        m.next = "Idle"
            with m.State("Break"):               # no start bit before the line was high again
                with m.If(line):
                    m.next = "Idle"
        return m


class UartTransmitter(wiring.Component):
    """Bytes to serial line.

    A bit lasts ``divisor`` clock cycles (clock frequency / baud rate). A byte is accepted every
    ``10 * divisor + 1`` cycles; its start bit begins in the cycle after it was accepted.

    Members: ``i`` the bytes; ``tx`` the line, high while idle, free of glitches.
    Raises ValueError when ``divisor`` is below 4.
    """

    def __init__(self, divisor: int) -> None:
        _check_divisor(divisor)
        self.divisor = divisor
        super().__init__({
            "i":  In(stream.Signature(8)),
            "tx": Out(1, init=1),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Build the circuit."""
        m = Module()
        timer = Signal(range(self.divisor))
        bits  = Signal(range(11))                # bits still on their way, the present one included
        line  = Signal(10, init=(1 << 10) - 1)   # bit 0 is on the line

        m.d.comb += [
            self.tx.eq(line[0]),
            self.i.ready.eq(bits == 0),
        ]
        with m.If(bits == 0):
            m.d.sync += timer.eq(self.divisor - 1)
            with m.If(self.i.valid):
                m.d.sync += [line.eq(Cat(0, self.i.payload, 1)), bits.eq(10)]
        with m.Elif(timer == 0):
            m.d.sync += [
                timer.eq(self.divisor - 1),
                bits.eq(bits - 1),
                line.eq(Cat(line[1:], 1)),
            ]
        with m.Else():
            m.d.sync += timer.eq(timer - 1)
        return m
