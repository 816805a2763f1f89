"""CXXRTL's function cut into pieces: the same engine, and every statement where it was."""

import re

import pytest
from amaranth.back import rtlil

from hw import pieces
from hw.accelerator import Accelerator
from hw.cxxrtl import RTL_SCRIPT, CompiledEngine, compile_library
from hw.simulate import simulate

from .engines import CONFIGS, engine_of, random_program

SOURCE = """struct p_top : public module {
\tbool eval(performer *performer) override;
}; // struct p_top

bool p_top::eval(performer *performer) {
\tbool converged = true;
\tbool posedge_p_clk = this->posedge_p_clk();
\t// a value
\tvalue<3> p_a;
\tp_a = p_b.curr;
\tif (posedge_p_clk) {
\t\tp_c.next = p_a;
\t}
\tp_d.next = p_a;
\tauto tmp_0 = memory_index(p_a.val(), 0, 2);
\tCXXRTL_ASSERT(tmp_0.valid && "out of bounds read");
\tif(tmp_0.valid) {
\t\tp_e = memory_p_f[tmp_0.index];
\t} else {
\t\tp_e = value<3> {};
\t}
\treturn converged;
}

} // namespace
"""


ACCESS = SOURCE[SOURCE.index("\tauto"):SOURCE.index("\treturn")]


@pytest.mark.parametrize(("lines", "expected"), [
    (1, ["\tp_a = p_b.curr;\n", "\tif (posedge_p_clk) {\n\t\tp_c.next = p_a;\n\t}\n",
         "\tp_d.next = p_a;\n", ACCESS]),
    (2, ["\tp_a = p_b.curr;\n\tif (posedge_p_clk) {\n\t\tp_c.next = p_a;\n\t}\n",
         "\tp_d.next = p_a;\n" + ACCESS])])
def test_blocks_stay_whole(lines, expected, monkeypatch):
    monkeypatch.setattr(pieces, "LINES", lines)
    text = pieces.cut(SOURCE)
    head = r"p_top::piece\d+\(bool &converged, bool &posedge_p_clk\) \{\n"
    bodies = re.findall(head + r"(.*?\n)\}\n", text, re.S)
    assert [body for body in bodies if body.strip()] == expected
    assert text.index("\tvalue<3> p_a;\n") < text.index("}; // struct p_top")
    assert text.endswith("\treturn converged;\n}\n\n} // namespace\n")


def test_same_engine(monkeypatch):
    """A whole engine in about a hundred pieces leaves the same trace."""
    monkeypatch.setattr(pieces, "LINES", 20)
    text = rtlil.convert(Accelerator(CONFIGS["c2p1"]), emit_src=False)
    library = compile_library({"top.il": text}, RTL_SCRIPT, "-O0", pieces=True)
    model, program, x = random_program(5, CONFIGS["c2p1"])
    assert simulate(model, program, x, CompiledEngine(library, CONFIGS["c2p1"])) == simulate(
        model, program, x, engine_of("c2p1"))
