"""A lane without multiplier: a byte times a weight of four bits, as two shifted terms added up."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from ref.ausn import AusnCode

from .adder import ChoosingAdder

#: Bits of a weight's code.
WEIGHT_BITS = 4
#: What a weight asks of its lanes. ``invert``: the activation, since the weight is negative.
#: ``no_first``, ``no_second``: there is no such term; ``first_high``, ``second_high``: it is the
#: larger of its multiples; ``minus``: the first one has the other sign. ``lacks``, ``carry``: the
#: first, the second term is negative.
CHOICE = data.StructLayout(dict.fromkeys((
    "invert", "no_first", "first_high", "minus", "lacks", "no_second", "second_high", "carry"), 1))


@dataclass(frozen=True)
class Terms:
    """How lanes make the weights of each code: a multiple of the activation and another one.

    ``sums`` are by magnitude the two multiples, 0: no term; only the first may be negative. Either
    term has two multiples. ``codes`` are the weights of the codes 0 .. 15.
    """

    sums: dict[int, tuple[int, int]]
    codes: tuple[int, ...]

    @cached_property
    def multiples(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Those of either term, growing."""
        first, second = (tuple(sorted({abs(one) for one in ones} - {0}))
                         for ones in zip(*self.sums.values(), strict=True))
        return first, second

    @property
    def product_bits(self) -> int:
        """Bits of a product, its sign included."""
        return (max(self.sums) * 255).bit_length() + 1

    def choice(self, code: Value) -> Value:
        """What lanes do for a weight's code, as `CHOICE`, within the cycle."""
        firsts, seconds = self.multiples
        found: dict[str, list[int]] = {name: [] for name in CHOICE.members}
        for number, weight in enumerate(self.codes):
            first, second = self.sums[abs(weight)]
            negative = weight < 0
            for name, holds in (
                    ("invert", negative), ("no_first", first == 0),
                    ("first_high", abs(first) == firsts[-1]), ("minus", first < 0),
                    ("no_second", second == 0), ("second_high", second == seconds[-1]),
                    ("lacks", first and negative != (first < 0)), ("carry", negative and second)):
                if holds:
                    found[name].append(number)
        return Cat(code.matches(*found[name]) for name in CHOICE.members)


#: AUSN weights: levels 0, 1, 2, 3, 4, 6, 8 and 12 with a sign.
AUSN = AusnCode(2, 1)
AUSN_TERMS = Terms(
    {0: (0, 0), 1: (1, 0), 2: (0, 2), 3: (1, 2), 4: (4, 0), 6: (4, 2), 8: (0, 8), 12: (4, 8)},
    tuple(AUSN.decode(np.arange(1 << WEIGHT_BITS)).tolist()))
#: Linear weights: -7 to 7, two's complement. -8, which is none, is taken for 0.
LINEAR_TERMS = Terms(
    {0: (0, 0), 1: (1, 0), 2: (2, 0), 3: (-1, 4), 4: (0, 4), 5: (1, 4), 6: (2, 4), 7: (-1, 8)},
    (*range(8), 0, *range(-7, 0)))


class TermProduct(wiring.Component):
    """``o = x * weight - choices[3].lacks``, one product a cycle, :attr:`latency` cycles later.

    Choices come with all their delays, which the lanes of a channel share: number k has been
    delayed by k cycles, the last one is for whoever adds the product, and 1 where it lacks 1, as a
    carry. A negative weight's activation is inverted, one unit of its last place less than
    negated; for the second term the adder's carry makes up for that. A term that is zero is a
    reset of its register. So on ECP5 the inversion is in the table that chooses the activation, a
    bit of the first term takes one table, one of the sum another, and the choice of the second
    term none.

    Members
    -------
    x : In(8), choices : In(3 x CHOICE), o : Out(signed(terms.product_bits))
    """

    latency = 3

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        super().__init__({"x": In(8), "choices": In(data.ArrayLayout(CHOICE, self.latency)),
                          "o": Out(signed(terms.product_bits))})

    def elaborate(self, platform: object) -> Elaboratable:
        """Three registers: the activation or its inverse, the terms, their sum."""
        m = Module()
        now, then, last = self.choices
        (one, other), (low, high) = ([exact_log2(multiple) for multiple in multiples]
                                     for multiples in self.terms.multiples)
        x = Signal(8, reset_less=True)
        m.d.sync += x.eq(self.x ^ now.invert.replicate(8))

        first, second = Signal(8 + other, reset_less=True), Signal(8, reset_less=True)
        sign = then.invert
        small = Cat(sign.replicate(one), x, sign.replicate(other - one))
        large = Cat(sign.replicate(other), x)
        chosen = Mux(then.first_high, large, small) ^ then.minus.replicate(len(first))
        m.d.sync += [first.eq(Mux(then.no_first, 0, chosen)),
                     second.eq(Mux(then.no_second, 0, x))]

        width = len(self.o) - low                # the second term has no bits below
        m.submodules.adder = adder = ChoosingAdder(width)
        m.d.comb += [
            adder.a.eq(Cat(first, last.lacks)[low:].as_signed()),
            adder.b.eq(Cat(last.carry.replicate(high - low), second, last.carry).as_signed()),
            adder.c.eq(Cat(second, last.carry).as_signed()),
            adder.choose.eq(last.second_high),
            adder.carry.eq(last.carry),
        ]
        product = Signal.like(self.o, reset_less=True)
        m.d.sync += product.eq(Cat(first[:low], adder.o))
        m.d.comb += self.o.eq(product)
        return m
