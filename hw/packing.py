"""Two exact products from one multiplication: a pair of pixels against one weight, in integers.

``(x1 * 2^10 + x0) * w = x1 * w * 2^10 + x0 * w`` holds both products, but ``x0 * w`` needs twelve
bits and its upper two overlap the lower two of ``x1 * w``. Those two bits of ``x1 * w`` follow from
two bits of each of its factors, so the overlap is taken apart exactly. The functions take integers
or numpy arrays of them; `hw.multiplier.PackedPair` does the same in hardware.
"""

from typing import Any

#: Place of the second pixel in the packed operand: 10 + 8 bits fill an 18-bit multiplier.
SECOND = 10
#: Largest magnitude of a weight: ``255 * 7`` is below ``2 * 2^10``, so the overlap is two bits.
LARGEST_WEIGHT = 7


def pack(x0: Any, x1: Any) -> Any:
    """The 18-bit operand that holds the activations ``x0`` and ``x1``, each 0..255."""
    return x1 << SECOND | x0


def unpack(product: Any, x1: Any, w: Any) -> tuple[Any, Any]:
    """``(x0 * w, x1 * w)`` from ``product = pack(x0, x1) * w`` with ``w`` in -7..7."""
    upper = product >> SECOND                       # x1 * w + floor(x0 * w / 2^10)
    floor = ((upper - x1 * w % 4 + 2) % 4) - 2      # x0 * w / 2^10 is at least -2 and below 2
    return (floor << SECOND) + product % (1 << SECOND), upper - floor
