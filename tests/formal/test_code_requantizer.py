"""Proof that results are those of the reference: every sum, bias, multiplier and shift.

The formula is `ref.model.Requantization`'s in Amaranth's integers: for codes the table ``code.bytes``
at twice the scaled sum, clipped; for bytes the sum rounded and clipped. Its product is written as
the sum of what each bit of the multiplier adds.
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

from .cells import yosys_cells
from .prove import Bench, Refuted, broken

pytestmark = pytest.mark.long

CONFIG = replace(ICE40_CODES, multiplier_bits=6, shifts=(10, 12, 15))


def nearest_level(product: Value, shift: int) -> Value:
    """The byte nearest to eight times the scaled sum that is a level."""
    half = product.shift_right(shift - 1 - FRACTION_BITS)
    return Array(ACTIVATIONS.bytes.tolist())[Mux(half < 0, 0, Mux(half > 510, 510, half))[:9]]


def nearest_byte(product: Value, shift: int, offset: Value) -> Value:
    """The byte nearest to the scaled sum plus ``offset``."""
    result = (product + (1 << shift - 1) >> shift) + offset
    return Mux(result < 0, 0, Mux(result > 255, 255, result))


def prove_results(module: ModuleType, family: str | None) -> None:
    cells = yosys_cells("ice40", ["cells_sim.v"], ["SB_LUT4", "SB_CARRY"]) if family else ""
    bench = Bench(family, cells)
    dut = module.CodeRequantizer(CONFIG)
    bench.add(dut)
    past = {}
    for name, port in {"acc": dut.acc, "bias": dut.constants.bias,
                       "multiplier": dut.constants.multiplier}.items():
        value = bench.free(port.shape(), name)
        bench.m.d.comb += port.eq(value)
        past[name] = bench.before(value, module.LATENCY)
    for port in (dut.shift, dut.byte_result, dut.signed_output):
        bench.m.d.comb += port.eq(bench.constant(len(port), port.name))
    bench.assume(dut.shift < len(CONFIG.shifts))
    total = Cat(Const(0, FRACTION_BITS), past["acc"]).as_signed() + past["bias"]
    biased = Signal(signed(len(past["bias"])))
    bench.m.d.comb += biased.eq(total)
    bench.assume(biased == total)                               # the sum with the bias fits
    product = sum((Mux(bit, biased, 0) << k for k, bit in enumerate(past["multiplier"])), Const(0))
    bench.m.submodules.decoder = decoder = ActivationDecoder(ACTIVATIONS)
    bench.m.d.comb += decoder.code.eq(dut.o[:ACTIVATIONS.bits])
    levels, stored = (Array(values)[dut.shift] for values in (
        [nearest_level(product, shift) for shift in CONFIG.shifts],
        [nearest_byte(product, shift, Mux(dut.signed_output, 128, 0)) for shift in CONFIG.shifts]))
    bench.check(Mux(dut.byte_result, dut.o == stored, decoder.o == levels))
    bench.prove_pipeline(module.LATENCY)


@pytest.mark.parametrize("family", [None, "ice40"])
def test_results_are_those_of_the_reference(family):
    prove_results(code_requantizer, family)


@pytest.mark.parametrize(("right", "wrong"), [
    ("+ half[0])", ")"),                                        # the rounding of bytes
    ("outside | half[kept:-1].any()", "outside"),               # what is above a code
    ("encoder.below.eq(sign)", "encoder.below.eq(0)"),
    ("enumerate(multiplier[1:])", "enumerate(multiplier[1:-1])"),
    ("(~outside & stored[-1])", "0"),                           # what is below a byte
])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_results(broken(code_requantizer, right, wrong), None)
