"""Proof that the multiplier of lookup tables makes every product, under the vendor's carry cell."""

import pytest

from hw import table_product

from .cells import ecp5_cells
from .prove import Bench, Refuted, broken


def prove_product(module, weight_bits, latency):
    bench = Bench("ecp5", ecp5_cells())
    dut = module.TableProduct(weight_bits, latency)
    bench.add(dut)
    x, w = bench.free(dut.x.shape(), "x"), bench.free(dut.w.shape(), "w")
    bench.m.d.comb += [dut.x.eq(x), dut.w.eq(w)]
    bench.check(dut.o == bench.before(x, latency) * bench.before(w, latency))
    bench.prove_pipeline(latency)


@pytest.mark.parametrize(("weight_bits", "latency"), [
    (4, 3), (5, 2), (6, 2), pytest.param(7, 2, marks=pytest.mark.long),
    pytest.param(8, 2, marks=pytest.mark.long)])
def test_every_product(weight_bits, latency):
    prove_product(table_product, weight_bits, latency)


@pytest.mark.parametrize(("right", "wrong"), [
    ("inverts=minus", "inverts=False"),
    ("adder.carry.eq(w[1] & minus)", "adder.carry.eq(0)"),
    ("(low >> half) + high", "(low >> half) | high"),
    ("if self.latency == 3", "if self.latency == 2")])
def test_a_mistake_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_product(broken(table_product, right, wrong), 4, 3)
