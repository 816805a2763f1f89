"""Several exact products from one multiplication, in integers: a library of packings.

``(v1 * 2^s + v0) * c = v1 * c * 2^s + v0 * c`` holds two products, three in the same way. Each is
signed and its upper bits are added to the next one: they are taken apart exactly where it is known
what they added. A product that fits ``s`` bits only adds its sign, which is its highest bit there.
A wider one overlaps the lowest ``overlap`` bits of the next product, which follow from as many bits
of its factors; the difference is what was added.

Weights have narrow ranges, so that ``-c`` is a weight if ``c`` is. The array packs activations:
pixels share their weight in every kind of layer, channels share their activation in pointwise ones
only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: Operands of a multiplier block are so wide, on ECP5, Gowin and Nexus.
OPERAND_BITS = 18
#: Most bits in which products may overlap: to know more of a product is to multiply it again.
LARGEST_OVERLAP = 2


@dataclass(frozen=True)
class Packing:
    """``products`` of operands ``step`` bits apart with one that they share.

    They are unsigned activations that share a weight, or with ``packs_weights`` weights that share
    an activation. Functions take integers or numpy arrays of them.
    """

    products: int                # 2 or 3
    activation_bits: int         # 0 .. 2^bits - 1
    weight_bits: int             # -(2^(bits-1) - 1) .. 2^(bits-1) - 1
    step: int
    packs_weights: bool = False

    @property
    def packed_bits(self) -> int:
        """Width of the packed operand: unsigned, or signed if it holds weights."""
        own = self.weight_bits if self.packs_weights else self.activation_bits
        return (self.products - 1) * self.step + own

    @property
    def shared_bits(self) -> int:
        """Width of the other operand: signed, or unsigned if it is an activation."""
        return self.activation_bits if self.packs_weights else self.weight_bits

    @property
    def largest(self) -> int:
        """Largest magnitude of a product."""
        return ((1 << self.activation_bits) - 1) * ((1 << (self.weight_bits - 1)) - 1)

    @property
    def product_bits(self) -> int:
        """Width of a product, signed."""
        return self.largest.bit_length() + 1

    @property
    def overlap(self) -> int:
        """Bits of a product that must be known to take it apart from the one below it."""
        return max(0, self.product_bits - self.step)

    def pack(self, operands: Sequence[Any]) -> Any:
        """The packed operand of so many operands, first one in the lowest bits."""
        return sum(operand << (self.step * place) for place, operand in enumerate(operands))

    def unpack(self, product: Any, operands: Sequence[Any], shared: Any) -> list[Any]:
        """Every operand times ``shared``, from ``product = pack(operands) * shared``.

        Of the factors only the lowest `overlap` bits matter.
        """
        parts, known = [], 1 << self.overlap
        for operand in operands[1:]:
            upper = product >> self.step
            if self.overlap:                                    # -known / 2 <= added < known / 2
                added = (upper - operand * shared + known // 2) % known - known // 2
            else:
                added = -(product >> (self.step - 1) & 1)
            parts.append((added << self.step) + product % (1 << self.step))
            product = upper - added
        return [*parts, product]


#: What the array packs: two pixels, which share a weight.
PIXELS = Packing(products=2, activation_bits=8, weight_bits=4, step=10)


def find_packing(activation_bits: int, weight_bits: int, *, packs_weights: bool = False,
                 operand_bits: int = OPERAND_BITS) -> Packing | None:
    """The packing of most products for these widths, or None where not even two are exact."""
    own = weight_bits if packs_weights else activation_bits
    for products in (3, 2):
        packing = Packing(products, activation_bits, weight_bits,
                          (operand_bits - own) // (products - 1), packs_weights)
        if packing.overlap <= LARGEST_OVERLAP:
            return packing
    return None
