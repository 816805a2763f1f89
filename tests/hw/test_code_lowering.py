"""Networks in codes as steps: which engine they get, what is refused, by name."""

from dataclasses import replace

import numpy as np
import pytest

from boards import board
from hw.code_lowering import fitted_shifts, in_codes, lane_orders, lower_codes
from hw.fit import ICE40_ARRAY, ICE40_CODES, fit_program
from ref import AusnCode, AveragePool2d, Conv2d, MaxPool2d
from ref.errors import UserError

from .code_networks import CONFIG, random_code_network
from .test_compiler import convolution


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
    with pytest.raises(UserError, match="does not round results to AUSN levels"):
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


def test_the_first_layer_makes_one_half_of_words_after_the_other():
    model = network()
    steps = [step for step in lower_codes(model, CONFIG).steps
             if step.name == model.layers[0].name]
    assert [step.upper_half for step in steps] == [False, True]
    assert all(step.byte_input and not step.byte_result for step in steps)


@pytest.mark.parametrize("index, changes, sentence", [
    (1, {"code": None}, "all results but the network's must be AUSN levels of 4 bits"),
    (1, {"code": AusnCode(3, 1)}, "all results but the network's must be AUSN levels of 4 bits"),
    (1, {"hi": 100}, "has clip bounds or a leaky ReLU"),
    (3, {"hi": 100}, "has clip bounds or a leaky ReLU"),
    (0, {"multiplier": 3}, "has multipliers that are no powers of two"),
    (2, {"multiplier_negative": 1}, "has clip bounds or a leaky ReLU"),
])
def test_rules_that_the_engine_has_not(index, changes, sentence):
    model = network()
    outputs = len(model.layers[index].requantization.bias)
    changes = {name: value if name == "code" else np.full(outputs, value)
               for name, value in changes.items()}
    with pytest.raises(UserError, match=f"layer t{index}.* {sentence}"):
        fit_program(with_rule(model, index, **changes), board("icebreaker"))


def test_weights_that_no_lane_has():
    model = network((Conv2d,))
    index = next(k for k, layer in enumerate(model.layers[1:-1], 1) if isinstance(layer, Conv2d))
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
                                        "convolutions and average pools only"):
        lower_codes(replace(model, layers=(model.layers[0], pool, *model.layers[2:])), CONFIG)


def test_networks_that_begin_or_end_otherwise():
    model = network((AveragePool2d,))
    pools = [layer for layer in model.layers if isinstance(layer, AveragePool2d)]
    first = replace(model, layers=tuple(model.layers[model.layers.index(pools[0]):]))
    with pytest.raises(UserError, match="begins with a convolution that is not depthwise"):
        lower_codes(first, CONFIG)
    rule = replace(pools[0].requantization, code=None)
    ending = (*model.layers[:model.layers.index(pools[0])], replace(pools[0], requantization=rule))
    with pytest.raises(UserError, match="ends with a convolution that is not depthwise"):
        lower_codes(replace(model, layers=ending), CONFIG)


def test_shifts_that_this_engine_has_not():
    model = network()
    with pytest.raises(UserError, match="is scaled by shifts that this engine is built without"):
        lower_codes(model, replace(CONFIG, shifts=(1,)))
    rule = model.layers[0].requantization
    wide = with_rule(model, 0, multiplier=1 << np.arange(len(rule.bias)) % 15)
    if len(rule.bias) > 8:
        with pytest.raises(UserError, match="the engine of AUSN activations has up to 8 of 1 to"):
            fitted_shifts(wide)
    with pytest.raises(UserError, match="the engine of AUSN activations has up to 8 of 1 to"):
        fitted_shifts(with_rule(model, 0, multiplier=np.ones_like(rule.multiplier)))


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
