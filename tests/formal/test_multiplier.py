"""Proof that one multiplier block in its dual 8x8 mode makes both products, for all operands.

The block is the vendor's model as it comes with Yosys; product by product it is compared with
Amaranth's integers, from any state of its registers.
"""

from types import ModuleType

import pytest

from hw import multiplier, multiplier_blocks

from .cells import ice40_cells
from .prove import Bench, Refuted, broken


def prove_pair(module: ModuleType) -> None:
    bench = Bench("ice40", ice40_cells())
    dut = module.MultiplierPair()
    bench.add(dut)
    for side in range(2):
        x, w = bench.free(dut.x[side].shape(), "x"), bench.free(dut.w[side].shape(), "w")
        bench.m.d.comb += [dut.x[side].eq(x), dut.w[side].eq(w)]
        bench.check(dut.o[side]
                    == bench.before(x, dut.latency) * bench.before(w, dut.latency))
    bench.prove_pipeline(dut.latency)


def test_the_block_makes_both_products():
    prove_pair(multiplier)


@pytest.mark.parametrize(("module", "right", "wrong"), [
    (multiplier_blocks, "p_B_SIGNED=Const(1, 1)", "p_B_SIGNED=Const(0, 1)"),
    (multiplier, "Cat(self.w[0], self.w[1])", "Cat(self.w[1], self.w[0])"),
    (multiplier_blocks, "p_BOT_8x8_MULT_REG=Const(1, 1)", "p_BOT_8x8_MULT_REG=Const(0, 1)"),
])
def test_a_wrong_setting_is_refuted(module, right, wrong, monkeypatch):
    copy = broken(module, right, wrong)
    if module is multiplier_blocks:
        monkeypatch.setattr(multiplier, "ice40_block", copy.ice40_block)
        copy = multiplier
    with pytest.raises(Refuted):
        prove_pair(copy)
