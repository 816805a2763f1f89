"""ULX3S: ECP5-85F with a 25 MHz oscillator and a USB UART (Radiona, open hardware)."""

from amaranth_boards.ulx3s import ULX3S_85F_Platform

from .platform import Ecp5Mixin


class Ulx3s85F(Ecp5Mixin, ULX3S_85F_Platform):
    """The board of amaranth-boards with a PLL clock; building needs no programming tool."""

    @property
    def required_tools(self) -> list[str]:
        """Yosys, nextpnr and ecppack; openFPGALoader only loads the result."""
        return [tool for tool in super().required_tools if tool != "openFPGALoader"]
