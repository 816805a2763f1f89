"""iCEBreaker: iCE40UP5K with a 12 MHz oscillator and a USB UART (1BitSquared, open hardware)."""

from amaranth_boards.icebreaker import ICEBreakerPlatform

from .platform import Ice40Mixin


class Icebreaker(Ice40Mixin, ICEBreakerPlatform):
    """The board of amaranth-boards with a PLL clock and SPRAM."""
