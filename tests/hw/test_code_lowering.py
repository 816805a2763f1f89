"""Networks in codes as steps: which engine they get, what is refused, by name."""

from dataclasses import replace

import numpy as np
import pytest

from boards import board
from hw.code_lowering import channel_shifts, fitted_shifts, in_codes, lane_orders, lower_codes
from hw.compiler import layer_shape
from hw.fit import ICE40_ARRAY, ICE40_CODES, fit_program
from ref import AusnCode, AveragePool2d, Conv2d, MaxPool2d, Window
from ref.errors import UserError

from .code_networks import CONFIG, random_code_network
from .test_compiler import convolution

#: What to do.
PRESETS = r"choose another preset \(--preset w8a8 or w4a8\)"
AGAIN = r"quantize it with the preset mixed4, or another one \(--preset w8a8 or w4a8\)"
#: What is wrong.
NOT_THERE = f"the engine of AUSN activations has not; {PRESETS}"
ENDS = ("the engine of AUSN activations begins and ends with two convolutions that are not "
        rf"depthwise \(or fully connected layers\); {PRESETS}")


def network(kinds=(), layers=4):
    """A random network with layers of these kinds between the first and the last."""
    for seed in range(1000):
        model = random_code_network(np.random.default_rng(seed), layers=layers)
        inner = model.layers[1:-1]
        if all(any(isinstance(layer, kind) for layer in inner) for kind in kinds):
            return model
    raise AssertionError(f"no network with {kinds} was drawn")


def changed(model, index, **changes):
    """The network with another layer ``index``."""
    layers = list(model.layers)
    layers[index] = replace(layers[index], **changes)
    return replace(model, layers=tuple(layers))


def with_rule(model, index, **changes):
    """The network with another requantization in layer ``index``."""
    return changed(model, index, requantization=replace(model.layers[index].requantization,
                                                        **changes))


def test_boards_take_the_engine_that_a_network_asks_for():
    model = network()
    program = fit_program(model, board("icebreaker"))
    assert in_codes(model) and program.config == replace(ICE40_CODES, shifts=fitted_shifts(model))
    assert fit_program(convolution(), board("icebreaker")).config == ICE40_ARRAY
    with pytest.raises(UserError, match="layer t0: the engine does not round results to AUSN "
                       "levels; build for iCEBreaker, which has one that does "
                       rf"\(--board icebreaker\), or {PRESETS}"):
        fit_program(model, board("ulx3s_85f"))


def test_a_class_without_weights():
    """Its scale is a power of two and has to stay one."""
    model = network()
    last = model.layers[-1]
    weight, bias = last.weight.copy(), last.requantization.bias.copy()
    weight[0], bias[0] = 0, 1
    model = with_rule(changed(model, len(model.layers) - 1, weight=weight),
                      len(model.layers) - 1, bias=bias)
    shifts = fit_program(model, board("icebreaker")).config.shifts
    assert shifts == fitted_shifts(model)


def test_depthwise_layers_and_pools_keep_their_channels_places():
    for seed in range(30):
        model = random_code_network(np.random.default_rng(seed), layers=6)
        orders = lane_orders(model)
        for layer in model.layers[1:-1]:
            if isinstance(layer, AveragePool2d) or layer.depthwise:
                assert orders[layer.output] == orders[layer.inputs[0]]


def test_each_layer_is_one_step():
    model = network()
    steps = lower_codes(model, CONFIG).steps
    assert [step.name for step in steps] == [layer.name for layer in model.layers]
    assert [step.byte_input for step in steps] == [True, False, False, False]
    assert [step.byte_result for step in steps] == [False, False, False, True]


def test_rows_of_patches_have_two_words():
    """The walk over the map looks a word ahead."""
    single = np.zeros((8, 3, 1, 1), np.int64)
    step = replace(lower_codes(network(), CONFIG).steps[1], shape=(3, 1, 1), result=(8, 1, 1),
                   window=Window((1, 1)), weight=single, depthwise=False)
    assert layer_shape(step, CONFIG).patch_columns == 2
    assert layer_shape(step, ICE40_ARRAY).patch_columns == 1


@pytest.mark.parametrize("index, changes, sentence", [
    (1, {"code": None}, " has a linear result, and the engine of AUSN activations needs AUSN "
     "levels of all layers but the last; use the preset mixed4 for all layers, or another one "
     r"\(--preset w8a8 or w4a8\)"),
    (1, {"code": AusnCode(3, 2)}, " has a result in AUSN levels of 5 bits, 3 of the exponent, and "
     "the engine has those of 4, 2 of the exponent; use the preset mixed4"),
    (3, {"code": AusnCode(2, 2)}, ", the last, has a result in AUSN levels, and the engine of AUSN "
     "activations ends in bytes; use the preset mixed4"),
    (1, {"hi": 100}, f" has clip bounds, which {NOT_THERE}"),
    (3, {"hi": 100}, f" has clip bounds, which {NOT_THERE}"),
    (2, {"multiplier_negative": 1}, f" has a leaky ReLU, which {NOT_THERE}"),
    (0, {"multiplier": 3}, " has multipliers that are no powers of two, and the engine of AUSN "
     "activations only shifts; use the preset mixed4"),
    (0, {"multiplier": 1}, " scales sums by shifts of 22 to 22 and the engine of AUSN activations "
     f"has those of 1 to 19; {AGAIN}"),
])
def test_rules_that_the_engine_has_not(index, changes, sentence):
    model = network()
    outputs = len(model.layers[index].requantization.bias)
    changes = {name: value if name == "code" else np.full(outputs, value)
               for name, value in changes.items()}
    with pytest.raises(UserError, match=f"layer t{index}{sentence}$"):
        fit_program(with_rule(model, index, **changes), board("icebreaker"))


