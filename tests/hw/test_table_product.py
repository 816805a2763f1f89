"""Multipliers of lookup tables: every product, and none that synthesis would give to a block."""

import re

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal

from boards import board
from hw.cxxrtl import run_yosys
from hw.fit import PRODUCT_LUTS
from hw.table_product import TableProduct
from hw.tools import find_tool

from .streams import simulate


@pytest.mark.parametrize("weight_bits", [5, 6])
def test_every_operand(weight_bits):
    m = Module()
    m.submodules.dut = dut = TableProduct(weight_bits)
    latency, count = dut.latency, Signal(8 + weight_bits)
    m.d.sync += count.eq(count + 1)
    m.d.comb += [dut.x.eq(count[:8]), dut.w.eq(count[8:].as_signed())]
    total = 1 << len(count)

    async def check(ctx):
        for cycle in range(total + latency):
            _, _, product = await ctx.tick().sample(dut.o)
            if cycle >= latency:
                x, w = (cycle - latency) & 255, (cycle - latency) >> 8
                assert product == x * (w - (w >> weight_bits - 1 << weight_bits)), (x, w)

    simulate(m, check, cycles=total + 10)


@pytest.mark.parametrize("weight_bits", [5, 6, 7, 8])
def test_synthesis_takes_lookup_tables(weight_bits):
    """As many as `hw.fit` counts."""
    text = rtlil.convert(TableProduct(weight_bits),
                         platform=board("ulx3s_25f").platform(), emit_src=False)
    statistics = run_yosys(find_tool("yosys"), "read_rtlil top.il\nsynth_ecp5 -noabc9 -top top\n"
                           "select -assert-none t:MULT18X18D\ntee -o stat.txt stat",
                           {"top.il": text}, "stat.txt")
    tables, carries = (int(re.search(rf"(\d+)\s+{cell}\b", statistics)[1])
                       for cell in ("LUT4", "CCU2C"))
    assert tables + 2 * carries == PRODUCT_LUTS[weight_bits]
