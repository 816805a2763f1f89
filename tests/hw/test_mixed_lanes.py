# amaranth: UnusedElaboratable=no
"""Engines of bytes with lanes of both kinds: random networks, every layer's integers and cycles."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from hw.compiler import compile_program
from hw.config import EngineConfig
from hw.cxxrtl import compiled_engine
from hw.lane_orders import lane_orders, takes_both_kinds
from hw.netlist import netlist_engine
from hw.pysim import AmaranthEngine
from hw.simulate import simulate
from hw.term_product import AUSN
from quant import quantize
from ref import (
    AveragePool2d,
    Conv2d,
    SpaceToDepth,
    accumulator_proof,
    check_model,
    input_bounds,
    layer_bounds,
)
from ref.bounds import layer_operands
from ref.errors import UserError

from ..quant.networks import depthwise_network, image_data
from ..quant.test_branches import residual_graph
from ..ref.random_models import random_model, random_samples
from .engines import ENGINE_KINDS, runnable
from .test_accelerator import check_network

#: With linear products of both makes, words in strips, sums that wrap.
CONFIG = EngineConfig(channels=8, pixels=3, requantizers=4, tape_depth=8192, activation_depth=8192,
                      single_port=False, strips=4, accumulator_bits=18, bias_bits=2, weight_bits=4,
                      table_pixels=1, pipelined=True, mixed=True)
#: Nothing that moves channels to other lanes.
KINDS = tuple(kind for kind in ENGINE_KINDS if kind not in ("concat", "squares"))


@cache
def engine():
    return compiled_engine(CONFIG)


def mixed_model(model, share):
    """``model`` with 4-bit weights, AUSN levels in a ``share`` of the channels."""
    bounds = {model.input.tensor: input_bounds(model.input, model.input_tensor)}
    layers = []
    for layer in model.layers:
        operands = [bounds[name] for name in layer.inputs]
        if isinstance(layer, Conv2d):
            coded = np.arange(len(layer.weight)) * share % 1 >= 1 - share
            weight = layer.weight.astype(np.int64).clip(-7, 7)
            weight[coded] = AUSN.nearest(2 * weight[coded])
            layer = replace(layer, weight=weight.astype(np.int8), weight_bits=4, weight_code=AUSN,
                            coded=coded)
        if isinstance(layer, Conv2d | AveragePool2d):
            (lo, hi), = operands
            operand, bias, pad_value, groups = layer_operands(layer, len(lo))
            layer = replace(layer, proof=accumulator_proof(operand, bias, lo, hi, pad_value,
                                                           groups))
        layers.append(layer)
        bounds[layer.output] = layer_bounds(layer, *operands)
    made = replace(model, layers=tuple(layers))
    check_model(made)
    return made


def random_program(seed, samples=2, config=CONFIG, **options):
    """A random network, its program and samples; those that sum too far are passed over."""
    rng = np.random.default_rng(seed)
    while True:
        model = runnable(random_model(rng, **{"kinds": KINDS} | options), config)
        model = mixed_model(model, rng.choice([0.5, 0.5, 0.2, 0.8]))
        try:
            return model, compile_program(model, config), random_samples(rng, model, samples)
        except UserError as error:
            assert any(words in str(error) for words in (
                "accumulator", "bytes too many", "a multiplier of its sum takes", "padding differs",
                "is built without")), error


def test_random_networks():
    for seed in range(80):
        check_network(*random_program(seed), engine())


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind(kind):
    for seed in range(5):
        check_network(*random_program(seed, kinds=(kind,), layers=2), engine())


@pytest.mark.long
def test_many_networks():
    for seed in range(1000, 2000):
        check_network(*random_program(seed), engine())


def test_networks_in_amaranths_simulator():
    program = random_program(0, samples=1, channels=12, size=5, layers=3)
    check_network(*program, AmaranthEngine(CONFIG))


@pytest.mark.long
def test_netlist_equals_reference():
    netlist = netlist_engine(CONFIG, "ulx3s_25f")
    for seed in range(4):
        model, program, x = random_program(seed, samples=1, size=8)
        report = simulate(model, program, x, netlist)
        assert report["mismatches"] == 0, report["first_mismatch"]


def places_of(model):
    """Each layer's channels, by places of lanes that multiply and of those that do not."""
    orders = lane_orders(model)
    for layer in model.layers:
        order = np.array(orders[layer.output])
        yield layer, order[::2][order[::2] >= 0], order[1::2][order[1::2] >= 0]


@pytest.mark.parametrize("seed", range(20))
def test_channels_come_to_lanes_of_their_kind(seed):
    model, _, _ = random_program(seed)
    for layer, multiplied, shifted in places_of(model):
        outputs = model.tensors[layer.output].shape[0]
        assert sorted([*multiplied, *shifted]) == list(range(outputs))
        if isinstance(layer, Conv2d):
            assert np.abs(layer.weight[multiplied]).max(initial=0) <= 7
            assert np.isin(np.abs(layer.weight[shifted]), AUSN.levels).all()


@pytest.mark.parametrize("channels", [8, 11])
def test_no_place_is_idle_where_half_the_channels_are_coded(tmp_path, channels):
    model = quantize(depthwise_network(tmp_path, channels=channels), image_data(), "mixed4a8")
    for name, order in lane_orders(model).items():
        assert -1 not in order, name


def test_quantized_sums_of_maps(tmp_path):
    """The preset's own networks, with residual sums, in lanes of both kinds."""
    data = image_data()
    model = quantize(residual_graph().save(tmp_path), data, "mixed4a8")
    assert takes_both_kinds(model)
    config = replace(CONFIG, accumulator_bits=24, bias_bits=0)
    check_network(model, compile_program(model, config), data.x[:2], compiled_engine(config))


def test_refusals():
    squares = next(model for model in (random_model(np.random.default_rng(seed), kinds=("squares",))
                                       for seed in range(100))
                   if isinstance(model.layers[0], SpaceToDepth))
    with pytest.raises(UserError, match="moves channels to other lanes"):
        lane_orders(squares)
    model, _, _ = random_program(1, kinds=("dense",), layers=2)
    layer = model.layers[0]
    weight = layer.weight.copy()
    weight[0, 0, 0, 0], weight[0, -1, -1, -1] = 5, 12
    wrong = replace(model, layers=(replace(layer, weight=weight), *model.layers[1:]))
    with pytest.raises(UserError, match=f"layer {layer.name} has weights in channel 0 that are "
                       "neither up to 7 nor AUSN levels of 4 bits throughout, and so are lanes of "
                       "this engine; use the preset mixed4a8"):
        compile_program(wrong, CONFIG)
    assert takes_both_kinds(model) and not takes_both_kinds(wrong)
