"""Proof that lanes that shift and add make every product, under the vendor's carry cell."""

import pytest
from amaranth.hdl import Array, Const, signed

from hw import term_product

from .cells import ecp5_cells
from .prove import Bench, Refuted, broken


def prove_products(module, kind, family="ecp5"):
    bench = Bench("ecp5", ecp5_cells()) if family else Bench()
    terms = getattr(module, f"{kind}_TERMS")
    dut = module.TermProduct(terms)
    bench.add(dut)
    x, code = bench.free(8, "x"), bench.free(module.WEIGHT_BITS, "code")
    choices = [terms.choice(code)]
    for ago in range(1, dut.latency + 1):
        choices.append(bench.before(choices[0], ago))
    bench.m.d.comb += [dut.x.eq(x)] + [
        dut.choices[k].as_value().eq(choice) for k, choice in enumerate(choices[:-1])]
    weight = Array(Const(weight, signed(5)) for weight in terms.codes)[
        bench.before(code, dut.latency)]
    lacks = module.data.View(module.CHOICE, choices[-1]).lacks
    bench.check(dut.o + lacks == bench.before(x, dut.latency) * weight)
    bench.prove_pipeline(dut.latency)


@pytest.mark.parametrize("family", ["ecp5", None])
@pytest.mark.parametrize("kind", ["AUSN", "LINEAR"])
def test_every_product(kind, family):
    prove_products(term_product, kind, family)


@pytest.mark.parametrize(("kind", "right", "wrong"), [
    ("AUSN", "6: (4, 2)", "6: (4, 8)"),
    ("LINEAR", "7: (-1, 8)", "7: (1, 8)"),
    ("AUSN", "adder.carry.eq(last.carry)", "adder.carry.eq(0)"),
    ("LINEAR", "negative != (first < 0)", "negative"),
    ("AUSN", "adder.b.eq(Cat(last.carry", "adder.b.eq(Cat((~last.carry)"),
])
def test_a_mistake_is_refuted(kind, right, wrong):
    with pytest.raises(Refuted):
        prove_products(broken(term_product, right, wrong), kind)