def with_tensor(model, index, **changes):
    """The network with another result of layer ``index``."""
    name = model.layers[index].output
    return replace(model, tensors=model.tensors | {name: replace(model.tensors[name], **changes)})


def test_layers_without_relu():
    model = with_tensor(with_rule(network(), 1, code=None), 1, signed=True)
    with pytest.raises(UserError, match="layer t1 has no ReLU behind it, which the engine of AUSN "
                       f"activations needs behind all layers but the last; {PRESETS}$"):
        fit_program(model, board("icebreaker"))


def test_wide_results():
    """A map as result; the engine of bytes says the same."""
    with pytest.raises(UserError, match=r"layer t3: the engine does not write results of 16 bits; "
                                        r"end the network in a vector of class scores$"):
        fit_program(with_tensor(network(), 3, bits=16, signed=True), board("icebreaker"))


@pytest.mark.parametrize("first", [True, False])
def test_weights_that_no_lane_has(first):
    model = network((Conv2d,))
    index = 0 if first else next(k for k, layer in enumerate(model.layers[1:-1], 1)
                                 if isinstance(layer, Conv2d))
    weight = model.layers[index].weight.copy()
    weight[-1, 0, 0, 0] = 9
    with pytest.raises(UserError, match=f"layer t{index} has weights in channel {len(weight) - 1} "
                                        "that are neither up to 7 nor AUSN levels of 4 bits"):
        lower_codes(changed(model, index, weight=weight), CONFIG)


def test_other_layers():
    model = network()
    layer = model.layers[1]
    pool = MaxPool2d(layer.name, layer.inputs, layer.output, layer.window)
    with pytest.raises(UserError, match="layer t1: the engine of AUSN activations runs "
                                        f"convolutions and average pools only; {PRESETS}$"):
        lower_codes(replace(model, layers=(model.layers[0], pool, *model.layers[2:])), CONFIG)


def ends(model, kind):
    """The network cut off before a pool or depthwise layer, and behind it."""
    number = next(number for number, layer in enumerate(model.layers)
                  if (isinstance(layer, AveragePool2d) if kind == "a pool" else
                      isinstance(layer, Conv2d) and layer.depthwise))
    rule = replace(model.layers[number].requantization, code=None)
    last = replace(model.layers[number], requantization=rule)
    return (replace(model, layers=model.layers[number:]),
            replace(model, layers=(*model.layers[:number], last)))


@pytest.mark.parametrize("kind", ["a pool", "depthwise"])
def test_networks_that_begin_or_end_otherwise(kind):
    for seed in range(1000):
        model = random_code_network(np.random.default_rng(seed))
        inner = model.layers[1:-1]
        if any(isinstance(layer, AveragePool2d) if kind == "a pool" else
               isinstance(layer, Conv2d) and layer.depthwise for layer in inner):
            break
    for cut, place in zip(ends(model, kind), ("first", "last"), strict=True):
        with pytest.raises(UserError, match=rf"layer t\d, the {place}, is {kind}, and {ENDS}$"):
            lower_codes(cut, CONFIG)


def test_a_single_layer():
    model = network()
    with pytest.raises(UserError, match=f"layer t3, the first, is the only one, and {ENDS}$"):
        lower_codes(replace(model, layers=model.layers[-1:]), CONFIG)


def test_weights_of_more_than_a_byte():
    model = network()
    weight = model.layers[3].weight.astype(np.int16)
    weight[0, 0, 0, 0] = 192
    with pytest.raises(UserError, match="layer t3 has weights up to 192 and the engine multiplies "
                       r"by integers up to 127; use the preset mixed4$"):
        lower_codes(changed(model, 3, weight=weight), CONFIG)


def test_shifts_that_this_engine_has_not():
    model = network()
    with pytest.raises(UserError, match="is scaled by shifts that this engine is built without"):
        lower_codes(model, replace(CONFIG, shifts=(1,)))


def test_too_many_shifts():
    model = network()
    outputs = len(model.layers[0].requantization.bias)
    model = with_rule(model, 0, multiplier=1 << 3 + np.arange(outputs) % 12)
    needed = {shift for layer in model.layers for shift in channel_shifts(layer, model).tolist()}
    with pytest.raises(UserError, match=f"network codes scales sums by {len(needed)} different "
                       rf"shifts \({min(needed)} to {max(needed)}\) and the engine of AUSN "
                       f"activations has up to 8; {AGAIN}$"):
        fitted_shifts(model)


def test_sums_that_are_too_wide():
    model = network()
    proof = replace(model.layers[0].proof, bits=17)
    with pytest.raises(UserError, match="needs an accumulator of 17 bits and the engine has 16"):
        lower_codes(changed(model, 0, proof=proof), CONFIG)
    proof = replace(model.layers[1].proof, bits=20)
    with pytest.raises(UserError, match="needs an accumulator of 20 bits and the engine has 19"):
        lower_codes(changed(model, 1, proof=proof), CONFIG)
    rule = model.layers[1].requantization
    with pytest.raises(UserError, match="has a bias of more than 19 bits"):
        lower_codes(with_rule(model, 1, bias=np.full_like(rule.bias, 1 << 18)), CONFIG)
