"""Accumulator to activation: bias, dyadic scale, rounding, clipping."""

from amaranth.hdl import Array, Elaboratable, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ref.model import SHIFTS

from .program import STORED_OFFSET


def constants_layout() -> data.StructLayout:
    """One output channel's constants, eight bytes; ``hi`` is the upper clip bound as stored."""
    return data.StructLayout({"bias": signed(24), "multiplier": unsigned(16),
                              "multiplier_negative": unsigned(16), "hi": unsigned(8)})


class Requantizer(wiring.Component):
    """``o = clip(((acc + bias) * multiplier + 2^(shift-1)) >> shift, lo, hi)`` as stored bytes.

    Where ``acc + bias`` is negative, the multiplier is ``multiplier_negative``.
    Equal to `ref.ops.requantize` (plus 128 when ``signed_output``) for every accumulator whose sum
    with the bias fits ``accumulator_bits``. One result per cycle, :attr:`latency` cycles later, no
    flow control. The product is summed from partial products of ``multiplier_slice`` multiplier
    bits: 16 for multiplier blocks, 4 where the multiplier is made of lookup tables and must be
    short to be quick.

    Members
    -------
    acc : In(signed(accumulator_bits)), constants : In(constants_layout), both per result
    shift (index into `ref.model.SHIFTS`), signed_output, lo (as stored) : In, per layer
    o : Out(unsigned(8))
    """

    latency = 5

    def __init__(self, accumulator_bits: int, multiplier_slice: int) -> None:
        self.accumulator_bits = accumulator_bits
        self.multiplier_slice = multiplier_slice
        super().__init__({
            "acc":           In(signed(accumulator_bits)),
            "constants":     In(constants_layout()),
            "shift":         In(2),
            "signed_output": In(1),
            "lo":            In(8),
            "o":             Out(8),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Five registers: biased sum, partial products, product, shifted value, clipped byte."""
        m = Module()
        width, step = self.accumulator_bits, self.multiplier_slice

        total      = Signal(signed(width))
        biased     = Signal(signed(width), reset_less=True)
        multiplier = Signal(16, reset_less=True)
        m.d.comb += total.eq(self.acc + self.constants.bias)
        m.d.sync += [biased.eq(total),
                     multiplier.eq(Mux(total < 0, self.constants.multiplier_negative,
                                       self.constants.multiplier))]

        partials = []
        for start in range(0, 16, step):
            partial = Signal(signed(width + step), name=f"partial{start}", reset_less=True)
            m.d.sync += partial.eq(biased * multiplier[start:start + step])
            partials.append(partial.shift_left(start))

        product = Signal(signed(width + 16), reset_less=True)
        m.d.sync += product.eq(adder_tree(partials))

        halves = Array([product.shift_right(shift - 1) for shift in SHIFTS])[self.shift]
        half = Signal(signed(width + 17 - min(SHIFTS)), reset_less=True)   # twice the result
        m.d.sync += half.eq(halves)

        stored = Signal(signed(len(half) + 1))
        hi = delay(m, self.constants.hi, self.latency - 1)
        m.d.comb += stored.eq(((half + 1) >> 1) + Mux(self.signed_output, STORED_OFFSET, 0))
        with m.If(stored < self.lo):
            m.d.sync += self.o.eq(self.lo)
        with m.Elif(stored > hi):
            m.d.sync += self.o.eq(hi)
        with m.Else():
            m.d.sync += self.o.eq(stored)
        return m


def adder_tree(terms: list) -> object:
    """Sum of ``terms`` (Amaranth values) in a balanced tree."""
    while len(terms) > 1:
        terms = [sum(terms[k + 1:k + 2], terms[k]) for k in range(0, len(terms), 2)]
    return terms[0]


def delay(m: Module, value: Signal, cycles: int) -> Signal:
    """``value`` as it was ``cycles`` cycles ago, through registers without reset."""
    for stage in range(cycles):
        later = Signal.like(value, name=f"delayed{stage}", reset_less=True)
        m.d.sync += later.eq(value)
        value = later
    return value
