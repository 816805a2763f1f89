"""Engines for boards: one for every network on SPRAM, the quickest that fits on block RAM."""

from dataclasses import replace

import numpy as np
import pytest

from boards import BOARDS, board
from hw.compiler import compile_program
from hw.fit import (
    DEPTH_STEP,
    ECP5_ARRAYS,
    ICE40_ARRAY,
    LONGEST,
    blocks,
    ecp5_arrays,
    fit_program,
    multiplier_blocks,
)
from ref import Window
from ref.errors import UserError

from .test_compiler import convolution

ECP5_BOARDS = sorted(name for name, found in BOARDS.items() if found.family == "ecp5")


def test_spram_is_as_deep_as_it_is():
    program = fit_program(convolution(), board("icebreaker"))
    assert program.config == ICE40_ARRAY


@pytest.mark.parametrize("name", ECP5_BOARDS)
def test_the_quickest_array_that_fits(name):
    """No array within the budget is quicker; memories are as deep as needed and no deeper."""
    model, found = convolution((8, 60, 60), 8), board(name)
    program = fit_program(model, found)
    config = program.config
    arrays = list(ecp5_arrays(model, found.budget))
    assert program.predicted_cycles == min(compile_program(model, array).predicted_cycles
                                           for array in arrays)
    for depth, used in ((config.tape_depth, len(program.tape)),
                        (config.activation_depth, program.activation_words)):
        assert depth % DEPTH_STEP == 0 and 0 <= depth - used < DEPTH_STEP
    assert replace(config, tape_depth=LONGEST, activation_depth=LONGEST) in arrays
    assert all(multiplier_blocks(array) <= found.budget.multipliers for array in arrays)
    assert {(array.channels, array.pixels) for array in arrays} <= set(ECP5_ARRAYS)


def test_lanes_as_asked():
    model = convolution((8, 60, 60), 8)
    assert fit_program(model, board("icebreaker"), 16).config == ICE40_ARRAY
    for lanes in (16, 64):
        assert fit_program(model, board("ulx3s_85f"), lanes).config.mac_units == lanes


@pytest.mark.parametrize("name, lanes, words", [
    ("icebreaker", 64, "which has 8 multiplier blocks and 5280 lookup tables; there are arrays of "
                       "16 lanes (--lanes)"),
    ("ulx3s_25f", 512, "which has 28 multiplier blocks and "),
    ("ulx3s_85f", 40, "which has 156 multiplier blocks and ")])
def test_lanes_that_do_not_go_with_the_board(name, lanes, words):
    with pytest.raises(UserError) as error:
        fit_program(convolution(), board(name), lanes)
    assert str(error.value).startswith(
        f"there is no array of {lanes} lanes for network small on {name}, {words}")
    assert str(error.value).endswith(" lanes (--lanes)")


def test_larger_devices_are_quicker():
    cycles = [fit_program(convolution((8, 48, 48), 32), board(name)).predicted_cycles
              for name in ECP5_BOARDS]
    assert cycles == sorted(cycles, reverse=True) and cycles[0] > cycles[-1]


@pytest.mark.parametrize("bits, depth, count", [
    (256, 512, 8), (256, 2880, 45), (128, 7683, 60), (64, 6912, 28), (32, 30000, 59), (66, 1, 2)])
def test_blocks_of_a_memory(bits, depth, count):
    """Yosys 0.66 maps them to 8, 44, 60, 28, 60 and 2."""
    assert blocks(bits, depth) == count


@pytest.mark.parametrize("largest, bits", [(7, 4), (8, 8)])
def test_weights_have_four_bits_where_that_is_enough(largest, bits):
    model = convolution()
    layer = model.layers[0]
    weight = np.full_like(layer.weight, -largest)
    model = replace(model, layers=(replace(layer, weight=weight),))
    assert fit_program(model, board("ulx3s_85f")).config.weight_bits == bits
    assert fit_program(model, board("icebreaker")).config.weight_bits == 8


def test_a_slower_layout_that_needs_less_memory():
    """Five channels take eight bytes of memory, or six in strips."""
    model = convolution((5, 128, 96), 8, Window((3, 3), (1, 1), (1, 1, 1, 1)))
    array = replace(ICE40_ARRAY, channels=8, requantizers=8, strips=4, single_port=False)
    quickest, small = (compile_program(model, replace(array, activation_depth=depth))
                       for depth in (LONGEST, 23_000))
    assert (quickest.input.strips, small.input.strips) == (1, 4)
    assert quickest.predicted_cycles < small.predicted_cycles


@pytest.mark.parametrize("name, shape, depthwise, words", [
    ("icebreaker", (4, 100, 100), True, "the feature maps need 80004 bytes"),
    ("icebreaker", (260, 1, 1), False, "the weights need"),
    ("ulx3s_85f", (8, 400, 400), True, "the feature maps need"),
    ("ulx3s_85f", (8, 160, 160), True, "network small needs 144 bytes for weights and 4096"),
    ("ulx3s_25f", (8, 60, 160), True, "network small needs"),
])
def test_network_too_large(name, shape, depthwise, words):
    large = convolution(shape, shape[0], Window((1, 1)), depthwise)
    with pytest.raises(UserError) as error:
        fit_program(large, board(name))
    assert str(error.value).startswith(words)
    assert " smaller " in str(error.value) and " bytes" in str(error.value)
