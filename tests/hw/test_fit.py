"""Engines for boards: one for every network on SPRAM, the quickest that fits on block RAM."""

from dataclasses import replace

import numpy as np
import pytest

from boards import BOARDS, board
from hw.compiler import compile_program
from hw.fit import (
    AUSN_LUTS,
    COMMON_LANES,
    DEPTH_STEP,
    ECP5_ARRAYS,
    ICE40_ARRAY,
    LONGEST,
    PRODUCT_LUTS,
    ecp5_arrays,
    fit_program,
    luts,
    multiplier_blocks,
)
from hw.silent import without_large_constants
from quant import quantize
from ref import Conv2d, Window, accumulator_proof
from ref.errors import UserError
from ref.run import run_layers

from ..quant.networks import depthwise_network, image_data
from ..ref.random_models import random_model
from .test_compiler import convolution

ECP5_BOARDS = sorted(name for name, found in BOARDS.items() if found.family == "ecp5")


def test_spram_is_as_deep_as_it_is():
    program = fit_program(convolution(), board("icebreaker"))
    assert program.config == ICE40_ARRAY


@pytest.mark.parametrize("name", ECP5_BOARDS)
def test_the_smallest_array_that_is_about_as_quick_as_any(name):
    """No common array within the budget is an eighth quicker, and no smaller one as quick."""
    model, found = convolution((8, 40, 40), 8), board(name)
    program = fit_program(model, found)
    config = program.config
    arrays = [array for array in ecp5_arrays(model, found.budget)
              if array.mac_units <= COMMON_LANES]
    cycles = [(array.mac_units, compile_program(model, array).predicted_cycles) for array in arrays]
    limit = 1.125 * min(count for _, count in cycles)
    assert program.predicted_cycles <= limit
    assert all(count > limit for units, count in cycles if units < config.mac_units)
    for depth, used in ((config.tape_depth, len(program.tape)),
                        (config.activation_depth, program.activation_words)):
        assert used <= depth and (depth - used < DEPTH_STEP or depth & (depth - 1) == 0)
    assert replace(config, tape_depth=LONGEST, activation_depth=LONGEST) in arrays
    assert all(multiplier_blocks(array) <= found.budget.multipliers for array in arrays)
    assert {(array.channels, array.pixels) for array in arrays} <= set(ECP5_ARRAYS)


def test_lanes_as_asked():
    model = convolution((8, 60, 60), 8)
    assert fit_program(model, board("icebreaker"), 16).config == ICE40_ARRAY
    for lanes in (16, 64, 128):
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


def with_weights(value, inputs=6):
    """One convolution whose weights are all ``value``, with its proof."""
    model = convolution((inputs, 5, 7))
    weight = np.full_like(model.layers[0].weight, value)
    layer = replace(model.layers[0], weight=weight, proof=accumulator_proof(
        weight, np.zeros(6, np.int64), np.zeros(inputs, np.int64), np.full(inputs, 255), None, 1))
    return replace(model, layers=(layer,))


@pytest.mark.parametrize("value, inputs, weight_bits, bits", [
    (2, 6, 3, 16), (7, 6, 4, 16), (-7, 6, 3, 16), (8, 18, 5, 18), (7, 90, 4, 20), (31, 15, 6, 18),
    (127, 80, 8, 24)])
def test_numbers_are_as_wide_as_needed(value, inputs, weight_bits, bits):
    """Weights that are all negative make every result 0, and so need not be there."""
    model = with_weights(value, inputs)
    config = fit_program(model, board("ulx3s_85f")).config
    assert (config.weight_bits, config.accumulator_bits) == (weight_bits, bits)
    assert fit_program(model, board("icebreaker")).config == ICE40_ARRAY


def test_a_large_bias_widens_only_the_sum_with_it():
    model = with_weights(7)
    layer = model.layers[0]
    rule = replace(layer.requantization, bias=np.full(6, 1 << 16))
    proof = accumulator_proof(layer.weight, rule.bias, np.zeros(6, np.int64), np.full(6, 255), None,
                              1)
    model = replace(model, layers=(replace(layer, requantization=rule, proof=proof),))
    config = fit_program(model, board("ulx3s_85f")).config
    assert (config.accumulator_bits, config.biased_bits) == (16, 18)


def test_max_pooling_is_built_in_where_a_network_has_it():
    model = random_model(np.random.default_rng(0), layers=1, kinds=("maximum",), size=6,
                         fully_connected=False)
    assert fit_program(model, board("ulx3s_85f")).config.maximum
    assert not fit_program(convolution(), board("ulx3s_85f")).config.maximum


def test_only_a_networks_own_shifts_are_built_in():
    model = convolution()
    layer = model.layers[0]
    assert fit_program(model, board("ulx3s_85f")).config.shifts == (16,)
    rule = replace(layer.requantization, shift=24)
    model = replace(model, layers=(replace(layer, requantization=rule),))
    assert fit_program(model, board("ulx3s_85f")).config.shifts == (16, 24)


