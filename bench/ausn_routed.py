"""Logic cells per multiply-accumulate after placing and routing, AUSN beside linear weights.

    python -m bench.ausn routed [--family NAME] [--design NAME]

The tiles of `bench.ausn_area`, linear ones by the method that took the fewest lookup tables there,
are placed and routed in a harness of four pins, all for the same clock: a shift register feeds
every input, and one bit says whether the outputs hold an odd number of ones. What the harness takes
itself is measured with a shift register of known size in the tile's place, and subtracted.

Cells are iCE40's ICESTORM_LC (a table, a carry and a register) and ECP5's TRELLIS_COMB (a table
with half a carry cell), whose registers (TRELLIS_FF) are listed beside. iCE40 is an HX8K, whose
cells are those of UP5K: that one has too few to spread 32 Booth lanes' carry chains. Results go to
bench/results/ausn_routed.json.
"""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from amaranth.hdl import Cat, ClockDomain, ClockSignal, Elaboratable, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from hw.tools import find_tools, run_tool
from ref.errors import UserError

from .ausn_area import RESULTS as AREA
from .ausn_area import synthesize
from .ausn_designs import DESIGNS as TILES
from .ausn_designs import LANES
from .record import record

RESULTS = Path(__file__).parent / "results" / "ausn_routed.json"
#: The designs that the issue compares.
DESIGNS = ("AUSN 5", "AUSN 5 still", "AUSN 4", *(f"{kind} {bits}" for kind in ("Booth", "linear")
                                 for bits in (8, 6, 5, 4)), "linear 8 direct")
#: Of each family: nextpnr's device, the clock that all are routed for, and what counts as a cell.
FAMILIES = {
    "ice40": (("--hx8k", "--package", "ct256", "--pcf-allow-unconstrained"), 48, "ICESTORM_LC"),
    "ecp5": (("--25k", "--package", "CABGA381", "--lpf-allow-unconstrained"), 80, "TRELLIS_COMB"),
}


class Chain(wiring.Component):
    """A stand-in for a tile: as many registers as it has bits of sums, one after the other.

    The first ones take in an operand each, so that none is left without a reader.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__({"i": In(inputs), "o": Out(outputs)})

    def elaborate(self, platform: object) -> Elaboratable:
        """One register a bit, a table before each of the first."""
        m = Module()
        chain = Signal(len(self.o), reset_less=True)
        taken = Cat(one ^ before for one, before in zip(self.i, chain, strict=False))
        m.d.sync += chain.eq(Cat(self.i[0], taken[1:], chain[len(self.i) - 1:-1]))
        m.d.comb += self.o.eq(chain)
        return m


class Harness(wiring.Component):
    """A tile, or a `Chain`, between a shift register and a parity: four pins.

    The parity has a register behind each table, which takes no cell and no time of the tile's.
    Without ``shift`` the register stands still: were it always to shift, its bits would be what a
    tile's registers of operands hold (those of ``*``), and Yosys would merge them.

    Members
    -------
    clk, i, shift : In(1), o : Out(1)
    """

    def __init__(self, tile: wiring.Component) -> None:
        self.tile = tile
        super().__init__({"clk": In(1), "i": In(1), "shift": In(1), "o": Out(1)})

    def elaborate(self, platform: object) -> Elaboratable:
        """The register of inputs, the tile, and the parity in its register."""
        m = Module()
        m.domains.sync = ClockDomain(reset_less=True)
        m.d.comb += ClockSignal().eq(self.clk)
        m.submodules.tile = tile = self.tile
        ports = [(member.flow, Value.cast(getattr(tile, name)))
                 for name, member in tile.signature.members.items()]
        inputs = Cat(port for flow, port in ports if flow is In)
        outputs = Cat(port for flow, port in ports if flow is Out)
        operands = Signal(len(inputs), reset_less=True)
        parity: Value = outputs
        while len(parity) > 1:
            groups = Signal(-(-len(parity) // 4), reset_less=True)
            m.d.sync += groups.eq(Cat(parity[k:k + 4].xor() for k in range(0, len(parity), 4)))
            parity = groups
        with m.If(self.shift):
            m.d.sync += operands.eq(Cat(self.i, operands))
        m.d.comb += [inputs.eq(operands), self.o.eq(parity)]
        return m


def place(harness: Harness, family: str, method: str) -> tuple[dict[str, int], float]:
    """How many cells of each kind nextpnr uses, and the clock reached, in MHz."""
    options, clock, _ = FAMILIES[family]
    nextpnr = find_tools(family).nextpnr
    with tempfile.TemporaryDirectory(prefix="shiftwise-") as folder:
        (Path(folder) / "top.json").write_text(synthesize(harness, family, method))
        run_tool([*nextpnr.command, *options, "--json", "top.json", "--report", "report.json",
                  "--freq", str(clock), "--timing-allow-fail", "--seed", "1"],
                 Path(folder), Path(folder) / "log")
        report = json.loads((Path(folder) / "report.json").read_text())
    achieved, = (clock["achieved"] for clock in report["fmax"].values())
    return {kind: one["used"] for kind, one in report["utilization"].items()}, achieved


@cache
def overhead(inputs: int, outputs: int, family: str) -> dict[str, int]:
    """What the harness of so many bits takes itself."""
    used, _ = place(Harness(Chain(inputs, outputs)), family, "plain")
    own = {"ICESTORM_LC": outputs, "TRELLIS_COMB": inputs - 1, "TRELLIS_FF": outputs}
    return {kind: used[kind] - own[kind] for kind in own if kind in used}


def measure(design: str, family: str) -> dict[str, Any]:
    """The entry of the results of one design."""
    methods = {(one["family"], one["design"]): one["method"]
               for one in json.loads(AREA.read_text())["results"]}
    if (family, design) not in methods:
        raise UserError(f"{AREA.name} has no {design} on {family}; run: python -m bench.ausn area")
    tile = TILES[design][1](family)
    bits = {flow: sum(len(Value.cast(getattr(tile, name)))
                      for name, member in tile.signature.members.items() if member.flow is flow)
            for flow in (In, Out)}
    harness = overhead(bits[In], bits[Out], family)
    used, achieved = place(Harness(tile), family, methods[family, design])
    own = {kind: used[kind] - count for kind, count in harness.items()}
    return {"design": design, "family": family, "macs": LANES, "method": methods[family, design],
            "clock_mhz": FAMILIES[family][1], "achieved_mhz": round(achieved, 1),
            "cells_per_mac": round(own[FAMILIES[family][2]] / LANES, 2),
            "used": own, "harness": harness}


def run(families: list[str], designs: list[str]) -> None:
    """Measure what is asked for, a line and an entry each."""
    for family in families or FAMILIES:
        for design in designs or DESIGNS:
            if family not in FAMILIES or design not in DESIGNS:
                continue
            entry = measure(design, family)
            print(f"{family:7}{design:15}{entry['cells_per_mac']:8.2f} cells "
                  f"{entry['achieved_mhz']:7.1f} MHz  {entry['method']}", flush=True)
            tools = find_tools(family)
            record(RESULTS, entry, ("family", "design"), yosys=tools.yosys.version,
                   nextpnr=tools.nextpnr.version)
