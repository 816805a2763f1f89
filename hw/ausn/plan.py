"""Which multiples of an activation a lane adds up for each weight code: AUSN, and radix-4 Booth.

A lane has no multiplier. It adds a few *terms*, each of which is one of some multiples of the
activation, perhaps inverted, or zero. Odd multiples are made once per activation and choices once
per weight, so that only choosing and adding is left to the lanes, whose number is the product.

Inverting is negating but for one unit of the term's last place: ``~v = -v - 1``. A lane adds no
such units. What its product then lacks depends on the code alone (`Plan.lacks`), not on the
activation: whoever makes the bias adds it there, and nothing is approximate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import NamedTuple

import numpy as np

from ref.ausn import AusnCode

#: Bits of an activation, unsigned.
ACTIVATION_BITS = 8


class Digit(NamedTuple):
    """What a term is for one code: its multiple of that ``number``, or zero; perhaps inverted."""

    number: int | None
    inverted: bool


@dataclass(frozen=True)
class Term:
    """The multiples that a term chooses from, each positive, whether it inverts or can be zero."""

    multiples: tuple[int, ...]
    inverts: bool
    zero: bool = True

    @property
    def constant(self) -> bool:
        """Whether it is never zero nor inverted: an ECP5 adder chooses between two by itself."""
        return not self.inverts and not self.zero

    @property
    def gated(self) -> bool:
        """Whether a gate for each multiple makes it, with zero where all are shut."""
        return not self.inverts and self.zero

    @property
    def low(self) -> int:
        """The lowest bit that any multiple has: those below are zero, inverted or not."""
        return min(multiple & -multiple for multiple in self.multiples).bit_length() - 1

    @property
    def high(self) -> int:
        """One more than the highest bit of any multiple; what is above is the inversion's."""
        return (max(self.multiples) * ((1 << ACTIVATION_BITS) - 1)).bit_length()

    @property
    def digits(self) -> list[Digit]:
        """All that the term can be, zero and what is not inverted first."""
        zero = [Digit(None, False)] if self.zero else []
        return zero + [Digit(index, inverted) for inverted in (False, True)[:1 + self.inverts]
                       for index in range(len(self.multiples))]

    @property
    def index_bits(self) -> int:
        """Bits of `index`."""
        count = len(self.multiples)
        return count if self.gated else (count - 1).bit_length()

    def index(self, digit: Digit) -> int:
        """The choice among the multiples: a number, or one gate open, or none."""
        if self.gated:
            return 0 if digit.number is None else 1 << digit.number
        return digit.number or 0

    def factor(self, digit: Digit) -> int:
        """What the activation is multiplied by."""
        size = 0 if digit.number is None else self.multiples[digit.number]
        return -size if digit.inverted else size

    def lacks(self, digit: Digit) -> int:
        """By how much the term is less than that product."""
        return digit.inverted << self.low


@dataclass(frozen=True)
class Choice:
    """What a lane does for one code: a digit of each term, and whether the sum is inverted."""

    digits: tuple[Digit, ...]
    inverted: bool


@dataclass(frozen=True)
class Plan:
    """A lane's terms, and the choice for each of the codes ``0 .. 2^code_bits - 1``.

    ``windows`` says which bits of the code decide a term's digit, as (first, one past the last);
    bits below 0 are zero.
    """

    code_bits: int
    terms: tuple[Term, ...]
    choices: tuple[Choice, ...]
    windows: tuple[tuple[int, int], ...]

    @cached_property
    def weights(self) -> tuple[int, ...]:
        """The integer that each code multiplies by."""
        totals = [sum(map(Term.factor, self.terms, one.digits)) for one in self.choices]
        return tuple(-total if one.inverted else total
                     for total, one in zip(totals, self.choices, strict=True))

    @cached_property
    def lacks(self) -> tuple[int, ...]:
        """What each code's product, ``weight * activation - lacks``, is short of."""
        found = []
        for one in self.choices:
            short = sum(map(Term.lacks, self.terms, one.digits))
            found.append(1 - short if one.inverted else short)
        return tuple(found)

    @property
    def chooses(self) -> bool:
        """Whether adders choose a term, and leave the inversion of the sum to the next addition."""
        return any(term.constant for term in self.terms)

    @cached_property
    def product_bits(self) -> int:
        """Bits of a product, signed, before and after it is inverted."""
        largest = (1 << ACTIVATION_BITS) - 1
        ends = [weight * x - lacks for weight, lacks in zip(self.weights, self.lacks, strict=True)
                for x in (0, largest)]
        return max((end if end >= 0 else ~end).bit_length() for end in ends) + 1

    @cached_property
    def odd_multiples(self) -> tuple[int, ...]:
        """The odd parts, above 1, of all multiples: what is made once per activation."""
        return tuple(sorted({multiple // (multiple & -multiple) for term in self.terms
                             for multiple in term.multiples} - {1}))


