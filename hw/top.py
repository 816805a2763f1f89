"""The circuit on the board: serial line, link and engine, and their pins."""

from typing import Any

from amaranth.hdl import Elaboratable, Module
from amaranth.lib import io, wiring
from amaranth.lib.wiring import In, Out, connect

from boards import Board
from ref.errors import UserError

from .accelerator import Accelerator
from .config import EngineConfig
from .link import Link
from .uart import UartReceiver, UartTransmitter

#: Bits per second of the host link.
BAUD = 2_000_000
#: A frame ends when its sender pauses for this many bit times (16 ms): longer than the gaps that a
#: busy host and USB leave between bytes. The link rounds up, at most to twice that.
SILENCE_BITS = 1 << 15
#: Largest relative error of the bit time; the receiver bears as much from both sides together.
BAUD_TOLERANCE = 0.01


class Core(wiring.Component):
    """An engine behind a serial line that speaks the protocol of docs/host-link.md.

    A bit lasts ``divisor`` clock cycles; a pause of ``silence_bits`` bit times ends a frame.

    Members: ``rx`` and ``tx`` the line; ``led_busy`` an inference is running; ``led_error`` the
    last one hung and was ended by the watchdog.
    """

    def __init__(self, config: EngineConfig, divisor: int, *,
                 silence_bits: int = SILENCE_BITS) -> None:
        self.config = config
        self.divisor = divisor
        self.silence_bits = silence_bits
        super().__init__({
            "rx":        In(1, init=1),
            "tx":        Out(1, init=1),
            "led_busy":  Out(1),
            "led_error": Out(1),
        })

    def elaborate(self, platform: Any) -> Elaboratable:
        """Wire the blocks."""
        m = Module()
        m.submodules.receiver = receiver = UartReceiver(self.divisor)
        m.submodules.transmitter = transmitter = UartTransmitter(self.divisor)
        m.submodules.link = link = Link(self.config, timeout=self.silence_bits * self.divisor)
        m.submodules.accelerator = accelerator = Accelerator(self.config)

        connect(m, receiver.o, link.i)
        connect(m, link.o, transmitter.i)
        connect(m, link.load, accelerator.load)
        connect(m, link.read, accelerator.read)
        connect(m, accelerator.data, link.data)
        m.d.comb += [
            receiver.rx.eq(self.rx),
            self.tx.eq(transmitter.tx),
            accelerator.start.eq(link.start),
            link.busy.eq(accelerator.busy),
            link.error.eq(accelerator.error),
            link.cycles.eq(accelerator.cycles),
            self.led_busy.eq(accelerator.busy),
            self.led_error.eq(accelerator.error),
        ]
        return m


class Top(Elaboratable):
    """A `Core` on the pins of ``board``: its UART, LED 0 for errors, LED 1 for busy.

    Runs in the domain "sync", which the board's platform makes; the bit time follows from the
    platform's clock.
    """

    def __init__(self, board: Board, config: EngineConfig) -> None:
        self.board = board
        self.config = config

    def elaborate(self, platform: Any) -> Elaboratable:
        """Request the pins; `UserError` when the clock does not divide to the baud rate."""
        m = Module()
        m.submodules.core = core = Core(self.config, uart_divisor(platform.clock_mhz))
        uart = platform.request(*self.board.uart, dir="-")
        m.submodules.rx = rx = io.Buffer("i", uart.rx)
        m.submodules.tx = tx = io.Buffer("o", uart.tx)
        m.submodules.led_error = led_error = io.Buffer("o", platform.request("led", 0, dir="-"))
        m.submodules.led_busy = led_busy = io.Buffer("o", platform.request("led", 1, dir="-"))
        m.d.comb += [
            core.rx.eq(rx.i),
            tx.o.eq(core.tx),
            led_error.o.eq(core.led_error),
            led_busy.o.eq(core.led_busy),
        ]
        return m


def uart_divisor(clock_mhz: float) -> int:
    """Clock cycles per bit at `BAUD`; `UserError` when no whole number is near enough."""
    divisor = max(round(clock_mhz * 1e6 / BAUD), 4)
    if abs(divisor * BAUD / (clock_mhz * 1e6) - 1) > BAUD_TOLERANCE:
        raise UserError(f"a clock of {clock_mhz:g} MHz does not divide to the host link's "
                        f"{BAUD / 1e6:g} Mbaud within {BAUD_TOLERANCE:.0%}; choose a multiple of "
                        f"{BAUD / 1e6:g} MHz, 8 MHz or more")
    return divisor
