"""ULX3S: ECP5-25F, 45F or 85F with a 25 MHz oscillator and a USB UART (Radiona, open hardware)."""

from amaranth_boards.ulx3s import ULX3S_25F_Platform, ULX3S_45F_Platform, ULX3S_85F_Platform

from .platform import Ecp5Mixin


class Ulx3sMixin(Ecp5Mixin):
    """The boards of amaranth-boards with a PLL clock; building needs no programming tool."""

    @property
    def required_tools(self) -> list[str]:
        """Yosys, nextpnr and ecppack; openFPGALoader only loads the result."""
        tools: list[str] = super().required_tools               # type: ignore[misc]
        return [tool for tool in tools if tool != "openFPGALoader"]


class Ulx3s25F(Ulx3sMixin, ULX3S_25F_Platform):
    """24 thousand lookup tables, 28 multipliers, 126 kB of block RAM."""


class Ulx3s45F(Ulx3sMixin, ULX3S_45F_Platform):
    """44 thousand lookup tables, 72 multipliers, 243 kB of block RAM."""


class Ulx3s85F(Ulx3sMixin, ULX3S_85F_Platform):
    """84 thousand lookup tables, 156 multipliers, 468 kB of block RAM."""
