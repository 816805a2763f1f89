"""Sums to codes of activations, or to bytes, without a multiplier: bias, shift, nearest level."""

from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .ausn.activation import ActivationEncoder
from .ausn.code_product import ACTIVATIONS
from .config import FRACTION_BITS, SHIFT_BITS, EngineConfig
from .program import STORED_OFFSET
from .requantizer import HALF_BITS, beyond
from .selector import Selector

#: Cycles from an accumulator to its result.
LATENCY = 3


def constants_layout(config: EngineConfig) -> data.StructLayout:
    """One output channel's constants, in `EngineConfig.constant_bytes`."""
    return data.StructLayout({"bias": signed(config.accumulator_bits + FRACTION_BITS),
                              "shift": unsigned(SHIFT_BITS)})


class CodeRequantizer(wiring.Component):
    """The code of the level, or where ``byte_result`` the byte, nearest to
    ``((acc << 3) + bias) / 2^shift``, half-way the larger.

    Equal to `ref.ops.requantize` with a multiplier of 1 and bounds of bytes for every accumulator
    whose sum with the bias fits: with an eighth of its scale where it gives bytes that are levels.
    A byte is plus 128 when ``signed_output``.

    One result per cycle, `LATENCY` cycles later, no flow control.

    Members
    -------
    acc : In(signed(accumulator_bits)), constants : In(constants_layout), per result; the constants'
        shift is an index into the engine's ``shifts``
    byte_result, signed_output : In, per layer
    o : Out(unsigned(8)), a code in the lower four bits
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        super().__init__({
            "acc":           In(signed(config.accumulator_bits)),
            "constants":     In(constants_layout(config)),
            "byte_result":   In(1),
            "signed_output": In(1),
            "o":             Out(8),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Three registers: biased sum, twice the result, the result."""
        m = Module()
        bias = self.constants.bias
        biased = Signal.like(bias, reset_less=True)
        shift  = Signal.like(self.constants.shift, reset_less=True)
        m.d.sync += [biased.eq(Cat(bias[:FRACTION_BITS], self.acc + (bias >> FRACTION_BITS))),
                     shift.eq(self.constants.shift)]

        # Twice the result before rounding. Beyond ten bits only its sign matters.
        shifts = self.config.shifts
        m.submodules.scaled = scaled = Selector(HALF_BITS, len(shifts))
        half    = Signal(signed(HALF_BITS), reset_less=True)
        outside = Signal(reset_less=True)
        sign    = Signal(reset_less=True)
        m.d.comb += [scaled.index.eq(shift), *(scaled.i[k].eq(biased.shift_right(bits - 1))
                                               for k, bits in enumerate(shifts))]
        m.d.sync += [half.eq(scaled.o), outside.eq(Array(beyond(biased, shifts))[shift]),
                     sign.eq(biased < 0)]

        m.submodules.encoder = encoder = ActivationEncoder(ACTIVATIONS)
        kept = len(encoder.half)
        stored = Signal(signed(HALF_BITS))
        m.d.comb += [
            encoder.half.eq(half),
            encoder.above.eq(outside | half[kept:-1].any()),
            encoder.below.eq(sign),
            stored.eq((half >> 1) + Mux(self.signed_output, STORED_OFFSET, 0) + half[0]),
        ]
        below, above = (outside & sign) | (~outside & stored[-1]), outside | stored[-2]
        byte = Mux(below, 0, stored[:8] | above.replicate(8))
        result = Signal(8, reset_less=True)
        m.d.sync += result.eq(Mux(self.byte_result, byte, encoder.o))
        m.d.comb += self.o.eq(result)
        return m
