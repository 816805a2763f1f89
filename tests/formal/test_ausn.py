"""Proof that shift-add tiles add up integer products: every code, every activation, both forms.

A tile of one pixel and one channel starts a sum with every product, so that its sums are products,
from any state of its registers; where lanes stand still for an activation of 0, with every other
product, so that one of two need not be awake: `HeldTile`, which ECP5's adders are for, and
`StillTile`. ECP5's form is made of the vendor's cells, whose
models come with Yosys. That accumulators go on adding is proved of them alone.
"""

import pytest
from amaranth.hdl import Array, Const, Mux, Signal, signed

from hw import adder
from hw.ausn import held, lane, selector, still, tile
from hw.ausn.plan import Plan, ausn_plan, booth_plan
from ref.ausn import AusnCode

from .cells import ecp5_cells
from .prove import Bench, Refuted, broken

AUSN5 = (AusnCode(2, 2),)
SPLITS = tuple(AusnCode(e, s) for e, s in ((2, 2), (2, 1), (2, 0), (1, 2), (1, 1), (1, 0)))
PLANS = {"AUSN": ausn_plan(AUSN5, None), "AUSN on ECP5": ausn_plan(AUSN5, "ecp5"),
         "all splits": ausn_plan(SPLITS, None), "all splits on ECP5": ausn_plan(SPLITS, "ecp5"),
         "AUSN 4": ausn_plan((AusnCode(2, 1),), None),
         "AUSN 4 on ECP5": ausn_plan((AusnCode(2, 1),), "ecp5"),
         "AUSN 6": ausn_plan((AusnCode(2, 3),), None),
         **{f"Booth {bits}": booth_plan(bits) for bits in (4, 6)}}
#: What the quick suite proves; the others take half a minute and more together.
QUICK = (("AUSN", None), ("AUSN on ECP5", "ecp5"))


def new_bench(family: str | None) -> Bench:
    return Bench(family, ecp5_cells() if family == "ecp5" else "")


def prove_products(chosen: Plan, family: str | None) -> None:
    bench = new_bench(family)
    dut = tile.Tile(chosen, 1, 1)
    bench.add(dut)
    x, code = bench.free(8, "x"), bench.free(chosen.code_bits, "code")
    bench.m.d.comb += [dut.valid.eq(1), dut.first.eq(1), dut.last.eq(1),
                       dut.x[0][0].eq(x), dut.code[0][0].eq(code)]
    late = bench.before(code, dut.latency)
    count = range(len(chosen.choices))
    weight = Array(Const(chosen.weights[k], signed(9)) for k in count)[late]
    lacks = Array(Const(tile.group_lacks(chosen, (k,)), signed(9)) for k in count)[late]
    bench.check(dut.sums[0][0] == bench.before(x, dut.latency) * weight - lacks)
    # Yosys merges the tile's registers of ``valid``, which is 1, with those that count the cycles.
    bench.prove_pipeline(2 * dut.latency)


@pytest.mark.parametrize(("name", "family"), [
    pytest.param(name, family, marks=() if (name, family) in QUICK else pytest.mark.long)
    for name in PLANS for family in (None, "ecp5")])
def test_products_are_the_integer_products(name, family):
    prove_products(PLANS[name], family)


def prove_sums_of_two(dut: held.HeldTile | still.StillTile, family: str | None) -> None:
    bench = new_bench(family)
    chosen = dut.plan
    bench.add(dut)
    x, code = bench.free(8, "x"), bench.free(chosen.code_bits, "code")
    second = Signal()
    bench.m.d.sync += second.eq(~second)
    bench.m.d.comb += [dut.valid.eq(1), dut.first.eq(~second), dut.last.eq(second),
                       dut.x[0][0].eq(x), dut.code[0][0].eq(code)]
    weights = Array(Const(weight, signed(9)) for weight in chosen.weights)
    lacks = Array(Const(0 if chosen.chooses else still.first_lacks(chosen, k))
                  for k in range(len(chosen.choices)))
    products = [bench.before(x, late) * weights[bench.before(code, late)]
                for late in (dut.latency + 1, dut.latency)]
    wanted = products[0] - lacks[bench.before(code, dut.latency + 1)] + products[1]
    bench.check(~bench.before(second, dut.latency) | (dut.done & (dut.sums[0][0] == wanted)))
    # What is checked is the cycle in which the sum of cycles 4 and 5 is there.
    bench.prove_pipeline(dut.latency + 5)


