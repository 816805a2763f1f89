"""Lanes that shift and add: every product, and the lookup tables that they take."""

import re

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.lib import data

from boards import board
from hw.cxxrtl import run_yosys
from hw.fit import AUSN_LUTS, PRODUCT_LUTS
from hw.term_product import AUSN_TERMS, CHOICE, LINEAR_TERMS, WEIGHT_BITS, TermProduct
from hw.tools import find_tool

from .streams import simulate


@pytest.mark.parametrize("terms", [AUSN_TERMS, LINEAR_TERMS])
def test_every_operand(terms):
    """All activations and codes, one after the other, so that neighbours differ."""
    m = Module()
    m.submodules.dut = dut = TermProduct(terms)
    count = Signal(8 + WEIGHT_BITS)
    choices = [terms.choice(count[:WEIGHT_BITS])]
    for stage in range(dut.latency):
        choices.append(Signal(CHOICE, name=f"choice{stage}"))
        m.d.sync += choices[-1].as_value().eq(choices[-2])
    m.d.sync += count.eq(count + 1)
    m.d.comb += [dut.x.eq(count[WEIGHT_BITS:])] + [
        dut.choices[k].as_value().eq(choice) for k, choice in enumerate(choices[:-1])]
    lacks = data.View(CHOICE, choices[-1]).lacks

    async def check(ctx):
        for cycle in range((1 << len(count)) + dut.latency):
            _, _, product, lack = await ctx.tick().sample(dut.o, lacks)
            if cycle >= dut.latency:
                x, code = divmod(cycle - dut.latency, 1 << WEIGHT_BITS)
                assert product + lack == x * terms.codes[code], (x, code)

    simulate(m, check, cycles=(1 << len(count)) + 10)


@pytest.mark.parametrize(("terms", "tables"), [(AUSN_TERMS, AUSN_LUTS),
                                               (LINEAR_TERMS, PRODUCT_LUTS[4])])
def test_synthesis_takes_lookup_tables(terms, tables):
    """As many as `hw.fit` counts, behind those that invert the activation as they choose it."""
    text = rtlil.convert(TermProduct(terms), platform=board("ulx3s_25f").platform(),
                         emit_src=False)
    statistics = run_yosys(find_tool("yosys"), "read_rtlil top.il\nsynth_ecp5 -noabc9 -top top\n"
                           "tee -o stat.txt stat", {"top.il": text}, "stat.txt")
    luts, carries = (int(re.search(rf"(\d+)\s+{cell}\b", statistics)[1])
                     for cell in ("LUT4", "CCU2C"))
    assert luts - 8 + 2 * carries == tables
