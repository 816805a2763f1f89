"""Engine parameters: refused when they do not go together; the digest tells engines apart."""

import json
from dataclasses import asdict, replace

import pytest

from hw.config import EngineConfig
from hw.fit import ICE40_CODES
from ref.errors import UserError

GOOD = EngineConfig(channels=4, pixels=4, requantizers=1, tape_depth=16384,
                    activation_depth=16384, single_port=True)
MIXED = replace(GOOD, weight_bits=4, pipelined=True, mixed=True)


@pytest.mark.parametrize("change, sentence", [
    ({"channels": 3}, "channels must be 2, 4, 8, 16 or 32, not 3"),
    ({"channels": 64}, "channels must be 2, 4, 8, 16 or 32, not 64"),
    ({"pixels": 0}, "pixels must be 1 to 16, not 0"),
    ({"pixels": 17}, "pixels must be 1 to 16, not 17"),
    ({"table_pixels": 5}, "table_pixels must be 0 to 4 (pixels), not 5"),
    ({"requantizers": 0}, "requantizers must be channels (4) over 1, 2, 4 or 8, not 0"),
    ({"requantizers": 3}, "requantizers must be channels (4) over 1, 2, 4 or 8, not 3"),
    ({"channels": 16, "requantizers": 1},
     "requantizers must be channels (16) over 1, 2, 4 or 8, not 1"),
    ({"tape_depth": 0}, "tape_depth must be 1 to 65536 words, not 0"),
    ({"activation_depth": 65537}, "activation_depth must be 1 to 65536 words, not 65537"),
    ({"multiplier_slice": 5}, "multiplier_slice must be 4, 8 or 16, not 5"),
    ({"bias_bits": 1}, "bias_bits must be 0 to 0, not 1"),
    ({"shifts": (20, 16)}, "shifts must be 16 and some of 20, 24, 28, not (20, 16)"),
    ({"shifts": (20,)}, "shifts must be 16 and some of 20, 24, 28, not (20,)"),
    ({"weight_bits": 2}, "weight_bits must be 3 to 8, not 2"),
    ({"weight_bits": 9}, "weight_bits must be 3 to 8, not 9"),
    ({"weight_bits": 5}, "weight_bits must be such that the 4 channels' weights are whole bytes, "
                         "not 5"),
    ({"accumulator_bits": 25}, "accumulator_bits must be 16 to 24, not 25"),
    ({"accumulator_bits": 15}, "accumulator_bits must be 16 to 24, not 15"),
])
def test_refused(change, sentence):
    with pytest.raises(UserError) as error:
        replace(GOOD, **change)
    assert str(error.value) == sentence


@pytest.mark.parametrize("change, sentence", [
    ({"channels": 4}, "an engine of codes has 8 channels, 4 requantizers, weights of 4 bits, sums "
                      "of 16 and no strips"),
    ({"accumulator_bits": 18}, "an engine of codes has 8 channels, 4 requantizers, weights of 4 "
                               "bits, sums of 16 and no strips"),
    ({"leaky": True}, "an engine of codes has no pipelined lanes, products of lookup tables, max "
                      "pooling, leaky ReLU or clip bounds"),
    ({"shifts": (8, 7)}, "an engine of codes has up to 8 shifts, from 1 to 19 and growing, not "
                         "(8, 7)"),
    ({"shifts": ()}, "an engine of codes has up to 8 shifts, from 1 to 19 and growing, not ()"),
    ({"shifts": (7, 20)}, "an engine of codes has up to 8 shifts, from 1 to 19 and growing, not "
                          "(7, 20)"),
])
def test_refused_of_codes(change, sentence):
    with pytest.raises(UserError) as error:
        replace(ICE40_CODES, **change)
    assert str(error.value) == sentence


@pytest.mark.parametrize("change", [
    {"weight_bits": 8}, {"pipelined": False}, {"strips": 4, "channels": 4}])
def test_refused_of_both_kinds(change):
    with pytest.raises(UserError) as error:
        replace(MIXED, **change)
    assert str(error.value) == ("an engine of lanes of both kinds, on bytes, is pipelined, has "
                                "weights of 4 bits and an even number of channels in each strip of "
                                "a word")


def test_derived():
    assert (GOOD.mac_units, GOOD.drain_cycles) == (16, 16)
    assert replace(GOOD, channels=8, requantizers=4).drain_cycles == 8
    assert (GOOD.tape_bytes, GOOD.largest_weight, GOOD.constant_words) == (4, 127, 8)
    narrow = replace(GOOD, weight_bits=4)
    assert (narrow.tape_bytes, narrow.largest_weight, narrow.constant_words) == (2, 7, 16)
    assert (GOOD.word_bytes, GOOD.block_channels) == (4, 4)
    assert (ICE40_CODES.word_bytes, ICE40_CODES.block_channels) == (4, 4)
    assert (MIXED.word_bytes, MIXED.block_channels, MIXED.tape_bytes) == (4, 2, 2)
    assert (ICE40_CODES.mac_units, ICE40_CODES.constant_bytes, ICE40_CODES.constant_words) == (
        32, 3, 6)


def test_digest():
    changes = [{}, {"channels": 8}, {"pixels": 3}, {"requantizers": 2}, {"tape_depth": 8},
               {"activation_depth": 8}, {"single_port": False}, {"accumulator_bits": 20},
               {"multiplier_slice": 4}, {"weight_bits": 4}]
    digests = {replace(GOOD, **change).digest() for change in changes}
    assert len(digests) == len(changes) and all(0 <= digest < 1 << 32 for digest in digests)
    assert GOOD.digest() == replace(GOOD, table_pixels=2).digest() == 0xEC2A452B
    assert MIXED.digest() != replace(MIXED, mixed=False).digest()
    assert ICE40_CODES.digest() not in (*digests, replace(ICE40_CODES, shifts=(7, 8)).digest())


def test_from_json():
    assert EngineConfig(**json.loads(json.dumps(asdict(GOOD)))) == GOOD
