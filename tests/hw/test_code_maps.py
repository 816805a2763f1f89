"""Maps of an engine of codes: places of channels, and words of codes and of bytes."""

import numpy as np
import pytest

from hw.ausn.code_product import ACTIVATIONS
from hw.code_maps import HALF, LEVELS, PLACES, ByteMap, CodeMap, order_of


def test_levels_are_the_codes_bytes():
    assert LEVELS.tolist() == sorted(set(ACTIVATIONS.bytes.tolist()))


@pytest.mark.parametrize("seed", range(20))
def test_channels_come_to_lanes_that_can_make_them(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    multiplied, shifted = rng.random((2, count)) < rng.random()
    multiplied |= ~shifted
    order = np.array(order_of(multiplied, shifted)).reshape(-1, 2, HALF)
    lower, upper = (order[:, half][order[:, half] >= 0] for half in range(2))
    assert sorted([*lower, *upper]) == list(range(count))
    assert multiplied[lower].all() and shifted[upper].all()
    least = max(-(-count // PLACES), -(-int((~shifted).sum()) // HALF),
                -(-int((~multiplied).sum()) // HALF))
    assert len(order) == least


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("channels", [1, 4, 11])
def test_words_of_codes(channels, transposed):
    rng = np.random.default_rng(channels)
    values = rng.choice(LEVELS, (channels, 3, 5))
    shifted = np.arange(channels) % 2 == 0
    order = order_of(~shifted, shifted)
    placement = CodeMap(values.shape, False, order=order).placed("t", 7, PLACES, transposed, 1)
    words = placement.pack(values)
    assert words.shape == (placement.words, PLACES // 2) and placement.address == 7
    assert np.array_equal(placement.unpack(words), values)
    codes = np.stack([words & 15, words >> 4], -1).reshape(-1, PLACES)[:placement.groups].ravel()
    expected = [0 if channel < 0 else ACTIVATIONS.levels.tolist().index(values[channel, 0, 0] // 8)
                for channel in order]
    assert codes.tolist() == expected


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("channels", [1, 4, 11])
def test_words_of_bytes(channels, alone, signed):
    rng = np.random.default_rng(channels)
    values = rng.integers(-128, 128, (channels, 4, 3)) + 128 * (not signed)
    placement = ByteMap(values.shape, signed, alone=alone).placed("t", 0, PLACES, True, 1)
    words = placement.pack(values)
    assert words.shape == (placement.words, PLACES // 2)
    assert placement.groups == (channels if alone else -(-channels // HALF))
    assert np.array_equal(placement.unpack(words), values)
    stored = int(values[0, 0, 0]) + 128 * signed
    halves = [words[0] & 15, words[0] >> 4]
    assert (int(halves[0][0]), int(halves[0][HALF // 2])) == (stored & 15, stored >> 4)
