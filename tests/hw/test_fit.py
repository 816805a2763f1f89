"""Engines for boards: one for every network on SPRAM, as deep as needed on block RAM."""

from dataclasses import replace

import numpy as np
import pytest

from boards import BOARDS, board
from hw.fit import ARRAYS, BLOCK_WORDS, fit_program
from ref import Window
from ref.errors import UserError

from .test_compiler import convolution


def test_every_board_has_an_array():
    assert {found.family for found in BOARDS.values()} <= ARRAYS.keys()


def test_spram_is_as_deep_as_it_is():
    program = fit_program(convolution(), board("icebreaker"))
    assert program.config == ARRAYS["ice40"]


def test_block_ram_is_as_deep_as_needed():
    """Whole blocks, no more than needed, and the program otherwise the same."""
    program = fit_program(convolution((8, 60, 60), 8), board("ulx3s_85f"))
    config = program.config
    for depth, used in ((config.tape_depth, len(program.tape)),
                        (config.activation_depth, program.activation_words)):
        assert depth % BLOCK_WORDS == 0 and 0 <= depth - used < BLOCK_WORDS
    assert replace(config, tape_depth=1 << 16, activation_depth=1 << 16) == ARRAYS["ecp5"]


@pytest.mark.parametrize("largest, bits", [(7, 4), (8, 8)])
def test_weights_have_four_bits_where_that_is_enough(largest, bits):
    model = convolution()
    layer = model.layers[0]
    weight = np.full_like(layer.weight, -largest)
    model = replace(model, layers=(replace(layer, weight=weight),))
    assert fit_program(model, board("ulx3s_85f")).config.weight_bits == bits
    assert fit_program(model, board("icebreaker")).config.weight_bits == 8


@pytest.mark.parametrize("name, shape, depthwise, words", [
    ("icebreaker", (4, 100, 100), True, "the feature maps need 80004 bytes"),
    ("icebreaker", (260, 1, 1), False, "the weights need"),
    ("ulx3s_85f", (8, 200, 200), True, "the feature maps need"),
    ("ulx3s_85f", (8, 160, 145), True, "network small needs 192"),
])
def test_network_too_large(name, shape, depthwise, words):
    large = convolution(shape, shape[0], Window((1, 1)), depthwise)
    with pytest.raises(UserError) as error:
        fit_program(large, board(name))
    assert str(error.value).startswith(words)
    assert " bytes too many; use a smaller " in str(error.value)
