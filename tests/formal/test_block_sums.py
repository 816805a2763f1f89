"""Proof that multiplier blocks sum products up, under the vendor's model of them.

The block is SB_MAC16 as it comes with Yosys; each sum is compared with the one of the cycle before
and the product that is due, from any state of its registers.
"""

from types import ModuleType

import pytest
from amaranth.hdl import Mux

from hw import block_sums, multiplier_blocks

from .cells import ice40_cells
from .prove import Bench, Refuted, broken


def prove_sums(module: ModuleType, family: str | None) -> None:
    bench = Bench(family, ice40_cells())
    dut = module.BlockSums()
    bench.add(dut)
    accumulate, clear = bench.free(1, "accumulate"), bench.free(1, "clear")
    bench.m.d.comb += [dut.accumulate.eq(accumulate), dut.clear.eq(clear)]
    depth = dut.latency + 1
    for side in range(2):
        x, w = bench.free(dut.x[side].shape(), "x"), bench.free(dut.w[side].shape(), "w")
        bench.m.d.comb += [dut.x[side].eq(x), dut.w[side].eq(w)]
        total = bench.before(dut.total[side])
        product = bench.before(x, depth) * bench.before(w, depth)
        bench.check(dut.total[side] == Mux(bench.before(clear), 0, Mux(
            bench.before(accumulate), (total + product)[:len(total)].as_signed(), total)))
    bench.prove_pipeline(depth)


@pytest.mark.parametrize("family", ["ice40", None])
def test_sums_of_products(family):
    prove_sums(block_sums, family)


@pytest.mark.parametrize(("module", "right", "wrong"), [
    (multiplier_blocks, '"ADDSUB_UPPERINPUT": Const(0, 1)', '"ADDSUB_UPPERINPUT": Const(1, 1)'),
    (multiplier_blocks, '"ADDSUB_LOWERINPUT": Const(1, 2)', '"ADDSUB_LOWERINPUT": Const(0, 2)'),
    (multiplier_blocks, "Const(1 if sums else 2, 2)", "Const(2, 2)"),
    (block_sums, "hold=~(self.accumulate | self.clear)", "hold=~self.accumulate"),
])
def test_a_wrong_setting_is_refuted(module, right, wrong, monkeypatch):
    copy = broken(module, right, wrong)
    if module is multiplier_blocks:
        monkeypatch.setattr(block_sums, "ice40_block", copy.ice40_block)
        copy = block_sums
    with pytest.raises(Refuted):
        prove_sums(copy, "ice40")
