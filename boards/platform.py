"""What our platforms add to those of amaranth-boards: PLL clock, SPRAM, defaults of the tools.

One adapter for everything that depends on Amaranth's version: hooks of its `Platform` class.
"""

from collections.abc import Callable
from typing import Any

from amaranth.hdl import Elaboratable
from amaranth.lib.memory import Memory

from .block_ram import column_memory, in_columns
from .clocks import Ecp5ClockGenerator, Ice40ClockGenerator
from .pll import ecp5_pll, ice40_pll
from .spram import spram_memory

#: Yosys commands between reading the design and synthesis. Checks and prints are for simulation:
#: left in, they keep their logic alive. A memory with the attribute ``collision="undefined"``
#: promises that what a port reads while the other writes the same word is never used; without
#: that, Yosys adds registers and multiplexers to each block RAM (27 LUT and 42 FF at 256x16).
SCRIPT_AFTER_READ = """
proc
chformal -remove
delete t:$print
memory_collect
setparam -set RD_COLLISION_X_MASK 1'1 t:$mem_v2 a:collision=undefined %i
"""


class SynthesisDefaults:
    """Defaults for `prepare` and `build`: options of Yosys and nextpnr that callers may replace."""

    synth_opts = ""
    nextpnr_opts = ""

    def toolchain_prepare(self, fragment: Any, name: str, **overrides: Any) -> Any:
        """Fill in options not given: our Yosys script, a JSON report, a fixed seed."""
        defaults = {"script_after_read": SCRIPT_AFTER_READ, "synth_opts": self.synth_opts,
                    "nextpnr_opts": f"--report {name}.report.json --seed 1 {self.nextpnr_opts}"}
        prepare: Callable[..., Any] = super().toolchain_prepare     # type: ignore[misc]
        return prepare(fragment, name, **(defaults | overrides))


class Ice40Mixin(SynthesisDefaults):
    """For `LatticeICE40Platform` classes: a PLL clock, and SPRAM for memories marked "huge"."""

    family = "ice40"
    synth_opts = "-noabc9"

    def __init__(self, clock_mhz: float) -> None:
        """Choose the PLL for ``clock_mhz``; `ValueError` when it cannot make that."""
        super().__init__()
        clock: float = self.default_clk_frequency               # type: ignore[attr-defined]
        self.pll = ice40_pll(clock / 1e6, clock_mhz)
        #: The frequency of "sync", exactly.
        self.clock_mhz = self.pll.output_mhz

    def create_missing_domain(self, name: str) -> Elaboratable | None:
        """The PLL and its reset for "sync"; no other domain is made."""
        return Ice40ClockGenerator(self.pll) if name == "sync" else None

    def get_memory(self, memory: Memory) -> Elaboratable:
        """SPRAM cells for a memory with ``ram_style="huge"``; Yosys chooses for all others."""
        if memory.attrs.get("ram_style") == "huge":
            return spram_memory(memory)
        return memory.elaborate(None)


class Ecp5Mixin(SynthesisDefaults):
    """For `LatticeECP5Platform` classes: a PLL clock, and deep block RAM in columns."""

    #: Yosys 0.66's abc9 stops at an assertion over designs with cells of ours like PFUMX.
    synth_opts = "-noabc9"
    #: For wide arrays its usual placer needs half as much wire again, and its usual router fails.
    nextpnr_opts = "--placer static --router router2"
    #: Of 256 lanes it routes only what the usual placer has placed.
    widest_opts = "--placer heap --router router2"

    def __init__(self, clock_mhz: float) -> None:
        """Choose the PLL for ``clock_mhz``; `ValueError` when it cannot make that."""
        super().__init__()
        clock: float = self.default_clk_frequency               # type: ignore[attr-defined]
        self.pll = ecp5_pll(clock / 1e6, clock_mhz)
        #: The frequency of "sync", exactly.
        self.clock_mhz = self.pll.output_mhz

    def create_missing_domain(self, name: str) -> Elaboratable | None:
        """The PLL and its reset for "sync"; no other domain is made."""
        return Ecp5ClockGenerator(self.pll) if name == "sync" else None

    def get_memory(self, memory: Memory) -> Elaboratable:
        """Columns for a deep memory; Yosys chooses for all others."""
        return column_memory(memory) if in_columns(memory) else memory.elaborate(None)
