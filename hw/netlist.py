"""The synthesized netlist of an engine, simulated with the cell models that come with Yosys."""

import re

from amaranth.back import rtlil

from boards import board as find_board
from boards.platform import SCRIPT_AFTER_READ
from ref.cache import cached_text
from ref.errors import UserError

from .accelerator import Accelerator
from .config import EngineConfig
from .cxxrtl import CompiledEngine, compile_library, run_yosys, yosys_share
from .ecp5_cells import block_ram_model, multiplier_model
from .tools import Tool, find_tool

#: Per family: the synthesis command, and the files of cell models.
FAMILIES = {
    "ice40": ("synth_ice40 -noabc9 -top top", ("ice40/cells_sim.v",)),
    "ecp5":  ("synth_ecp5 -noabc9 -top top", ("lattice/common_sim.vh", "lattice/ccu2c_sim.vh")),
}

#: From netlist and cell models to C++. Names of wires inside are dropped: CXXRTL keeps named ones.
SIMULATION_SCRIPT = """
read_rtlil netlist.il
read_verilog -sv cells.v
hierarchy -check -top top
proc
flatten
opt_expr
opt_dff
opt_clean -purge
rename -hide w:* i:* o:* %u %d
opt_clean
write_cxxrtl -g0 top.cc
"""


def netlist_engine(config: EngineConfig, board_name: str) -> CompiledEngine:
    """Synthesize the engine for a board and compile the netlist; cached by content.

    Every cell behaves as its model in Yosys says, but for the two ECP5 cells of which Yosys has no
    model (`hw.ecp5_cells`). Raises `UserError` for an unknown board.
    """
    try:
        board = find_board(board_name)
    except ValueError as error:
        raise UserError(str(error)) from None
    text = rtlil.convert(Accelerator(config), platform=board.platform(), emit_src=False)
    yosys = find_tool("yosys")
    return simulate_netlist(synthesize(text, board.family, yosys), board.family, yosys, config)


def synthesize(text: str, family: str, yosys: Tool) -> str:
    """The netlist (RTLIL of the module ``top`` alone) of RTLIL ``text``; cached."""
    script = "\n".join(["read_rtlil top.il", SCRIPT_AFTER_READ, FAMILIES[family][0],
                        "select top", "write_rtlil -selected netlist.il"])
    return cached_text([script, text, yosys.version],
                       lambda: run_yosys(yosys, script, {"top.il": text}, "netlist.il"))


def simulate_netlist(netlist: str, family: str, yosys: Tool,
                     config: EngineConfig) -> CompiledEngine:
    """The compiled simulation of a netlist from :func:`synthesize`."""
    library = "".join((yosys_share(yosys) / name).read_text() for name in FAMILIES[family][1])
    sources = {"netlist.il": netlist, "cells.v": cell_models(netlist, library)}
    return CompiledEngine(compile_library(sources, SIMULATION_SCRIPT, "-O1", pieces=True), config)


def cell_models(netlist: str, library: str) -> str:
    """The Verilog models of the cells that ``netlist`` uses, without timing.

    Only these are read: the whole iCE40 library takes Yosys a minute. Two kinds of model change
    their form. SPRAM loses what happens when power goes off (never, in our designs), which would
    make Yosys build it from 262,144 registers. A lookup table becomes an index into its table
    instead of four multiplexers: half as much to compile and to run.
    Raises `UserError` for a cell without model.
    """
    library = re.sub(r"(?s)\bspecify\b.*?\bendspecify\b", "", library)
    library = re.sub(r"(?s)always @\(negedge POWEROFF\) begin.*?\bend\b", "", library)
    library = library.replace("always @(posedge CLOCK, posedge off)", "always @(posedge CLOCK)")
    library = index_tables(library)
    models = {match[1]: match[0] for match in
              re.finditer(r"(?ms)^\s*module\s+(\w+).*?^\s*endmodule", library)}
    models |= {"MULT18X18D": multiplier_model(), "DP16KD": block_ram_model()}
    chosen: dict[str, str] = {}
    wanted = re.findall(r"(?m)^  cell \\([A-Z]\w+)", netlist)
    while wanted:
        name = wanted.pop()
        if name not in chosen:
            if name not in models:
                raise UserError(f"the netlist has a cell {name}, of which there is no model to "
                                "simulate; use the engine \"compiled\"")
            chosen[name] = models[name]
            wanted += re.findall(r"(?m)^\s*([A-Z]\w+) #\(", models[name])
    defines = re.findall(r"(?m)^`define.*(?:\\\n.*)*$", library)
    return "\n".join(["`define ICE40_U", *defines, *(chosen[name] for name in sorted(chosen)), ""])


def index_tables(library: str) -> str:
    """Rewrite the four-input tables SB_LUT4 and LUT4 of ``library`` as an index into the table."""
    return re.sub(
        r"wire \[7:0\] s3 = (\w+) \? +(\w+)\[15:8\].*?;\s*wire \[3:0\] s2 = (\w+) .*?;\s*"
        r"wire \[1:0\] s1 = (\w+) .*?;\s*assign (\w+) = +(\w+) .*?;",
        r"assign \5 = \2[{\1, \3, \4, \6}];", library)
