"""AUSN: a code whose value is one shifted operand plus gated smaller ones, and no multiplication.

Source: "AUSN: Approximately Uniform Quantization by Adaptively Superimposing Non-uniform
Distribution for Deep Neural Networks", arXiv 2007.03903. A magnitude has an exponent field E and a
superposition field A of s bits, and the product of an operand x with it is

    E = 0:  x * A                               E > 0:  x * (2^s + A) << (E - 1)

The code needs no decoder: E drives the choices of the shifters, whose first input is 0 for the
main term and the unshifted operand for the superposed ones, and every bit of A gates one of these.

In the level sets known of the paper's authors the first exponent stands for a power of two like
the others, and the code of all zeros is taken out of the sequence to be zero, which leaves a gap
of ``2^s + 1`` of the smallest steps around zero. That the field E = 0 removes the main term
instead is ours: zero is what the sum gives, levels below ``2^(s + 1)`` are uniform, and the error
is smaller on every distribution tried (tests/ref/test_ausn.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

#: Bits the exponent field may have. With 1 the levels are the linear ones, a case of the code for
#: which nothing is shifted; with 4 they would need up to 2^14 of their smallest step.
EXPONENT_BITS = (1, 2, 3)
#: Bits a magnitude may have.
MAGNITUDE_BITS = 7


@dataclass(frozen=True)
class AusnCode:
    """How the bits of a magnitude are split; the code of a magnitude is ``E * 2^s + A``.

    Raises `ValueError` for a split that does not exist.
    """

    exponent: int                           # bits of E, one of EXPONENT_BITS
    superposition: int                      # s, bits of A: as many terms beside the main one

    def __post_init__(self) -> None:
        """Refuse splits outside the limits above."""
        if self.exponent not in EXPONENT_BITS or not (
                0 <= self.superposition <= MAGNITUDE_BITS - self.exponent):
            raise ValueError(f"no AUSN code has {self.exponent} exponent and {self.superposition} "
                             "superposition bits")

    @property
    def bits(self) -> int:
        """Bits of a magnitude; a weight has one more, its sign."""
        return self.exponent + self.superposition

    @cached_property
    def levels(self) -> np.ndarray:
        """The magnitude of each code, int64 (2^bits,): 0 first and growing."""
        field, gates = np.divmod(np.arange(1 << self.bits), 1 << self.superposition)
        main = np.where(field > 0, 1 << self.superposition, 0)
        return (main + gates) << np.maximum(field - 1, 0)

    @property
    def largest(self) -> int:
        """The largest magnitude."""
        return int(self.levels[-1])

    @property
    def dtype(self) -> np.dtype:
        """The narrowest integer type of signed levels, int8 or int16."""
        return np.dtype(np.int8 if self.largest <= np.iinfo(np.int8).max else np.int16)

    @cached_property
    def _nearest(self) -> np.ndarray:
        """The level nearest to 0, 1/2, 1, 3/2 and so on up to the largest, float64.

        Borders between levels are among these numbers, so what lies between two has the level of
        the lower one.
        """
        middles = (self.levels[1:] + self.levels[:-1]) / 2
        halves = np.arange(2 * self.largest + 1) / 2
        return self.levels[np.searchsorted(middles, halves, side="right")].astype(np.float64)

    def nearest(self, values: np.ndarray) -> np.ndarray:
        """The level nearest to each real value, with its sign: float64 of the same shape.

        Half-way between two levels the larger magnitude is taken; beyond the largest, that one.
        """
        halves = np.minimum(2 * np.abs(values), 2 * self.largest).astype(np.int64)
        return np.copysign(self._nearest[halves], values) + 0.0

    @cached_property
    def bytes(self) -> np.ndarray:
        """The nearest level to 0, 1/2, 1, 3/2 .. 255, int64 (511,), where levels are bytes.

        They are `levels` times the largest power of two with which they are bytes. Half-way the
        larger is taken, beyond the largest that one. What lies between two of the arguments has
        the level of the lower one, since all borders are among them. Raises `ValueError` when
        the levels themselves are no bytes.
        """
        shift = 8 - self.largest.bit_length()
        if shift < 0:
            raise ValueError(f"the levels of {self} reach {self.largest} and are no bytes")
        return self.nearest(np.arange(511) / (2 << shift)).astype(np.int64) << shift

    def encode(self, integers: np.ndarray) -> np.ndarray:
        """Sign (highest bit), E and A of integers that are levels, uint8 of the same shape.

        Zero has sign 0. Raises `ValueError` when an integer is no level.
        """
        magnitudes = np.abs(integers.astype(np.int64))
        codes = np.minimum(np.searchsorted(self.levels, magnitudes), len(self.levels) - 1)
        if not np.array_equal(self.levels[codes], magnitudes):
            raise ValueError(f"an integer is no level of {self}")
        return (((integers < 0) << self.bits) | codes).astype(np.uint8)

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """The integers that codes of `encode` stand for, int64 of the same shape."""
        negative, magnitudes = np.divmod(codes.astype(np.int64), 1 << self.bits)
        return np.where(negative == 1, -1, 1) * self.levels[magnitudes]