def test_held_lanes_add_the_integer_products():
    prove_sums_of_two(held.HeldTile(PLANS["AUSN on ECP5"], 1, 1), "ecp5")


@pytest.mark.long
def test_still_lanes_add_the_integer_products():
    prove_sums_of_two(still.StillTile(PLANS["AUSN"], 1, 1), None)


@pytest.mark.parametrize(("right", "wrong"), [
    ("fresh.eq(lane_ends)", "fresh.eq(~lane_ends)"),
    ("self.carry.eq(mine.invert ^ self.choice.invert)", "self.carry.eq(self.choice.invert)"),
    ("ends | self.valid & self.x[0][p].any()", "self.valid & self.x[0][p].any()"),
])
def test_broken_held_lanes_are_refuted(right, wrong):
    copy = broken(held, right, wrong)
    with pytest.raises(Refuted):
        prove_sums_of_two(copy.HeldTile(PLANS["AUSN on ECP5"], 1, 1), "ecp5")


@pytest.mark.long
@pytest.mark.parametrize(("right", "wrong"), [
    ("carry.eq(inverted ^ choice.invert)", "carry.eq(choice.invert)"),
    ("(self.first | self.x[0][p].any())", "self.x[0][p].any()"),
])
def test_broken_still_lanes_are_refuted(right, wrong):
    copy = broken(still, right, wrong)
    with pytest.raises(Refuted):
        prove_sums_of_two(copy.StillTile(PLANS["AUSN"], 1, 1), None)


@pytest.mark.parametrize("family", [None, "ecp5"])
@pytest.mark.parametrize("inverts", [False, True])
def test_accumulators_add_and_start_anew(inverts, family):
    """The register that the specification names is in the accumulator: `total` before an addend."""
    bench = new_bench(family)
    dut = tile.Accumulator(20, 14, inverts=inverts)
    bench.add(dut)
    addend = bench.free(signed(14), "addend")
    invert, carry, accumulate, first, last = (
        bench.free(1, name) for name in ("invert", "carry", "accumulate", "first", "last"))
    bench.m.d.comb += [dut.addend.eq(addend), dut.invert.eq(invert), dut.carry.eq(carry),
                       dut.first.eq(first), dut.accumulate.eq(accumulate), dut.last.eq(last)]
    added = Mux(invert, ~addend, addend) if inverts else addend
    total = Signal(signed(20))
    if inverts:
        bench.check(dut.total == (total + added + carry)[:20].as_signed())
        with bench.m.If(accumulate):
            bench.m.d.sync += total.eq(Mux(last, 0, total + added + carry))
    else:
        bench.check(dut.total == total)
        with bench.m.If(accumulate):
            bench.m.d.sync += total.eq(Mux(first, added, total + added + carry))
    bench.prove()


@pytest.mark.parametrize(("module", "right", "wrong"), [
    (adder, "b ^ self.inverts if c else d & self.alternative",
     "d & self.alternative if c else b ^ self.inverts"),
    (selector, "i_C=index[0]", "i_C=index[1]"),
    (lane, "self.choices[stage].terms[f\"term{number + 1}\"]",
     "self.choices[stage - 1].terms[f\"term{number + 1}\"]"),
])
def test_a_broken_one_is_refuted(module, right, wrong, monkeypatch):
    copy = broken(module, right, wrong)
    for user, name in ((lane, "ChoosingAdder"), (lane, "Selector"), (tile, "Lane")):
        if hasattr(copy, name):
            monkeypatch.setattr(user, name, getattr(copy, name))
    with pytest.raises(Refuted):
        prove_products(PLANS["AUSN on ECP5"], "ecp5")