def two_term_plan(codes: tuple[int, ...], terms: tuple[Term, Term]) -> Plan:
    """The plan in which two terms make each of ``codes``' integers, the sum inverted as needed.

    Raises `ValueError` naming an integer that they cannot make.
    """
    made: dict[int, Choice] = {}
    for inverted in (False, True):
        for digits in product(*(term.digits for term in terms)):
            total = sum(map(Term.factor, terms, digits))
            made.setdefault(-total if inverted else total, Choice(digits, inverted))
    for weight in codes:
        if weight not in made:
            raise ValueError(f"the terms {terms} do not make {weight}")
    bits = (len(codes) - 1).bit_length()
    return Plan(bits, terms, tuple(made[weight] for weight in codes), ((0, bits),) * 2)


#: Terms that make the levels of AUSN weights of up to so many bits, with two exponent bits; for
#: adders of two plain operands, and for ECP5's, which choose one operand themselves and invert it
#: in the next addition. Found by trying all pairs of terms with multiples up to 32 and counting
#: their lookup tables.
PLAIN_TERMS = {4: (Term((1, 4), inverts=False), Term((2, 8), inverts=False)),
               5: (Term((1, 10, 20), inverts=False), Term((4, 8), inverts=True))}
ECP5_TERMS = {4: (Term((1, 6), inverts=True), Term((2, 6), inverts=False, zero=False)),
              5: (Term((1, 6, 8, 22), inverts=True, zero=False),
                  Term((2, 6), inverts=False, zero=False))}


def ausn_plan(codes: tuple[AusnCode, ...], family: str | None) -> Plan:
    """How lanes on an FPGA family multiply by AUSN weights.

    ``codes`` are the splits between which the highest bits of the plan's code choose at run time;
    below them stands the weight's code as `AusnCode.encode` gives it, each in as many bits as the
    longest has. What is no code is 0. Two terms make the levels of all splits of up to five bits
    with one or two exponent bits, but of 1 + 3; with any others lanes take digits (`digits_plan`).
    """
    bits = max(code.bits for code in codes) + 1
    weights: list[int] = []
    for code in codes:
        mine = code.decode(np.arange(2 << code.bits)).tolist()
        weights += mine + [0] * ((1 << bits) - len(mine))
    weights += [0] * ((1 << (len(weights) - 1).bit_length()) - len(weights))
    magnitudes = set(map(abs, weights))
    for size, terms in (ECP5_TERMS if family == "ecp5" else PLAIN_TERMS).items():
        if magnitudes <= set(AusnCode(2, size - 3).levels.tolist()):
            return two_term_plan(tuple(weights), terms)
    return digits_plan(tuple(weights))


def digits_plan(weights: tuple[int, ...]) -> Plan:
    """How lanes multiply by the integers of any codes, digit by digit as in `booth_plan`."""
    integers = booth_plan(max(map(abs, weights)).bit_length() + 1)
    choices = tuple(integers.choices[weight & (1 << integers.code_bits) - 1] for weight in weights)
    bits = (len(weights) - 1).bit_length()
    return Plan(bits, integers.terms, choices, ((0, bits),) * len(integers.terms))


def booth_plan(bits: int) -> Plan:
    """How lanes multiply by linear weights of ``bits`` bits, two's complement, in radix 4.

    Digit k is 0, 1, 2, -1 or -2 times 4^k and depends on three bits of the weight. Source: A. D.
    Booth, "A signed binary multiplication technique", 1951, as modified by O. L. MacSorley,
    "High-speed arithmetic in binary computers", 1961.
    """
    count = -(-bits // 2)
    terms = tuple(Term((1 << 2 * k, 2 << 2 * k), inverts=True) for k in range(count))
    choices = []
    for code in range(1 << bits):
        weight = code - ((code >> bits - 1) << bits)
        digits = []
        for k in range(count):
            three = (weight << 1) >> 2 * k & 7
            value = (three & 1) + (three >> 1 & 1) - 2 * (three >> 2)
            digits.append(Digit(abs(value) - 1 if value else None, value < 0))
        choices.append(Choice(tuple(digits), inverted=False))
    return Plan(bits, terms, tuple(choices), tuple((2 * k - 1, 2 * k + 2) for k in range(count)))
