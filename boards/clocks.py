"""Clock generators: the board's oscillator through a PLL to the domain "sync", with its reset."""

from typing import Any

from amaranth.hdl import (
    ClockDomain,
    ClockSignal,
    Elaboratable,
    Instance,
    Module,
    ResetSignal,
    Signal,
)
from amaranth.lib import io
from amaranth.lib.cdc import FFSynchronizer, ResetSynchronizer

from .pll import Ecp5Pll, Ice40Pll

#: iCE40 block RAMs read as zero for about 3 us after configuration; Amaranth waits 15 us too.
BLOCK_RAM_DELAY = 15e-6


class Ice40ClockGenerator(Elaboratable):
    """Domain "sync" from the platform's default clock pin through SB_PLL40_PAD.

    The pin's buffer belongs to the PLL, so nothing else can use the oscillator. Reset is held until
    the PLL has locked and, after that, for the 15 us in which block RAMs may not read right.
    """

    def __init__(self, pll: Ice40Pll) -> None:
        """Settings from `boards.pll.ice40_pll` for the platform's default clock."""
        self.pll = pll

    def elaborate(self, platform: Any) -> Module:
        """The PLL, the lock synchronizer and the reset timer, all clocked by the PLL."""
        m = Module()
        pin = platform.request(platform.default_clk, dir="-")
        clock = Signal(attrs={"keep": "true"})
        locked = Signal()
        locked_here = Signal()
        m.submodules.pll = Instance(
            "SB_PLL40_PAD",
            p_FEEDBACK_PATH="SIMPLE", p_PLLOUT_SELECT="GENCLK",
            p_DIVR=self.pll.divr, p_DIVF=self.pll.divf, p_DIVQ=self.pll.divq,
            p_FILTER_RANGE=self.pll.filter_range,
            io_PACKAGEPIN=pin.io, i_RESETB=1, i_BYPASS=0, o_PLLOUTGLOBAL=clock, o_LOCK=locked)
        platform.add_clock_constraint(clock, self.pll.output_mhz * 1e6)

        # The timer counts from 0, the only value an iCE40 flip-flop can start with.
        cycles = int(BLOCK_RAM_DELAY * self.pll.output_mhz * 1e6)
        timer = Signal(range(cycles + 1))
        ready = Signal()
        m.domains.por = ClockDomain("por", reset_less=True, local=True)
        m.d.comb += ClockSignal("por").eq(clock)
        m.submodules.lock = FFSynchronizer(locked, locked_here, o_domain="por")
        with m.If(timer == cycles):
            m.d.por += ready.eq(1)
        with m.Elif(locked_here):
            m.d.por += timer.eq(timer + 1)

        m.domains.sync = ClockDomain("sync")
        m.d.comb += [ClockSignal("sync").eq(clock), ResetSignal("sync").eq(~ready)]
        return m


class Ecp5ClockGenerator(Elaboratable):
    """Domain "sync" from the platform's default clock pin through EHXPLLL, in reset until lock."""

    def __init__(self, pll: Ecp5Pll) -> None:
        """Settings from `boards.pll.ecp5_pll` for the platform's default clock."""
        self.pll = pll

    def elaborate(self, platform: Any) -> Module:
        """The pin's buffer, the PLL and the reset synchronizer."""
        m = Module()
        m.submodules.pin = pin = io.Buffer("i", platform.request(platform.default_clk, dir="-"))
        clock = Signal(attrs={"keep": "true"})
        locked = Signal()
        m.submodules.pll = Instance(
            "EHXPLLL",
            # Loop filter values of Lattice's own generator for an integer divider.
            a_ICP_CURRENT="12", a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1", a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED", p_INTFB_WAKE="DISABLED", p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED", p_OUTDIVIDER_MUXA="DIVA",
            p_FEEDBK_PATH="CLKOP",
            p_CLKI_DIV=self.pll.clki_div, p_CLKFB_DIV=self.pll.clkfb_div,
            p_CLKOP_ENABLE="ENABLED", p_CLKOP_DIV=self.pll.clkop_div,
            p_CLKOP_CPHASE=self.pll.clkop_div // 2, p_CLKOP_FPHASE=0,
            i_CLKI=pin.i, i_CLKFB=clock, o_CLKOP=clock, o_LOCK=locked,
            i_RST=0, i_STDBY=0, i_ENCLKOP=0, i_PHASESEL0=0, i_PHASESEL1=0, i_PHASEDIR=1,
            i_PHASESTEP=1, i_PHASELOADREG=1, i_PLLWAKESYNC=0)
        platform.add_clock_constraint(clock, self.pll.output_mhz * 1e6)

        m.domains.sync = ClockDomain("sync")
        m.d.comb += ClockSignal("sync").eq(clock)
        m.submodules.reset = ResetSynchronizer(~locked, domain="sync")
        return m
