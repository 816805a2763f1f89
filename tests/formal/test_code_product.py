"""Proof that a lane that shifts and adds makes every product: each weight code, each byte."""

from types import ModuleType

import numpy as np
import pytest
from amaranth.hdl import Array, Const, Mux, signed

from hw.ausn import code_product
from hw.ausn.code_product import WEIGHTS

from .prove import Bench, Refuted, broken


def prove_products(module: ModuleType) -> None:
    bench = Bench()
    dut = module.CodeProduct()
    bench.add(dut)
    x, code = bench.free(len(dut.x), "x"), bench.free(WEIGHTS.bits + 1, "code")
    bench.m.d.comb += [dut.x.eq(x), dut.weight.as_value().eq(module.choice(code))]
    weights = WEIGHTS.decode(np.arange(1 << len(code))).tolist()
    past = bench.before(code, dut.latency)
    weight = Array(Const(weight, signed(WEIGHTS.bits + 2)) for weight in weights)[past]
    # Of "minus zero", which no weight is, as of any other with the sign.
    lacks = Mux(past[-1], module.lacks(-1), module.lacks(1))
    bench.check(dut.o == bench.before(x, dut.latency) * weight - lacks)
    bench.prove_pipeline(dut.latency)


def test_every_product():
    prove_products(code_product)


@pytest.mark.parametrize(("right", "wrong"), [
    ("6: (2, 4)", "6: (2, 0)"),
    ("Cat(Const(0, 3), Mux(chosen.eight", "Cat(Const(0, 2), Mux(chosen.eight"),
    ("Mux(invert, ~total, total)", "Mux(invert, -total, total)"),
    ("int(weight < 0)", "0"),
])
def test_a_mistake_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_products(broken(code_product, right, wrong))
