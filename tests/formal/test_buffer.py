"""Proof that a buffer loses, repeats and reorders nothing and takes two payloads, at any pace.

One payload is chosen, any one; the specification counts those ahead of it.
"""

from types import ModuleType

import pytest
from amaranth.hdl import Signal

from hw import buffer

from .prove import Bench, Refuted, broken


def prove_buffer(module: ModuleType) -> None:
    bench = Bench()
    m = bench.m
    dut = module.Buffer(8)
    registers = bench.add(dut)
    i, o = dut.i, dut.o
    for port in (i.valid, i.payload, o.ready):
        m.d.comb += port.eq(bench.free(port.shape(), "input"))

    inside = Signal(2)
    entered, left = i.valid & i.ready, o.valid & o.ready
    m.d.sync += inside.eq(inside + entered - left)
    bench.check(i.ready == (inside != 2))
    bench.check(o.valid == (inside != 0))

    choose, present = bench.free(1, "choose"), Signal()
    ahead, payload = Signal(2), Signal(8)
    with m.If(present & left):
        m.d.sync += [ahead.eq(ahead - 1), present.eq(ahead != 0)]
    with m.If(entered & choose & ~present):
        m.d.sync += [present.eq(1), ahead.eq(inside - left), payload.eq(i.payload)]
    bench.check(~present | (ahead < inside))
    bench.check(~present | (ahead != 0) | (o.payload == payload))

    # Lemmas: the second place is the one that is waiting.
    bench.check(registers["waiting"] == (inside == 2))
    bench.check(~present | (ahead == 0) | (registers["spare"] == payload))
    bench.prove()


def test_loses_repeats_and_reorders_nothing():
    prove_buffer(buffer)


@pytest.mark.parametrize(("right", "wrong"), [
    ("with m.If(~waiting):\n", "with m.If(1):\n"),
    ("self.i.valid | waiting", "self.i.valid"),
    ("with m.If(~self.o.valid | self.o.ready)", "with m.If(self.o.ready)"),
])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_buffer(broken(buffer, right, wrong))
