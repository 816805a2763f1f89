"""Packed products: every packing of the library with every operand, in integers."""

from itertools import product as pairs

import numpy as np
import pytest

from hw.packing import LARGEST_OVERLAP, OPERAND_BITS, PIXELS, Packing, find_packing

WIDTHS = [(activation, weight) for activation in range(1, 9) for weight in range(2, 9)]


def every_operand(packing: Packing) -> tuple[list[np.ndarray], np.ndarray]:
    """All packed operands and shared ones, as arrays that broadcast to every combination."""
    largest = (1 << (packing.weight_bits - 1)) - 1
    activations = np.arange(1 << packing.activation_bits)
    weights = np.arange(-largest, largest + 1)
    packed, shared = (weights, activations) if packing.packs_weights else (activations, weights)
    *operands, shared = np.ix_(*[packed] * packing.products, shared)
    return operands, shared


def exact(packing: Packing) -> bool:
    """Whether the packing fits the multiplier and gives every product of every operand."""
    operands, shared = every_operand(packing)
    packed = packing.pack(operands)
    low = -(1 << (OPERAND_BITS - 1)) if packing.packs_weights else 0
    assert low <= packed.min() and packed.max() < low + (1 << OPERAND_BITS)
    known = (1 << packing.overlap) - 1                      # the only bits that may be looked at
    got = packing.unpack(packed * shared, [operand & known for operand in operands],
                         shared & known)
    return all(np.array_equal(part, np.broadcast_to(operand * shared, part.shape))
               for part, operand in zip(got, operands, strict=True))


@pytest.mark.parametrize("packs_weights", [False, True])
@pytest.mark.parametrize("activation_bits, weight_bits", WIDTHS)
def test_every_operand(activation_bits, weight_bits, packs_weights):
    packing = find_packing(activation_bits, weight_bits, packs_weights=packs_weights)
    if packing is not None:
        assert packing.overlap <= LARGEST_OVERLAP and packing.packed_bits <= OPERAND_BITS
        assert exact(packing)


def table(packs_weights):
    """Products for weights of 2 to 8 bits (columns) and activations of 8 to 1 bits (rows)."""
    found = {widths: find_packing(*widths, packs_weights=packs_weights) for widths in WIDTHS}
    return [" ".join(str(found[a, w].products if found[a, w] else 1) for w in range(2, 9))
            for a in range(8, 0, -1)]


def test_most_products():
    """One row per width of the activations, 8 bits first; one column per width of the weights."""
    assert table(False) == [
        "2 2 2 1 1 1 1",
        "2 2 2 2 2 1 1",
        "3 2 2 2 2 2 2",
        "3 3 2 2 2 2 2",
        "3 3 3 3 2 2 2",
        "3 3 3 3 3 2 2",
        "3 3 3 3 3 3 3",
        "3 3 3 3 3 3 3"]
    assert table(True) == [
        "3 2 2 2 2 1 1",
        "3 2 2 2 2 1 1",
        "3 3 2 2 2 2 1",
        "3 3 3 2 2 2 1",
        "3 3 3 2 2 2 2",
        "3 3 3 3 2 2 2",
        "3 3 3 3 3 2 2",
        "3 3 3 3 3 3 2"]


def test_the_widths_that_boards_use():
    assert find_packing(8, 4) == PIXELS == Packing(2, 8, 4, step=10)
    assert find_packing(4, 4) == Packing(3, 4, 4, step=7)
    assert find_packing(8, 5, packs_weights=True) == Packing(2, 8, 5, 13, packs_weights=True)
    assert find_packing(8, 5) is None


@pytest.mark.parametrize("packing, overlap", [(Packing(2, 8, 4, 10), 2), (Packing(3, 4, 4, 7), 1)])
def test_fewer_known_bits_are_not_enough(packing, overlap):
    class Ignorant(Packing):
        overlap = packing.overlap - 1

    assert packing.overlap == overlap
    assert exact(packing)
    assert not exact(Ignorant(packing.products, packing.activation_bits, packing.weight_bits,
                              packing.step))


def test_a_larger_weight_does_not_fit():
    """-9 times 255 is below what two overlapping bits can tell; -8, which no weight is, fits."""
    packing = find_packing(8, 4)
    first, _ = packing.unpack(packing.pack([255, 0]) * -9, [255, 0], -9)
    assert first != 255 * -9
    assert all(packing.unpack(packing.pack([a, b]) * -8, [a, b], -8) == [a * -8, b * -8]
               for a, b in pairs((0, 1, 127, 254, 255), repeat=2))
