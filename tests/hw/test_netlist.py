"""Netlists under the vendor's cell models: the models as read, and whole engines bit by bit."""

import re

import pytest
from amaranth.back import rtlil

from boards import board
from hw.accelerator import Accelerator
from hw.config import EngineConfig
from hw.cxxrtl import run_yosys, yosys_share
from hw.ecp5_cells import block_ram_model
from hw.fit import ICE40_ARRAY
from hw.netlist import cell_models, index_tables, netlist_engine, simulate_netlist, synthesize
from hw.simulate import simulate
from hw.tools import find_tool
from ref.errors import UserError

from .engines import random_program

#: All the kinds of cells that larger arrays have, in a third of the time.
SMALL_ECP5 = EngineConfig(channels=4, pixels=2, requantizers=1, tape_depth=4096,
                          activation_depth=4096, single_port=False)
PACKED_ECP5 = EngineConfig(channels=4, pixels=3, requantizers=4, tape_depth=4096,
                           activation_depth=4096, single_port=False, accumulator_bits=18,
                           bias_bits=2, weight_bits=4, table_pixels=1, maximum=False,
                           shifts=(16, 20), pipelined=True)


def library(name):
    return (yosys_share(find_tool("yosys")) / name).read_text()


def test_only_the_cells_used_are_read_without_timing():
    models = cell_models("\n  cell \\SB_CARRY \\a\n  cell \\SB_DFFESR \\b\n  cell $scopeinfo \\c\n",
                         library("ice40/cells_sim.v"))
    assert re.findall(r"(?m)^module (\w+)", models) == ["SB_CARRY", "SB_DFFESR"]
    assert "specify" not in models and "`define SB_DFF_INIT initial Q = 0;" in models


def test_models_bring_the_models_they_are_made_of():
    models = cell_models("\n  cell \\CCU2C \\a\n", library("lattice/common_sim.vh")
                         + library("lattice/ccu2c_sim.vh"))
    assert re.findall(r"(?m)^module (\w+)", models) == ["CCU2C", "LUT2", "LUT4"]


def test_a_cell_without_model_is_a_sentence():
    with pytest.raises(UserError, match="a cell SB_NOVELTY, of which there is no model"):
        cell_models("\n  cell \\SB_NOVELTY \\a\n", library("ice40/cells_sim.v"))


def test_spram_stays_a_memory():
    models = cell_models("\n  cell \\SB_SPRAM256KA \\a\n", library("ice40/cells_sim.v"))
    report = run_yosys(find_tool("yosys"), "read_verilog -sv cells.v\nproc\n"
                       "select -assert-count 1 t:$memrd\nselect -assert-none t:$adff\n"
                       "write_rtlil out.il", {"cells.v": models}, "out.il")
    assert "memory width 16 size 16384" in report


@pytest.mark.parametrize(("source", "cell", "table"), [
    ("ice40/cells_sim.v", "SB_LUT4", "LUT_INIT"), ("lattice/common_sim.vh", "LUT4", "INIT")])
@pytest.mark.parametrize("fault", [False, True])
def test_indexed_table_is_proved_equal_to_the_vendors(source, cell, table, fault):
    """For every table and every input, by SAT; a table with two inputs exchanged is refuted."""
    text = cell_models(f"\n  cell \\{cell} \\a\n", library(source))
    original = re.search(rf"(?s)module {cell}\b.*?endmodule",
                         re.sub(r"(?s)specify.*?endspecify", "", library(source)))[0]
    indexed = index_tables(original)
    assert indexed != original and f"{table}[{{" in text
    if fault:
        indexed = re.sub(r"\[\{(\w+), (\w+),", r"[{\2, \1,", indexed)

    def with_table_as_input(text, name):
        text = re.sub(rf"module {cell}\s*\(", f"module {name}(input [15:0] {table}, ", text)
        return re.sub(r"(?m)^\s*parameter .*;| `ICE40_DEFAULT_ASSIGNMENT_\d", "", text)

    script = ("read_verilog -sv cells.v\nmiter -equiv -flatten gold gate miter\n"
              f"sat -prove trigger 0 {'-falsify' if fault else '-verify'} miter\n"
              "write_rtlil out.il")
    run_yosys(find_tool("yosys"), script, {"cells.v": with_table_as_input(original, "gold")
                                           + "\n" + with_table_as_input(indexed, "gate")}, "out.il")


@pytest.mark.parametrize(("parameters", "accepted"), [
    (".DATA_WIDTH_A(36), .DATA_WIDTH_B(36)", True), (".DATA_WIDTH_A(1), .DATA_WIDTH_B(1)", True),
    (".DATA_WIDTH_A(36), .DATA_WIDTH_B(18)", False), ('.REGMODE_B("OUTREG")', False),
    (".INITVAL_3F(1)", False)])
def test_block_ram_model_refuses_other_uses(parameters, accepted):
    sources = {"cells.v": block_ram_model() + f"module top; DP16KD #({parameters}) a(); endmodule"}
    script = "read_verilog -sv cells.v\nhierarchy -check -top top\nwrite_rtlil out.il"
    if accepted:
        run_yosys(find_tool("yosys"), script, sources, "out.il")
    else:
        with pytest.raises(UserError, match="unsupported_use_of_DP16KD"):
            run_yosys(find_tool("yosys"), script, sources, "out.il")


def test_unknown_board_is_a_sentence():
    with pytest.raises(UserError, match="icebreaker"):
        netlist_engine(ICE40_ARRAY, "no-such-board")


@pytest.mark.long
@pytest.mark.parametrize(("name", "config"), [
    ("icebreaker", ICE40_ARRAY), ("ulx3s_85f", SMALL_ECP5), ("ulx3s_85f", PACKED_ECP5)])
def test_netlist_equals_reference(name, config):
    engine = netlist_engine(config, name)
    for seed in range(4):
        model, program, x = random_program(seed, config, samples=1, size=8)
        report = simulate(model, program, x, engine)
        assert report["mismatches"] == 0, report["first_mismatch"]


@pytest.mark.long
def test_one_wrong_lookup_table_is_noticed():
    config, yosys = ICE40_ARRAY, find_tool("yosys")
    text = rtlil.convert(Accelerator(config), platform=board("icebreaker").platform(),
                         emit_src=False)
    netlist = synthesize(text, "ice40", yosys)
    # The table in front of one bit of one sum, complemented.
    cell = re.search(r"cell \\SB_LUT4 \S+\n    parameter \\LUT_INIT 16'([01]{16})\n"
                     r"    connect \\O \\array\.accumulator0_0\.following \[\d+\]\n", netlist)
    wrong = cell[1].translate(str.maketrans("01", "10"))
    faulty = netlist[:cell.start(1)] + wrong + netlist[cell.end(1):]
    engine = simulate_netlist(faulty, "ice40", yosys, config)
    model, program, x = random_program(0, config, samples=1, size=8)
    assert simulate(model, program, x, engine)["mismatches"] > 0
