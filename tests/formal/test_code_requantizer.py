"""Proof that results are those of the reference: every sum, bias and shift.

The formula is `ref.model.Requantization`'s with a multiplier of 1, in Amaranth's integers: for
codes the table ``code.bytes`` at twice the scaled sum, clipped; for bytes the sum rounded and
clipped.
"""

from dataclasses import replace
from types import ModuleType

import pytest
from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value, signed

from hw import code_requantizer
from hw.ausn.activation import ActivationDecoder
from hw.ausn.code_product import ACTIVATIONS
from hw.config import FRACTION_BITS
from hw.fit import ICE40_CODES

from .prove import Bench, Refuted, broken

CONFIG = replace(ICE40_CODES, shifts=(4, 5, 7, 8, 11))


def nearest_level(biased: Value, shift: int) -> Value:
    """The byte nearest to eight times the scaled sum that is a level."""
    half = biased.shift_right(shift - 1 - FRACTION_BITS)
    return Array(ACTIVATIONS.bytes.tolist())[Mux(half < 0, 0, Mux(half > 510, 510, half))[:9]]


def nearest_byte(biased: Value, shift: int, offset: Value) -> Value:
    """The byte nearest to the scaled sum plus ``offset``."""
    result = (biased + (1 << shift - 1) >> shift) + offset
    return Mux(result < 0, 0, Mux(result > 255, 255, result))


def prove_results(module: ModuleType) -> None:
    bench = Bench()
    dut = module.CodeRequantizer(CONFIG)
    bench.add(dut)
    past = {}
    for name, port in {"acc": dut.acc, "bias": dut.constants.bias,
                       "shift": dut.constants.shift}.items():
        value = bench.free(port.shape(), name)
        bench.m.d.comb += port.eq(value)
        past[name] = bench.before(value, module.LATENCY)
    for port in (dut.byte_result, dut.signed_output):
        bench.m.d.comb += port.eq(bench.constant(len(port), port.name))
    bench.assume(past["shift"] < len(CONFIG.shifts))
    total = Cat(Const(0, FRACTION_BITS), past["acc"]).as_signed() + past["bias"]
    biased = Signal(signed(len(past["bias"])))
    bench.m.d.comb += biased.eq(total)
    bench.assume(biased == total)                               # the sum with the bias fits
    bench.m.submodules.decoder = decoder = ActivationDecoder(ACTIVATIONS)
    bench.m.d.comb += decoder.code.eq(dut.o[:ACTIVATIONS.bits])
    levels, stored = (Array(values)[past["shift"]] for values in (
        [nearest_level(biased, shift) for shift in CONFIG.shifts],
        [nearest_byte(biased, shift, Mux(dut.signed_output, 128, 0)) for shift in CONFIG.shifts]))
    bench.check(Mux(dut.byte_result, dut.o == stored, decoder.o == levels))
    bench.prove_pipeline(module.LATENCY)


def test_results_are_those_of_the_reference():
    prove_results(code_requantizer)


@pytest.mark.long
@pytest.mark.parametrize(("right", "wrong"), [
    ("+ half[0])", ")"),                                        # the rounding of bytes
    ("outside | half[kept:-1].any()", "outside"),               # what is above a code
    ("encoder.below.eq(sign)", "encoder.below.eq(0)"),
    ("self.acc + (bias >> FRACTION_BITS)", "self.acc - (bias >> FRACTION_BITS)"),
    ("biased.shift_right(bits - 1)", "biased.shift_right(bits - (k > 0))"),
    ("(~outside & stored[-1])", "0"),                           # what is below a byte
])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_results(broken(code_requantizer, right, wrong))
