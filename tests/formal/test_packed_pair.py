"""Proof that one multiplication makes both products of a pair, for all operands.

With the multiplier that synthesis makes by itself, and with ECP5's block and adders, whose models
are `hw.ecp5_cells` and those that come with Yosys. From any state of the registers.
"""

from types import ModuleType

import pytest

from hw import multiplier

from .cells import ecp5_cells
from .prove import Bench, Refuted, broken


def prove_packed(module: ModuleType, family: str | None) -> None:
    bench = Bench(family, ecp5_cells() if family else "")
    dut = module.PackedPair()
    bench.add(dut)
    x = [bench.free(8, f"x{side}") for side in range(2)]
    w = bench.free(dut.w.shape(), "w")
    bench.m.d.comb += [dut.x[0].eq(x[0]), dut.x[1].eq(x[1]), dut.w.eq(w)]
    bench.assume(w >= -7)
    for side in range(2):
        bench.check(dut.o[side] == bench.before(x[side], dut.latency)
                    * bench.before(w, dut.latency))
    bench.prove_pipeline(dut.latency)


@pytest.mark.parametrize("family", [None, "ecp5"])
def test_one_multiplication_makes_both_products(family):
    prove_packed(multiplier, family)


@pytest.mark.parametrize(("right", "wrong"), [
    ("(x1[1] & w[0]) ^ (x1[0] & w[1])", "(x1[1] & w[0]) | (x1[0] & w[1])"),
    ("restored >= 4", "restored > 4"),
    ("i_SIGNED{name}\": Const(signed_value)", "i_SIGNED{name}\": Const(0)"),
])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_packed(broken(multiplier, right, wrong), "ecp5")
