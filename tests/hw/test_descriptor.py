"""The layer descriptor: bits where the hardware looks for them; what does not fit is refused."""

import random

import pytest

from hw.descriptor import (
    DESCRIPTOR_BITS,
    FIELDS,
    DescriptorLayout,
    descriptor_words,
    pack_descriptor,
)


@pytest.mark.parametrize("channels", [2, 4, 8, 16, 32])
def test_round_trip(channels):
    """Positive counts come back as they are, negative steps modulo their width."""
    rng = random.Random(channels)
    for _ in range(50):
        values = {name: rng.choice([0, (1 << bits) - 1, 1 - (1 << bits),
                                    rng.randrange(1 - (1 << bits), 1 << bits)])
                  for name, (bits, _) in FIELDS.items()}
        words = pack_descriptor(values, channels)
        assert len(words) == descriptor_words(channels)
        assert all(len(word) == channels for word in words)
        packed = int.from_bytes(b"".join(map(bytes, words)), "little")
        assert packed < 1 << DESCRIPTOR_BITS
        got = DescriptorLayout().from_bits(packed)
        assert {name: got[name] for name in FIELDS} == {
            name: value % (1 << FIELDS[name][0]) for name, value in values.items()}


@pytest.mark.parametrize("name", FIELDS)
def test_overflow(name):
    zeros = dict.fromkeys(FIELDS, 0)
    for value in (1 << FIELDS[name][0], -(1 << FIELDS[name][0])):
        with pytest.raises(OverflowError) as error:
            pack_descriptor(zeros | {name: value}, 4)
        assert str(error.value) == name


def test_every_field_is_needed():
    zeros = dict.fromkeys(FIELDS, 0)
    with pytest.raises(KeyError, match="tile_lost"):
        pack_descriptor(zeros | {"tile_lost": 1}, 4)
    del zeros["lo"]
    with pytest.raises(KeyError, match="lo"):
        pack_descriptor(zeros, 4)
