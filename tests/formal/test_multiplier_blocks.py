"""Proof that the blocks of Nexus and Gowin make the products, for all operands of up to 12 bits.

Nexus' blocks are the models that come with Yosys. Of Gowin's it has none: the one here is written
from Gowin's UG287 and the one thing relied on is what that says of operands' signs, of the choice
between A and SIA, and of the registers that are used.
"""

import pytest
from amaranth.hdl import Const, Signal, signed, unsigned

from hw import multiplier, multiplier_blocks

from .cells import yosys_cells
from .prove import Bench, Refuted, broken

GOWIN = """
module MULT{n}X{n}(input [{n}-1:0] A, SIA, B, SIB, input ASIGN, BSIGN, ASEL, BSEL, CE, CLK, RESET,
                   output [2*{n}-1:0] DOUT);
  parameter AREG = 1'b0, BREG = 1'b0, OUT_REG = 1'b0, PIPE_REG = 1'b0;
  parameter ASIGN_REG = 1'b0, BSIGN_REG = 1'b0, SOA_REG = 1'b0, MULT_RESET_MODE = "SYNC";
  wire [{n}-1:0] a_in = ASEL ? SIA : A, b_in = BSEL ? SIB : B;
  reg [{n}-1:0] a_reg, b_reg;
  reg [2*{n}-1:0] out_reg;
  wire [{n}-1:0] a = AREG ? a_reg : a_in, b = BREG ? b_reg : b_in;
  wire [2*{n}-1:0] a_wide = {{ {{ {n}{{ASIGN & a[{n}-1]}} }}, a }};
  wire [2*{n}-1:0] b_wide = {{ {{ {n}{{BSIGN & b[{n}-1]}} }}, b }};
  wire [2*{n}-1:0] product = a_wide * b_wide;
  assign DOUT = OUT_REG ? out_reg : product;
  always @(posedge CLK)
    if (RESET) begin a_reg <= 0; b_reg <= 0; out_reg <= 0; end
    else if (CE) begin a_reg <= a_in; b_reg <= b_in; out_reg <= product; end
  generate if (PIPE_REG || ASIGN_REG || BSIGN_REG || SOA_REG)
    unsupported_use_of_MULT unsupported();
  endgenerate
endmodule
"""


def cells(family):
    if family == "gowin":
        return "".join(GOWIN.format(n=size) for size in (9, 18))
    return yosys_cells("nexus", ["cells_sim.v"], ["MULT9X9", "MULT18X18", "MULTADDSUB9X9WIDE"])


def widened(bench, value, width):
    """``value`` as an unsigned number of ``width`` bits, equal to it modulo 2^width."""
    wide = Signal(width)
    bench.m.d.comb += wide.eq(value)
    return wide


def product(bench, a, b, width):
    """``a * b`` as blocks of so many bits compute it, so that a proof need not multiply."""
    return (widened(bench, a, width) * widened(bench, b, width))[:width]


def prove_multiplier(family, a_shape, b_shape):
    bench = Bench(family, cells(family))
    dut = multiplier.Multiplier(a_shape, b_shape)
    bench.add(dut)
    a, b = bench.free(a_shape, "a"), bench.free(b_shape, "b")
    bench.m.d.comb += [dut.a.eq(a), dut.b.eq(b)]
    size = 9 if max(len(a), len(b)) <= 9 else 18
    wanted = product(bench, bench.before(a, 2), bench.before(b, 2), 2 * size)
    bench.check(dut.o.as_unsigned() == wanted[:len(dut.o)])
    bench.prove_pipeline(dut.latency)


@pytest.mark.parametrize("family", ["nexus", "gowin"])
@pytest.mark.parametrize(("a_shape", "b_shape"), [
    (unsigned(8), signed(8)), (signed(12), unsigned(5)),
    pytest.param(unsigned(12), signed(4), marks=pytest.mark.long)])
def test_multipliers(family, a_shape, b_shape):
    prove_multiplier(family, a_shape, b_shape)


@pytest.mark.long
@pytest.mark.parametrize("family", ["nexus", "gowin"])
def test_pairs(family):
    bench = Bench(family, cells(family))
    dut = multiplier.MultiplierPair()
    bench.add(dut)
    for side in range(2):
        x, w = bench.free(unsigned(8), "x"), bench.free(signed(8), "w")
        bench.m.d.comb += [dut.x[side].eq(x), dut.w[side].eq(w)]
        wanted = product(bench, bench.before(x, dut.latency), bench.before(w, dut.latency), 18)
        bench.check(dut.o[side].as_unsigned() == wanted[:16])
    bench.prove_pipeline(dut.latency)


def prove_sum():
    bench = Bench("nexus", cells("nexus"))
    dut = multiplier.SumOfFour()
    bench.add(dut)
    total = Const(0, 18)
    for k in range(4):
        x, w = bench.free(unsigned(8), "x"), bench.free(signed(8), "w")
        bench.m.d.comb += [dut.x[k].eq(x), dut.w[k].eq(w)]
        total += product(bench, bench.before(x, dut.latency), bench.before(w, dut.latency), 18)
    bench.check(dut.o.as_unsigned() == total[:18])
    bench.prove_pipeline(dut.latency)


@pytest.mark.long
def test_sum_of_four():
    prove_sum()


@pytest.mark.parametrize(("function", "right", "wrong"), [
    ("nexus_block", "i_SIGNEDB=Const(b.shape().signed)", "i_SIGNEDB=Const(0)"),
    ("gowin_block", "i_BSIGN=Const(b.shape().signed)", "i_BSIGN=Const(0)"),
    ("gowin_block", '"OUT_REG")', ")"),
    ("nexus_sum_block", "i_LOADC=Const(1)", "i_LOADC=Const(0)")])
def test_a_wrong_setting_is_refuted(function, right, wrong, monkeypatch):
    copy = broken(multiplier_blocks, right, wrong)
    monkeypatch.setattr(multiplier, function, getattr(copy, function))
    with pytest.raises(Refuted):
        if function == "nexus_sum_block":
            prove_sum()
        else:
            prove_multiplier(function.removesuffix("_block"), unsigned(8), signed(8))