@pytest.mark.parametrize("signed, lo, hi, needed", [
    (False, 0, 255, False), (True, -128, 127, False), (False, 0, 254, True), (True, 0, 127, True)])
def test_clip_bounds_are_built_in_where_a_network_has_them(signed, lo, hi, needed):
    model = convolution()
    layer = model.layers[0]
    rule = replace(layer.requantization, lo=np.full(6, lo), hi=np.full(6, hi))
    output = replace(model.tensors["output"], signed=signed)
    model = replace(model, layers=(replace(layer, requantization=rule),),
                    tensors={**model.tensors, "output": output})
    assert fit_program(model, board("ulx3s_85f")).config.clips == needed


def test_multiplier_blocks():
    """Two pixels share one where weights have four bits; wide sums take two in a requantizer."""
    config = replace(ICE40_ARRAY, channels=8, pixels=5, requantizers=4)
    assert multiplier_blocks(config) == 40 + 8
    assert multiplier_blocks(replace(config, weight_bits=4)) == 24 + 8
    assert multiplier_blocks(replace(config, accumulator_bits=18)) == 40 + 4
    assert multiplier_blocks(replace(config, table_pixels=2)) == 24 + 8
    assert multiplier_blocks(replace(config, weight_bits=4, table_pixels=2)) == 16 + 8


@pytest.mark.parametrize("value, channels, pixels, tables", [(7, 16, 4, 2), (64, 16, 4, 3)])
def test_lookup_tables_where_multiplier_blocks_run_out(value, channels, pixels, tables):
    """Of 64 lanes an ECP5-25F's 28 blocks make half, or a quarter, beside the requantizers."""
    budget = board("ulx3s_25f").budget
    array = next(array for array in ecp5_arrays(with_weights(value), budget)
                 if (array.channels, array.pixels) == (channels, pixels))
    assert array.table_pixels == tables and multiplier_blocks(array) <= budget.multipliers
    fewer = replace(array, table_pixels=tables - 1)
    assert multiplier_blocks(fewer) > budget.multipliers
    assert luts(array) == 4000 + 64 * 100 + channels * tables * (19 if value < 8 else 104)
    larger = board("ulx3s_85f").budget
    assert not any(array.table_pixels for array in ecp5_arrays(with_weights(value), larger)
                   if array.mac_units <= 64)


def test_lanes_of_both_kinds(tmp_path):
    """Half of the lanes take no blocks, so more of the others do."""
    model = quantize(depthwise_network(tmp_path, channels=16), image_data(), "mixed4a8")
    budget = board("ulx3s_25f").budget
    arrays = {(array.channels, array.pixels): array for array in ecp5_arrays(model, budget)}
    assert all(array.mixed and array.weight_bits == 4 for array in arrays.values())
    wide, common = arrays[16, 8], arrays[16, 4]
    assert (wide.requantizers, wide.table_pixels, multiplier_blocks(wide)) == (8, 4, 16 + 8)
    assert (common.requantizers, common.table_pixels, multiplier_blocks(common)) == (8, 0, 16 + 8)
    assert luts(wide) == 4000 + 128 * 100 + 8 * 8 * AUSN_LUTS + 8 * 4 * PRODUCT_LUTS[4]
    plain = replace(model, layers=tuple(
        replace(layer, weight_code=None, coded=None, weight_bits=5)
        if isinstance(layer, Conv2d) else layer for layer in model.layers))
    assert not any(array.mixed for array in ecp5_arrays(plain, budget))


@pytest.mark.parametrize("value", [0, 1])
def test_constant_channels_do_not_widen_sums(value):
    """One weight of 1 changes sums by up to 255, but not the result."""
    model = with_weights(7)
    layer = model.layers[0]
    bias, weight = layer.requantization.bias.copy(), layer.weight.copy()
    bias[2], weight[2], weight[2, 0] = 7281 * 200, 0, value               # times 9 / 2^16 is 200
    proof = accumulator_proof(weight, bias, np.zeros(6, np.int64), np.full(6, 255), None, 1)
    assert proof.bits == 22
    rule = replace(layer.requantization, bias=bias)
    model = replace(model, layers=(replace(layer, weight=weight, proof=proof,
                                           requantization=rule),))
    small = without_large_constants(model)
    assert small.layers[0].proof.bits == 15
    x = np.random.default_rng(0).integers(0, 256, (1, *model.sample_shape), np.uint8)
    expected, got = (run_layers(each, x)["output"] for each in (model, small))
    assert np.array_equal(expected, got) and np.all(got[0, 2] == 200)
    assert fit_program(model, board("ulx3s_85f")).config.accumulator_bits == 16


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
    ("ulx3s_85f", (8, 162, 160), True, "network small needs 120 bytes for weights and 4147"),
    ("ulx3s_25f", (8, 60, 160), True, "network small needs"),
])
def test_network_too_large(name, shape, depthwise, words):
    large = convolution(shape, shape[0], Window((1, 1)), depthwise)
    with pytest.raises(UserError) as error:
        fit_program(large, board(name))
    assert str(error.value).startswith(words)
    assert " smaller " in str(error.value) and " bytes" in str(error.value)
