"""Named arithmetics: how a sum becomes a result, ours and those of published integer networks.

A model's integers mean what `SHIFTWISE` says. The others let the reference run networks that other
teams published with weights, multipliers and feature maps of their own, and so be held to numbers
that nobody here made.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Arithmetic:
    """``y = clip((f(acc + bias) * multiplier + c) >> shift, lo, hi)`` with this ``f`` and ``c``.

    ``f`` saturates at ``saturation_bits`` (two's complement; None: never), then, if it
    ``rectifies``, makes negative sums 0 where ``lo`` is 0 (a difference only to channels with a
    negative multiplier). ``c`` is ``2^(shift-1)``, or 0 if it ``truncates``.
    Saturation acts on the whole sum, not on partial ones: no result depends on their order.
    """

    saturation_bits: int | None = None
    rectifies: bool = False
    truncates: bool = False

    def rounding_constant(self, shift: int) -> int:
        """What is added before the arithmetic shift by ``shift`` >= 1."""
        return 0 if self.truncates else 1 << (shift - 1)


#: The project's own: proved accumulators, one rounding, half up.
SHIFTWISE = Arithmetic()
#: By name: besides ours, the two integer SkyNets of the DAC system design contest by SkrSkr
#: (github.com/jiangwx/SkrSkr): 6-bit weights of 2020 (shift 17), 5-bit weights of 2021 (shift 16).
ARITHMETICS = {"shiftwise": SHIFTWISE,
               "skynet-2020": Arithmetic(saturation_bits=19, rectifies=True, truncates=True),
               "skynet-2021": Arithmetic(truncates=True)}
