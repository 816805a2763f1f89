"""Sums to codes of activations, or to bytes: bias, a narrow multiplier, the nearest level."""

from amaranth.hdl import Array, Cat, Elaboratable, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .adder import OptionalAdder
from .ausn.activation import ActivationEncoder
from .ausn.code_product import ACTIVATIONS
from .config import FRACTION_BITS, EngineConfig
from .program import STORED_OFFSET
from .requantizer import HALF_BITS, beyond
from .selector import Selector

#: Cycles from an accumulator to its result.
LATENCY = 4


def constants_layout(config: EngineConfig) -> data.StructLayout:
    """One output channel's constants, in `EngineConfig.constant_bytes`."""
    return data.StructLayout({"bias": signed(config.accumulator_bits + FRACTION_BITS),
                              "multiplier": unsigned(config.multiplier_bits)})


class CodeRequantizer(wiring.Component):
    """The code of the level, or where ``byte_result`` the byte, nearest to
    ``((acc << 3) + bias) * multiplier / 2^shift``, half-way the larger.

    Equal to `ref.ops.requantize` with bounds of bytes for every accumulator whose sum with the bias
    fits: with an eighth of its scale where it gives bytes that are levels. A byte is plus 128 when
    ``signed_output``. The multiplier is a row of additions after the other that happen or not.

    One result per cycle, `LATENCY` cycles later, no flow control.

    Members
    -------
    acc : In(signed(accumulator_bits)), constants : In(constants_layout), per result
    shift (index into ``shifts``), byte_result, signed_output : In, per layer
    o : Out(unsigned(8)), a code in the lower four bits
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        super().__init__({
            "acc":           In(signed(config.accumulator_bits)),
            "constants":     In(constants_layout(config)),
            "shift":         In(2),
            "byte_result":   In(1),
            "signed_output": In(1),
            "o":             Out(8),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Four registers: biased sum, product, twice the result, the result."""
        m = Module()
        bias = self.constants.bias
        biased = Signal.like(bias, reset_less=True)
        multiplier = Signal.like(self.constants.multiplier, reset_less=True)
        product = Signal(signed(len(biased) + len(multiplier)), reset_less=True)
        m.d.sync += [
            biased.eq(Cat(bias[:FRACTION_BITS],
                          self.acc + (bias >> FRACTION_BITS))),
            multiplier.eq(self.constants.multiplier),
            product.eq(self.product(m, biased, multiplier)),
        ]

        # Twice the result before rounding. Beyond ten bits only its sign matters.
        shifts = self.config.shifts
        m.submodules.scaled = scaled = Selector(HALF_BITS, len(shifts))
        half    = Signal(signed(HALF_BITS), reset_less=True)
        outside = Signal(reset_less=True)
        sign    = Signal(reset_less=True)
        m.d.comb += [scaled.index.eq(self.shift),
                     *(scaled.i[k].eq(product.shift_right(shift - 1))
                       for k, shift in enumerate(shifts))]
        m.d.sync += [half.eq(scaled.o), outside.eq(Array(beyond(product, shifts))[self.shift]),
                     sign.eq(product < 0)]

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

    def product(self, m: Module, biased: Value, multiplier: Value) -> Value:
        """One row of additions after the other; each settles another low bit."""
        total = Mux(multiplier[0], biased, 0)
        low: list[Value] = []
        for k, bit in enumerate(multiplier[1:]):
            low.append(total[0])
            m.submodules[f"row{k}"] = row = OptionalAdder(len(biased) + 1)
            m.d.comb += [row.a.eq(total >> 1), row.b.eq(biased), row.add.eq(bit)]
            total = row.o
        return Cat(*low, total).as_signed()
