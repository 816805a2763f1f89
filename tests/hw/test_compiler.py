"""The compiler: limits in a sentence, memory shared only in turn, tensors packed and unpacked."""

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest

from hw.compiler import (
    ROW_LIMIT,
    compile_program,
    constant_words,
    group_words,
    layer_shape,
)
from hw.config import EngineConfig
from hw.lowering import lower
from hw.program import Placement
from hw.schedule import layer_cycles
from ref import Conv2d, Input, Model, Requantization, Tensor, Window, accumulator_proof
from ref.errors import UserError

from ..ref.random_models import random_model
from .engines import CONFIGS, runnable

CONFIG = CONFIGS["c4p3"]


def convolution(shape=(6, 5, 7), outputs=6, window=None, depthwise=False, signed=False):
    """A model of one convolution with small random weights."""
    rng = np.random.default_rng(1)
    window = Window((1, 1)) if window is None else window
    inputs = shape[0]
    source = Tensor("input", shape, 8, signed, np.array(1.0))
    target = Tensor("output", (outputs, *window.output_size(*shape[1:])), 8, False, np.array(1.0))
    groups = inputs if depthwise else 1
    weight = rng.integers(-9, 10, (outputs, inputs // groups, *window.kernel)).astype(np.int8)
    rule = Requantization(np.zeros(outputs, np.int64), np.full(outputs, 9), 16,
                          np.zeros(outputs, np.int64), np.full(outputs, 251))
    bounds = (np.full(inputs, source.lo), np.full(inputs, source.hi))
    layer = Conv2d("conv", ("input",), "output", weight, 8, window, groups,
                   np.zeros(inputs, np.int64), rule,
                   accumulator_proof(weight, rule.bias, *bounds, None, groups))
    return Model("small", Input("input", "int8" if signed else "uint8", 1, 0, np.array(1.0),
                                np.array(0.0), source.shape),
                 {"input": source, "output": target}, (layer,))


def with_layer(model, **changes):
    """The model with its layer changed."""
    return replace(model, layers=(replace(model.layers[0], **changes),))


def sentence(model, config=CONFIG):
    with pytest.raises(UserError) as error:
        compile_program(model, config)
    return str(error.value)


def test_tape_too_short():
    model = convolution()
    words = len(compile_program(model, CONFIG).tape)
    compile_program(model, replace(CONFIG, tape_depth=words))
    assert sentence(model, replace(CONFIG, tape_depth=words - 2)) == (
        f"the weights need {4 * words} bytes and the board has {4 * words - 8}: "
        "8 bytes too many; use a smaller network or a larger board")


def test_maps_too_large():
    model = convolution()
    words = compile_program(model, CONFIG).activation_words
    assert words == 1 + 2 * 35 + 2 * 35
    compile_program(model, replace(CONFIG, activation_depth=words))
    assert sentence(model, replace(CONFIG, activation_depth=words - 1)) == (
        f"the feature maps need {4 * words} bytes and the board has {4 * words - 4}: "
        "4 bytes too many; use a smaller input or a larger board")


def test_accumulator_too_wide():
    model = convolution()
    proof = replace(model.layers[0].proof, bits=25)
    compile_program(with_layer(model, proof=replace(proof, bits=24)), CONFIG)
    assert sentence(with_layer(model, proof=proof)) == (
        "layer conv needs an accumulator of 25 bits and the engine has 24; "
        "use fewer weight bits (--preset)")


def test_padding_that_differs():
    """Within one word every channel has its own padding; beyond it all that is used is the same."""
    def padded(channels, values, window):
        return with_layer(convolution((channels, 3, 3), 4, window=window), pad_value=values)

    wide, pads = np.array([1, 2, 3, 4, 1, 3]), Window((3, 3), pads=(1, 1, 1, 1))
    compile_program(padded(4, wide[:4], pads), CONFIG)
    compile_program(padded(5, wide[:5], pads), CONFIG)         # what comes again is used twice
    compile_program(padded(6, wide * 0 + 7, pads), CONFIG)
    compile_program(padded(6, wide, Window((3, 3))), CONFIG)
    assert sentence(padded(6, wide, pads)) == (
        "layer conv: padding differs between channels beyond the first 4; "
        "give the input one zero point")


def test_lower_bounds_that_differ():
    model = convolution()
    rule = replace(model.layers[0].requantization, lo=np.array([0, 0, 0, 1, 0, 0]))
    assert sentence(with_layer(model, requantization=rule)) == (
        "layer conv: the lower clip bound must be the same for all channels")


@pytest.mark.parametrize("extent, window", [
    (4095, Window((1, 3), (1, 2), (0, 0, 0, 2))), (4094, Window((1, 5), (1, 4), (0, 0, 0, 4)))])
def test_rows_longer_than_coordinates(extent, window):
    """Padding at one end must not be taken for the map's other end."""
    config = replace(CONFIG, activation_depth=1 << 16)
    padded = extent + window.pads[3]
    for turned in (False, True):
        kernel, stride, pads = window.kernel, window.stride, window.pads
        if turned:
            kernel, stride, pads = kernel[::-1], stride[::-1], (0, 0, pads[3], 0)
        shape = (4, extent, 1) if turned else (4, 1, extent)
        model = convolution(shape, 4, Window(kernel, stride, pads), depthwise=True)
        assert sentence(model, config) == (
            f"layer conv: its map with padding is {padded} pixels long and the engine can count "
            "4096; the layer is too large for it")


def test_kernel_larger_than_its_counters():
    model = convolution((4, 300, 1), 4, Window((300, 1)), depthwise=True)
    assert sentence(model) == (
        f"layer conv: the windows of {CONFIG.pixels} pixels reach over 300 rows and 1 columns and "
        "the engine can hold 256 of each; use a smaller kernel or stride")


@pytest.mark.parametrize("seed", range(20))
def test_quicker_layout_is_chosen(seed):
    rng = np.random.default_rng(seed)
    model = runnable(random_model(rng, kinds=("depthwise", "dense"), layers=2), CONFIG)
    program = compile_program(model, CONFIG)
    steps = lower(model, CONFIG).steps
    totals = []
    for candidate in (steps, [step.transposed() for step in steps]):
        shapes = [layer_shape(step.flattened(ROW_LIMIT), CONFIG) for step in candidate]
        totals.append(sum(layer_cycles(shape, CONFIG, previous) for shape, previous
                          in zip(shapes, [None, *shapes[:-1]], strict=True)))
    assert sum(layer.predicted_cycles for layer in program.layers) == min(totals)
    if totals[0] != totals[1]:
        assert program.input.transposed == (totals[1] < totals[0])


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 3, 2), (5, 2, 7), (9, 4, 1)])
def test_packing(shape, signed, transposed):
    place = Placement("x", 3, shape, signed, 4, transposed)
    values = np.random.default_rng(0).integers(-128, 128, shape) + (0 if signed else 128)
    words = place.pack(values)
    assert words.shape == (place.words, 4) and words.dtype == np.uint8
    assert np.array_equal(place.unpack(words), values)
    channels, height, width = shape
    for c in range(channels):
        for y in range(height):
            for x in range(width):
                pixel = x * height + y if transposed else y * width + x
                word = words[pixel * -(-channels // 4) + c // 4]
                assert word[c % 4] == values[c, y, x] + (128 if signed else 0)
    assert words.astype(int).sum() == (values + (128 if signed else 0)).sum(), "spare bytes"


def test_tape_of_a_dense_layer():
    """Constants, then weights by input group, kernel row, column, channel."""
    config = EngineConfig(channels=2, pixels=1, requantizers=1, tape_depth=512,
                          activation_depth=512, single_port=False)
    model = convolution((3, 4, 4), 3, Window((2, 3), (1, 2)), signed=True)
    weight = model.layers[0].weight.astype(int)
    words = list(group_words(lower(model, config).steps[0], config))
    per_group = config.constant_words + weight[0].size
    assert len(words) == 2 * per_group
    for group in range(2):
        constants = np.array(words[group * per_group:][:8], np.uint8).reshape(2, 8)
        for lane in range(2):
            output = 2 * group + lane
            bias, multiplier, hi = 0, 0, 0                    # of the lane that is to spare
            if output < 3:
                bias, multiplier, hi = -128 * weight[output].sum(), 9, 251
            text = constants[lane].tobytes()
            assert int.from_bytes(text[:3], "little", signed=True) == bias
            assert int.from_bytes(text[3:5], "little") == multiplier
            assert int.from_bytes(text[5:7], "little") == multiplier
            assert text[7] == hi
        expected = [[weight[2 * group + lane, i, ky, kx] & 255 if 2 * group + lane < 3 else 0
                     for lane in range(2)]
                    for first in (0, 2) for ky in range(2) for kx in range(3)
                    for i in range(first, min(first + 2, 3))]
        assert words[group * per_group + 8:][:weight[0].size] == expected


def test_weights_of_four_bits_share_bytes():
    """The same words with two weights to a byte, each constant word cut in two."""
    wide = EngineConfig(channels=4, pixels=1, requantizers=1, tape_depth=512,
                        activation_depth=512, single_port=False)
    narrow = replace(wide, weight_bits=4)
    model = convolution((3, 4, 4), 6, Window((2, 3)))
    model = with_layer(model, weight=model.layers[0].weight.clip(-7, 7))
    words, halves = (list(group_words(lower(model, config).steps[0], config))
                     for config in (wide, narrow))
    size = model.layers[0].weight[0].size
    for group in range(2):
        expected = words[group * (8 + size):][:8 + size]
        got = halves[group * (16 + size):][:16 + size]
        assert list(chain(*expected[:8])) == list(chain(*got[:16]))
        for (a, b, c, d), pair in zip(expected[8:], got[16:], strict=True):
            assert pair == [a & 15 | (b & 15) << 4, c & 15 | (d & 15) << 4]
    program = compile_program(model, narrow)
    assert program.tape.shape == (len(program.tape), 4) and not program.tape[:, 2:].any()
    assert program.tape_size == 2 * len(program.tape)


def test_words_of_constants_have_an_equal_part_for_each_channel_read_together():
    config = replace(CONFIG, channels=4, requantizers=4, weight_bits=4, leaky=False, clips=False)
    constants = np.arange(1, 21, dtype=np.uint8).reshape(4, 5) * 11
    words = constant_words(constants, config)
    assert len(words) == config.constant_words == 10
    for number, word in enumerate(words):            # nibble `number` of each channel
        nibbles = [channel[number // 2] >> 4 * (number % 2) & 15 for channel in constants]
        assert word == [nibbles[0] | nibbles[1] << 4, nibbles[2] | nibbles[3] << 4]
    alone = replace(config, requantizers=1, weight_bits=8)
    assert constant_words(constants, alone) == [
        row for channel in constants.tolist() for row in (channel[:4], [channel[4], 0, 0, 0])]
