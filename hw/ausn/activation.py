"""AUSN activations: from sums to codes without a multiplier, and from codes to the lanes' bytes.

Source: AUSN, arXiv 2007.03903 (see `ref.ausn`): where the leading one stands is the exponent, the
bits behind it are the superposition, and the two together are one number, in the order of the
levels, that is rounded by adding one: a carry leaves one field for the other by itself.
"""

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from hw.adder import ChoosingAdder
from hw.selector import Selector
from ref.ausn import AusnCode


def octaves(code: AusnCode) -> int:
    """How often the distance between neighbouring levels doubles."""
    return (1 << code.exponent) - 2


def byte_shift(code: AusnCode) -> int:
    """Bytes are levels times 2 to this; `ValueError` where levels are no bytes."""
    shift = 8 - code.largest.bit_length()
    if shift < 0:
        raise ValueError(f"the levels of {code} reach {code.largest} and are no bytes")
    return shift


class ActivationEncoder(wiring.Component):
    """The code of the level nearest to ``half / 2``, half-way the larger, within the cycle.

    ``above`` says that the value is beyond the range of ``half``: the code is the largest;
    ``below`` that it is negative: the code is 0.

    Members
    -------
    half : In(code.superposition + 2 + octaves(code)), above, below : In(1), o : Out(code.bits)
    """

    def __init__(self, code: AusnCode) -> None:
        self.code = code
        super().__init__({"half": In(code.superposition + 2 + octaves(code)), "above": In(1),
                          "below": In(1), "o": Out(code.bits)})

    def elaborate(self, platform: object) -> Elaboratable:
        """The octave by the leading one, its bits of the value, one more to round, the ends."""
        m = Module()
        kept = self.code.superposition + 2          # bits from the leading one to the rounding one
        leading = self.half[kept:]
        octave = Signal(range(octaves(self.code) + 1))
        for number, bit in enumerate(leading):
            with m.If(bit):
                m.d.comb += octave.eq(number + 1)
        windows = [self.half[k:k + kept] for k in range(octaves(self.code) + 1)]
        doubled = Signal(self.code.bits + 2)
        m.d.comb += doubled.eq((octave << kept - 1) + Array(windows)[octave] + 1)
        level = doubled[1:]
        with m.If(self.below):
            m.d.comb += self.o.eq(0)
        with m.Elif(self.above | level[-1]):
            m.d.comb += self.o.eq(-1)
        with m.Else():
            m.d.comb += self.o.eq(level)
        return m


class ActivationDecoder(wiring.Component):
    """The byte that an activation's code stands for (`AusnCode.bytes`), within the cycle.

    Members
    -------
    code : In(code.bits), o : Out(8)
    """

    def __init__(self, code: AusnCode) -> None:
        self.split = code
        self.byte_shift = byte_shift(code)
        super().__init__({"code": In(code.bits), "o": Out(8)})

    def elaborate(self, platform: object) -> Elaboratable:
        """Superposition and, but for exponent 0, a one above it, shifted."""
        m = Module()
        gates, field = (self.code[:self.split.superposition],
                        self.code[self.split.superposition:])
        value = Cat(gates, field.any())
        shifted = [value << self.byte_shift + max(number - 1, 0)
                   for number in range(1 << len(field))]
        m.d.comb += self.o.eq(Array(shifted)[field])
        return m


class AusnRequantizer(wiring.Component):
    """The code of the activation level nearest to ``(acc + bias) / 2^shift``, no multiplier.

    As bytes (`ActivationDecoder`) the results are those of `ref.ops.requantize` with a multiplier
    of 1, this code, and bounds 0 and 255, for every accumulator whose sum with the bias fits
    ``accumulator_bits``. One result per cycle, :attr:`latency` cycles later, no flow control.

    Members
    -------
    acc : In(2 x signed(accumulator_bits)), upper : In(1): the accumulator is ``acc[upper]``
    bias : In(signed(accumulator_bits)), shift : In, index into ``shifts``; per result
    o : Out(code.bits)
    """

    latency = 3

    def __init__(self, code: AusnCode, accumulator_bits: int, shifts: tuple[int, ...]) -> None:
        self.code = code
        self.accumulator_bits = accumulator_bits
        self.shifts = shifts
        self.byte_shift = byte_shift(code)
        super().__init__({
            "acc":   In(data.ArrayLayout(signed(accumulator_bits), 2)),
            "upper": In(1),
            "bias":  In(signed(accumulator_bits)),
            "shift": In(range(max(len(shifts), 2))),
            "o":     Out(code.bits)})

    def elaborate(self, platform: object) -> Elaboratable:
        """Three registers: the biased sum, the bits that its shift chooses, the code."""
        m = Module()
        m.submodules.adder = adder = ChoosingAdder(self.accumulator_bits)
        biased = Signal(signed(self.accumulator_bits), reset_less=True)
        shift = Signal.like(self.shift, reset_less=True)
        m.d.comb += [adder.a.eq(self.bias), adder.b.eq(self.acc[1]), adder.c.eq(self.acc[0]),
                     adder.choose.eq(self.upper)]
        m.d.sync += [biased.eq(adder.o), shift.eq(self.shift)]

        m.submodules.encoder = encoder = ActivationEncoder(self.code)
        width = len(encoder.half)
        m.submodules.window = window = Selector(width, len(self.shifts))
        halves = [biased.shift_right(shift - 1 + self.byte_shift) for shift in self.shifts]
        beyond = [half[width:].any() if len(half) > width else Const(0) for half in halves]
        half   = Signal(width, reset_less=True)
        above, below = Signal(reset_less=True), Signal(reset_less=True)
        m.d.comb += [window.index.eq(shift),
                     *(window.i[k].eq(value) for k, value in enumerate(halves))]
        m.d.sync += [half.eq(window.o), above.eq(Array(beyond)[shift]), below.eq(biased < 0)]

        code = Signal(self.code.bits, reset_less=True)
        m.d.comb += [encoder.half.eq(half), encoder.above.eq(above), encoder.below.eq(below),
                     self.o.eq(code)]
        m.d.sync += code.eq(encoder.o)
        return m
