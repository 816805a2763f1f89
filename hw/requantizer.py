"""Accumulator to activation: bias, dyadic scale, rounding, clipping."""

from amaranth.hdl import Array, Const, Elaboratable, Module, Signal, Value, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ref.model import SHIFTS

from .adder import ChoosingAdder
from .multiplier import Multiplier
from .packing import OPERAND_BITS
from .program import STORED_OFFSET
from .selector import Selector

#: Bits of twice a result that is not far outside the bytes: -256 .. 511 and more.
HALF_BITS = 10
#: Cycles from a result's constants to its clipping.
CLIPPED_AFTER = 5


def requantizer_latency(*, pipelined: bool) -> int:
    """Cycles from an accumulator to its result."""
    return CLIPPED_AFTER + 1 + pipelined


def constants_layout(*, clips: bool, leaky: bool) -> data.StructLayout:
    """One output channel's constants, five to eight bytes (`EngineConfig.constant_bytes`).

    ``multiplier_negative`` is there where requantizers are ``leaky``, ``hi``, the upper clip bound
    as stored, where they have ``clips``.
    """
    return data.StructLayout({"bias": signed(24), "multiplier": unsigned(16)}
                             | ({"multiplier_negative": unsigned(16)} if leaky else {})
                             | ({"hi": unsigned(8)} if clips else {}))


