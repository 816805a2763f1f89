"""Proof that AUSN activations are those of the reference: every sum, every code.

The formula is `ref.model.Requantization`'s with a multiplier of 1: the table ``code.bytes`` at
twice the scaled sum, clipped.
"""

import pytest
from amaranth.hdl import Array, Mux, Signal, Value, signed

from hw.ausn import activation
from ref.ausn import EXPONENT_BITS, AusnCode

from .prove import Bench, Refuted, broken

SHIFTS = (3, 5, 8, 11)
#: Every code whose levels are bytes.
CODES = [code for bits in range(2, 8) for exponent in EXPONENT_BITS if exponent <= bits
         for code in [AusnCode(exponent, bits - exponent)] if code.largest < 256]


def formula(code: AusnCode, biased: Value, shift: int) -> Value:
    """``code.bytes[clip(biased >> (shift - 1), 0, 2 * 255)]``."""
    half = biased.shift_right(shift - 1)
    return Array(code.bytes.tolist())[Mux(half < 0, 0, Mux(half > 510, 510, half))[:9]]


def prove_activations(unit: type, decoder: type, code: AusnCode) -> None:
    bench = Bench()
    bits = 20
    bench.m.submodules.dut = dut = unit(code, bits, SHIFTS)
    bench.m.submodules.decoder = byte = decoder(code)
    past = {}
    for name, port in {"upper": dut.upper, "one": dut.acc[0], "other": dut.acc[1],
                       "bias": dut.bias, "shift": dut.shift}.items():
        value = bench.free(port.shape(), name)
        bench.m.d.comb += port.eq(value)
        past[name] = bench.before(value, dut.latency)
    total = Mux(past["upper"], past["other"], past["one"]) + past["bias"]
    biased = Signal(signed(bits))
    bench.m.d.comb += [biased.eq(total), byte.code.eq(dut.o)]
    bench.assume(biased == total)                               # the sum with the bias fits
    bench.check(byte.o == Array([formula(code, biased, shift) for shift in SHIFTS])[past["shift"]])
    bench.prove_pipeline(dut.latency)


@pytest.mark.parametrize("code", [
    pytest.param(code, id=f"{code.exponent}+{code.superposition}",
                 marks=() if code == AusnCode(2, 2) else pytest.mark.long) for code in CODES])
def test_activations_are_those_of_the_reference(code):
    prove_activations(activation.AusnRequantizer, activation.ActivationDecoder, code)


@pytest.mark.long
@pytest.mark.parametrize(("right", "wrong"), [
    ("Array(windows)[octave] + 1)", "Array(windows)[octave])"),     # the rounding
    ("self.above | level[-1]", "self.above"),                       # a carry out of the top
    ("octave.eq(number + 1)", "octave.eq(1)"),                      # the leading one
    ("half[width:].any() if", "half[width + 1:].any() if"),         # what is far above
    ("below.eq(biased < 0)", "below.eq(0)"),
    ("field.any())", "1)"),                                         # the exponent 0
])
def test_a_broken_one_is_refuted(right, wrong):
    copy = broken(activation, right, wrong)
    with pytest.raises(Refuted):
        prove_activations(copy.AusnRequantizer, copy.ActivationDecoder, AusnCode(2, 2))
