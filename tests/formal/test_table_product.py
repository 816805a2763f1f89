"""Proof that the multiplier of lookup tables makes every product, under the vendor's carry cell."""

import pytest

from hw import table_product

from .cells import ecp5_cells
from .prove import Bench, Refuted, broken


def prove_product(module, weight_bits):
    bench = Bench("ecp5", ecp5_cells())
    dut = module.TableProduct(weight_bits)
    bench.add(dut)
    x, w = bench.free(dut.x.shape(), "x"), bench.free(dut.w.shape(), "w")
    bench.m.d.comb += [dut.x.eq(x), dut.w.eq(w)]
    bench.check(dut.o == bench.before(x, dut.latency) * bench.before(w, dut.latency))
    bench.prove_pipeline(dut.latency)


@pytest.mark.parametrize("weight_bits", [
    5, 6, pytest.param(7, marks=pytest.mark.long), pytest.param(8, marks=pytest.mark.long)])
def test_every_product(weight_bits):
    prove_product(table_product, weight_bits)


@pytest.mark.parametrize(("right", "wrong"), [
    ("inverts=minus", "inverts=False"),
    ("adder.carry.eq(w[1] & minus)", "adder.carry.eq(0)"),
    ("(low >> half) + high", "(low >> half) | high")])
def test_a_mistake_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_product(broken(table_product, right, wrong), 5)