class Requantizer(wiring.Component):
    """``o = clip(((acc + bias) * multiplier + 2^(shift-1)) >> shift, lo, hi)`` as stored bytes.

    Where ``acc + bias`` is negative and the requantizer is ``leaky``, the multiplier is
    ``multiplier_negative``. Equal to `ref.ops.requantize` (plus 128 when ``signed_output``) for
    every accumulator whose sum with the bias fits ``accumulator_bits``. One result per cycle,
    `requantizer_latency` cycles later, no flow control. The product is summed from partial products
    of ``multiplier_slice`` multiplier bits: 16 for multiplier blocks, 4 where the multiplier is
    made of lookup tables and must be short to be quick. Without ``clips`` the bounds are those of a
    byte, whatever is given.

    Members
    -------
    acc : In(2 x signed(accumulator_bits)), upper : In(1), per result: the accumulator is
        ``acc[upper]``; the choice costs nothing where the bias is added
    constants : In(constants_layout), per result; where ``pipelined`` a cycle after it
    shift (index into ``shifts``), signed_output, lo (as stored) : In, per layer
    o : Out(unsigned(8))
    """

    def __init__(self, accumulator_bits: int, multiplier_slice: int, *, clips: bool = True,
                 leaky: bool = True, shifts: tuple[int, ...] = SHIFTS,
                 pipelined: bool = False) -> None:
        self.accumulator_bits = accumulator_bits
        self.multiplier_slice = multiplier_slice
        self.clips = clips
        self.leaky = leaky
        self.shifts = shifts
        self.pipelined = pipelined
        super().__init__({
            "acc":           In(data.ArrayLayout(signed(accumulator_bits), 2)),
            "upper":         In(1),
            "constants":     In(constants_layout(clips=clips, leaky=leaky)),
            "shift":         In(2),
            "signed_output": In(1),
            "lo":            In(8),
            "o":             Out(8),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Six registers: biased sum, partial products, product, its part, rounded, clipped.

        Where ``pipelined`` there is one more in front, after the choice of the accumulator.
        """
        m = Module()
        width = self.accumulator_bits

        acc, upper = self.acc, self.upper
        if self.pipelined:
            acc, upper = delay(m, acc, 1), delay(m, upper, 1)
        m.submodules.adder = adder = ChoosingAdder(width)
        multiplier = Signal(16)
        m.d.comb += [
            adder.a.eq(self.constants.bias),
            adder.b.eq(acc[1]),
            adder.c.eq(acc[0]),
            adder.choose.eq(upper),
            multiplier.eq(self.constants.multiplier),
        ]
        if self.leaky:
            with m.If(adder.o < 0):
                m.d.comb += multiplier.eq(self.constants.multiplier_negative)
        product = Signal(signed(width + 16), reset_less=True)
        m.d.sync += product.eq(self.product(m, adder.o, multiplier))

        # Twice the result before rounding. Beyond ten bits only its sign matters: it is clipped.
        halves  = [product.shift_right(shift - 1) for shift in self.shifts]
        m.submodules.scaled = scaled = Selector(HALF_BITS, len(self.shifts))
        m.d.comb += [scaled.index.eq(self.shift),
                     *(scaled.i[k].eq(half) for k, half in enumerate(halves))]
        half    = Signal(signed(HALF_BITS), reset_less=True)
        outside = Signal(reset_less=True)
        sign    = Signal(reset_less=True)
        m.d.sync += [
            half.eq(scaled.o),
            outside.eq(Array(beyond(product, self.shifts))[self.shift]),
            sign.eq(product < 0),
        ]

        stored = Signal(signed(HALF_BITS), reset_less=True)
        below, above = Signal(reset_less=True), Signal(reset_less=True)
        m.submodules.rounding = rounding = ChoosingAdder(HALF_BITS, alternative=False)
        m.d.comb += [
            rounding.a.eq(half >> 1),
            rounding.b.eq(STORED_OFFSET),
            rounding.choose.eq(self.signed_output),
            rounding.carry.eq(half[0]),
        ]
        m.d.sync += [
            stored.eq(rounding.o),
            below.eq(outside & sign),
            above.eq(outside & ~sign),
        ]

        if self.clips:
            lo, hi = self.lo, delay(m, self.constants.hi, CLIPPED_AFTER)
            low, high = self.less(m, stored, lo), self.less(m, hi, stored)
        else:
            lo, hi = Const(0, 8), Const(255, 8)
            low, high = stored[-1], stored[-2]      # negative, or 256 and more
        clipped = Signal(8, reset_less=True)
        with m.If(below | ~above & low):
            m.d.sync += clipped.eq(lo)
        with m.Elif(above | high):
            m.d.sync += clipped.eq(hi)
        with m.Else():
            m.d.sync += clipped.eq(stored)
        m.d.comb += self.o.eq(clipped)
        return m

    def product(self, m: Module, biased: Value, multiplier: Value) -> Value:
        """The product, two cycles later; a sum where it is made of partial products."""
        width, step = self.accumulator_bits, self.multiplier_slice
        if step == 16 and width <= OPERAND_BITS:
            m.submodules.scaling = scaling = Multiplier(signed(width), unsigned(16))
            m.d.comb += [scaling.a.eq(biased), scaling.b.eq(multiplier)]
            return scaling.o
        biased, multiplier = delay(m, biased, 1), delay(m, multiplier, 1)
        partials = [delay(m, biased * multiplier[start:start + step], 1).shift_left(start)
                    for start in range(0, 16, step)]
        return adder_tree(partials)

    def less(self, m: Module, value: Value, limit: Value) -> Value:
        """``value < limit``, of a byte and a stored number, by the sign of their difference."""
        difference = ChoosingAdder(HALF_BITS, alternative=False)
        m.submodules += difference
        subtracted = Signal.like(difference.b)
        m.d.comb += [subtracted.eq(limit), difference.a.eq(value), difference.b.eq(~subtracted),
                     difference.choose.eq(1), difference.carry.eq(1)]
        return difference.o < 0


def beyond(product: Signal, shifts: tuple[int, ...]) -> list[Value]:
    """For each shift, whether bits above the chosen ones differ from the sign."""
    differing = []
    above, end = Const(0, 1), len(product)
    for shift in reversed(shifts):
        first = min(shift - 1 + HALF_BITS - 1, end)
        sign = product[-1].replicate(end - first)
        above = above | (product[first:end] ^ sign).any()
        differing.append(above)
        end = first
    return differing[::-1]


def adder_tree(terms: list) -> object:
    """Sum of ``terms`` (Amaranth values) in a balanced tree."""
    while len(terms) > 1:
        terms = [sum(terms[k + 1:k + 2], terms[k]) for k in range(0, len(terms), 2)]
    return terms[0]


def delay(m: Module, value: Value, cycles: int) -> Value:
    """``value`` as it was ``cycles`` cycles ago, through registers without reset."""
    for stage in range(cycles):
        later = Signal(value.shape(), name=f"delayed{stage}", reset_less=True)
        m.d.sync += later.eq(value)
        value = later
    return value
