"""The synthesized netlist of an engine, simulated with the cell models that come with Yosys."""

import re

from amaranth.back import rtlil

from boards import board as find_board
from boards.platform import SCRIPT_AFTER_READ
from ref.errors import UserError

from .accelerator import Accelerator
from .config import EngineConfig
from .cxxrtl import CompiledEngine, cached_text, compile_library, run_yosys, yosys_share
from .tools import find_tool

#: Per family: the synthesis command, the file of cell models, and the modules kept as they are
#: because Yosys has no behavioural model of the cells they would become (ECP5 block RAM).
FAMILIES = {
    "ice40": ("synth_ice40 -noabc9 -top top", "ice40/cells_sim.v", ()),
    "ecp5":  ("synth_ecp5 -noabc9 -top top", "lattice/common_sim.vh lattice/ccu2c_sim.vh",
              ("top.tape", "top.activations")),
}

SIMULATION_SCRIPT = """
read_rtlil netlist.il
delete t:$specify2 t:$specify3 t:$specrule
{memories}
read_verilog -sv cells.v
hierarchy -top top
proc
flatten
opt_clean
write_cxxrtl -g0 top.cc
"""


def netlist_engine(config: EngineConfig, board_name: str) -> CompiledEngine:
    """Synthesize the engine for a board and compile the netlist; cached by content.

    Every cell behaves as its model in Yosys says; on ECP5 the two block RAM arrays stay behavioural,
    and MULT18X18D, of which Yosys has no model, is the product of its operands. Raises `UserError`
    for an unknown board.
    """
    try:
        board = find_board(board_name)
    except ValueError as error:
        raise UserError(str(error)) from None
    text = rtlil.convert(Accelerator(config), platform=board.platform(), emit_src=False)
    synthesis, models, memories = FAMILIES[board.family]
    yosys = find_tool("yosys")
    script = "\n".join(["read_rtlil top.il", *(f"blackbox {name}" for name in memories),
                        SCRIPT_AFTER_READ, synthesis, "write_rtlil netlist.il"])
    netlist = cached_text([script, text, yosys.version],
                          lambda: run_yosys(yosys, script, {"top.il": text}, "netlist.il"))
    netlist = without_modules(netlist, keep={"top"} if memories else None)
    library = "".join((yosys_share(yosys) / name).read_text() for name in models.split())
    sources = {"netlist.il": netlist, "cells.v": cell_models(netlist, library)}
    read_memories = ""
    if memories:
        sources["memories.il"] = without_modules(text, keep=set(memories))
        read_memories = "read_rtlil memories.il"
    return CompiledEngine(
        compile_library(sources, SIMULATION_SCRIPT.format(memories=read_memories)), config)


def without_modules(text: str, keep: set[str] | None) -> str:
    """RTLIL with only the named modules (by default those that are not cell models)."""
    header, *modules = re.split(r"(?m)^(?=attribute .*\n(?:attribute .*\n)*module |module )", text)
    chosen = []
    for module in modules:
        name = re.search(r"(?m)^module \\(\S+)", module)
        if name and (name[1] in keep if keep else name[1].split(".")[0] == "top"):
            chosen.append(module)
    return header + "".join(chosen)


def cell_models(netlist: str, library: str) -> str:
    """The Verilog models of the cells that ``netlist`` uses, without timing.

    Only these are read: the whole iCE40 library takes Yosys a minute. SPRAM loses the loop that clears
    it when power goes off, which would make Yosys build it from 262,144 registers.
    """
    used = set(re.findall(r"(?m)^  cell \\([A-Z]\w+)", netlist))
    library = re.sub(r"(?s)\bspecify\b.*?\bendspecify\b", "", library)
    library = re.sub(r"(?s)always @\(negedge POWEROFF\) begin.*?\bend\n", "", library)
    found = {match[1]: match[0] for match in
             re.finditer(r"(?ms)^\s*module\s+(\w+).*?^\s*endmodule", library)}
    defines = "\n".join(re.findall(r"(?m)^`define.*(?:\\\n.*)*$", library))
    models = [multiplier_model() if name == "MULT18X18D" else found[name] for name in sorted(used)]
    return "\n".join(["`define ICE40_U", defines, *models, ""])


def multiplier_model() -> str:
    """MULT18X18D without its registers, as inferred: a signed or unsigned 18 x 18 product."""
    def pins(prefix: str, count: int) -> str:
        return ", ".join(f"{prefix}{bit}" for bit in reversed(range(count)))

    unused = "C17 C16 C15 C14 C13 C12 C11 C10 C9 C8 C7 C6 C5 C4 C3 C2 C1 C0 SOURCEA SOURCEB " \
             "CLK3 CLK2 CLK1 CLK0 CE3 CE2 CE1 CE0 RST3 RST2 RST1 RST0"
    return f"""
module MULT18X18D(input {pins("A", 18)}, input {pins("B", 18)}, input SIGNEDA, SIGNEDB,
                  input {", ".join(unused.split())}, output {pins("P", 36)});
  parameter REG_INPUTA_CLK = "NONE", REG_INPUTB_CLK = "NONE", REG_OUTPUT_CLK = "NONE";
  wire signed [18:0] a = {{SIGNEDA & A17, {pins("A", 18)}}};
  wire signed [18:0] b = {{SIGNEDB & B17, {pins("B", 18)}}};
  wire signed [37:0] p = a * b;
  assign {{{pins("P", 36)}}} = p[35:0];
endmodule
"""
