"""Proof that the requantizer equals its formula, for every input within its widths.

The formula is written below with Amaranth's integers, which grow and never wrap. A solver cannot
compare two multipliers that are built differently, so the product of the formula is written as its
sum over the same slices of the multiplier: ``sum(biased * slice[k] << start[k])``. That sum is
``biased * multiplier`` because ``multiplier = sum(slice[k] << start[k])``, in integers of any size.
Unrolled in time, partial products become the same gates on both sides and merge; how they are added
up, rounding, shifting and clipping is what remains for the solver.

The proof starts from any state of the pipeline, so it holds at all times; without reset, which only
clears results on their way. Layer settings are constant, any constant.
"""

import pytest
from amaranth.hdl import Mux, Signal, Value, signed

from hw import requantizer
from hw.requantizer import Requantizer, requantizer_latency
from ref.model import SHIFTS

from .prove import Bench, Refuted, broken

pytestmark = pytest.mark.long


def formula(biased: Value, multiplier: Value, step: int, shift: Value, offset: Value, lo: Value,
            hi: Value) -> Value:
    """``clip(((biased * multiplier + 2^(s-1)) >> s) + offset, lo, hi)``, s being SHIFTS[shift]."""
    product = sum(biased * multiplier[start:start + step] << start
                  for start in range(0, len(multiplier), step))
    results = [((product + (1 << (bits - 1))) >> bits) + offset for bits in SHIFTS]
    result = results[-1]
    for index, value in enumerate(results[:-1]):
        result = Mux(shift == index, value, result)
    return Mux(result < lo, lo, Mux(result > hi, hi, result))


def prove_requantizer(unit: type[Requantizer], bits: int, multiplier_slice: int, *,
                      pipelined: bool = False) -> None:
    bench = Bench()
    bench.m.submodules.dut = dut = unit(bits, multiplier_slice, pipelined=pipelined)
    latency = requantizer_latency(pipelined=pipelined)
    past = {}
    sums = {"upper": dut.upper, "one": dut.acc[0], "other": dut.acc[1]}
    constants = {"bias": dut.constants.bias, "multiplier": dut.constants.multiplier,
                 "negative": dut.constants.multiplier_negative, "hi": dut.constants.hi}
    for name, port in (sums | constants).items():
        value = bench.free(port.shape(), name)
        bench.m.d.comb += port.eq(value)
        past[name] = bench.before(value, latency - (pipelined and name in constants))
    for port in (dut.shift, dut.signed_output, dut.lo):
        bench.m.d.comb += port.eq(bench.constant(len(port), port.name))

    biased = Signal(signed(bits))
    acc = Mux(past["upper"], past["other"], past["one"])
    bench.m.d.comb += biased.eq(acc + past["bias"])
    bench.assume(biased == acc + past["bias"])                  # the sum with the bias fits
    multiplier = Mux(biased < 0, past["negative"], past["multiplier"])
    bench.check(dut.o == formula(biased, multiplier, multiplier_slice, dut.shift,
                                 Mux(dut.signed_output, 128, 0), dut.lo, past["hi"]))
    bench.prove_pipeline(latency)


@pytest.mark.parametrize(("bits", "multiplier_slice", "pipelined"), [
    (24, 16, True), (16, 16, True), (24, 8, False), (24, 4, False)])
def test_equals_its_formula(bits, multiplier_slice, pipelined):
    prove_requantizer(Requantizer, bits, multiplier_slice, pipelined=pipelined)


@pytest.mark.parametrize(("right", "wrong"), [
    ("m.If(adder.o < 0)", "m.If(adder.o < -1)"),                # whose sums are negative
    ("carry.eq(half[0])", "carry.eq(0)"),                       # the rounding
    ("shift - 1 + HALF_BITS - 1", "shift - 1 + HALF_BITS"),     # far outside bytes
    ("[product.shift_right(shift - 1) for", "[product.shift_right(shift - (shift < 28)) for"),
    ("range(0, 16, step)", "range(0, 16 - step, step)"),        # the last partial product
    ("self.constants.hi, CLIPPED_AFTER", "self.constants.hi, CLIPPED_AFTER - 1"),
])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_requantizer(broken(requantizer, right, wrong).Requantizer, 24, 4)
