"""Lookup tables per multiply-accumulate, AUSN beside linear weights, on four FPGA families.

    python -m bench.ausn area [FAMILY ...] [--design NAME]

Each design is a tile of 4 pixels by 8 channels (`bench.ausn_designs`): operand registers, what a
pixel's or a channel's lanes share, the lanes, and 20-bit accumulators that start anew without a
lost cycle, one multiply-accumulate per lane, tap and cycle.
The tile is synthesized by each of the methods, and the one with the fewest lookup tables counts.

Counted are tables, wherever they are: on ECP5 two for each carry cell (CCU2C) and none for the
multiplexers behind tables, as nextpnr's TRELLIS_COMB does; on Gowin one for each ALU cell; on
7-series tables of up to six inputs. Multiplier blocks are switched off. On iCE40 ``cells`` also
counts registers that no table can share a logic cell with. Results go to
bench/results/ausn_area.json.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import Elaboratable

from bench.ausn_designs import DESIGNS
from bench.record import record
from hw.cxxrtl import run_yosys
from hw.tools import find_tool

RESULTS = Path(__file__).parent / "results" / "ausn_area.json"
#: The synthesis command of each family.
FAMILIES = {
    "ice40": "synth_ice40 -top top",
    "ecp5": "synth_ecp5 -nodsp -top top",
    "gowin": "synth_gowin -nodsp -noiopads -top top",
    "xilinx": "synth_xilinx -nodsp -noiopad -noclkbuf -flatten -top top",
}
#: Turns multiplications into Booth arrays before synthesis.
BOOTH = "hierarchy -top top\nproc\nflatten\nopt\nwreduce\npeepopt\nopt_clean\nbooth\nopt\n"
#: Ways to synthesize: what comes before, and options by family. ``narrow`` makes no tables of five
#: and more inputs, which on ECP5 are several of four.
METHODS: dict[str, tuple[str, dict[str, str]]] = {
    "plain": ("", {"ice40": " -noabc9", "ecp5": " -noabc9", "gowin": "", "xilinx": ""}),
    "narrow": ("", {"ecp5": " -noabc9 -nowidelut", "gowin": " -nowidelut"}),
    "abc9": ("", {"ice40": " -abc9", "ecp5": " -abc9", "gowin": " -abc9", "xilinx": " -abc9"}),
    "booth": (BOOTH, {"ice40": " -noabc9", "ecp5": " -noabc9", "gowin": "", "xilinx": ""}),
    "booth narrow": (BOOTH, {"ecp5": " -noabc9 -nowidelut", "gowin": " -nowidelut"}),
    "booth abc9": (BOOTH, {"ice40": " -abc9", "ecp5": " -abc9"}),
    "booth narrow abc9": (BOOTH, {"ecp5": " -abc9 -nowidelut"}),
}


class Platform:
    """Names a family to components; nothing else."""

    def __init__(self, family: str) -> None:
        self.family = family


def synthesize(component: Elaboratable, family: str, method: str) -> str:
    """The netlist as Yosys' ``write_json`` has it; its top module is called ``top``."""
    before, options = METHODS[method]
    text = rtlil.convert(component, platform=Platform(family), emit_src=False)
    script = (f"read_rtlil top.il\n{before}{FAMILIES[family]}{options[family]}\n"
              "write_json -noscopeinfo top.json\n")
    return run_yosys(find_tool("yosys"), script, {"top.il": text}, "top.json")


def netlist(design: str, family: str, method: str) -> dict[str, Any]:
    """The top module of the synthesized tile."""
    return json.loads(synthesize(DESIGNS[design][1](family), family, method))["modules"]["top"]


def count_cells(top: dict[str, Any]) -> dict[str, int]:
    """How many cells of each kind."""
    kinds: dict[str, int] = {}
    for cell in top["cells"].values():
        kinds[cell["type"]] = kinds.get(cell["type"], 0) + 1
    return dict(sorted(kinds.items()))


def tables(kinds: dict[str, int]) -> int:
    """Lookup tables that these cells take."""
    cost = {"SB_LUT4": 1, "CCU2C": 2, "ALU": 1}
    return sum(count * (1 if re.fullmatch(r"LUT[1-6]", kind) else cost.get(kind, 0))
               for kind, count in kinds.items())


def logic_cells(top: dict[str, Any]) -> int:
    """iCE40: tables, and registers that do not directly follow a table of their own."""
    readers: dict[Any, int] = {}
    for cell in top["cells"].values():
        for port, bits in cell["connections"].items():
            if cell["port_directions"][port] == "input":
                for bit in bits:
                    readers[bit] = readers.get(bit, 0) + 1
    for port in top["ports"].values():
        if port["direction"] == "output":
            for bit in port["bits"]:
                readers[bit] = readers.get(bit, 0) + 1
    alone = {cell["connections"]["O"][0] for cell in top["cells"].values()
             if cell["type"] == "SB_LUT4" and readers.get(cell["connections"]["O"][0]) == 1}
    registers = [cell for cell in top["cells"].values() if cell["type"].startswith("SB_DFF")]
    lonely = sum(cell["connections"]["D"][0] not in alone for cell in registers)
    return lonely + sum(cell["type"] == "SB_LUT4" for cell in top["cells"].values())


def methods_of(design: str, family: str) -> list[str]:
    """The methods that may suit a design: all for ``*``, the plain ones for others."""
    return [method for method, (_, options) in METHODS.items() if family in options
            and (method in ("plain", "narrow") or design.startswith("linear"))]


def measure(design: str, family: str) -> dict[str, Any]:
    """The entry of the results of one design: each method's tables, the best one's cells."""
    macs = DESIGNS[design][0]
    tops = {method: netlist(design, family, method) for method in methods_of(design, family)}
    found = {method: tables(count_cells(top)) for method, top in tops.items()}
    best = min(found, key=lambda method: found[method])
    entry = {"design": design, "family": family, "macs": macs,
             "luts_per_mac": round(found[best] / macs, 2), "method": best,
             "methods": {method: round(count / macs, 2) for method, count in found.items()},
             "kinds": count_cells(tops[best])}
    if family == "ice40":
        entry["cells_per_mac"] = round(logic_cells(tops[best]) / macs, 2)
    return entry


def run(families: list[str], designs: list[str]) -> None:
    """Measure what is asked for, a line and an entry each."""
    for family in families or FAMILIES:
        for design in designs or DESIGNS:
            entry = measure(design, family)
            print(f"{family:7}{design:22}{entry['luts_per_mac']:8.2f}  {entry['methods']}",
                  flush=True)
            record(RESULTS, entry, ("family", "design"), yosys=find_tool("yosys").version)
