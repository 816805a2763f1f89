"""Packed products: every pair of activations with every weight, in integers."""

import numpy as np

from hw.packing import LARGEST_WEIGHT, pack, unpack


def test_every_operand():
    x0, x1 = np.meshgrid(np.arange(256), np.arange(256))
    for w in range(-LARGEST_WEIGHT, LARGEST_WEIGHT + 1):
        product = pack(x0, x1) * w
        assert np.all(np.abs(product) < 1 << 21) and np.all(pack(x0, x1) < 1 << 18)
        low, high = unpack(product, x1 & 3, w & 3)
        assert np.array_equal(low, x0 * w) and np.array_equal(high, x1 * w)


def test_a_larger_weight_does_not_fit():
    low, _ = unpack(pack(255, 0) * (-LARGEST_WEIGHT - 2), 0, 3)
    assert low != 255 * (-LARGEST_WEIGHT - 2)
