"""Engines and models that fit each other, descriptors by hand: what the engine's tests share."""

from dataclasses import replace
from functools import cache

import numpy as np

from hw.compiler import compile_program
from hw.config import EngineConfig
from hw.cxxrtl import CompiledEngine, compiled_engine
from hw.descriptor import FIELDS, pack_descriptor
from hw.joins import LARGEST_FACTOR, MOST_REPEATS
from hw.program import Program
from ref import (
    Add,
    AveragePool2d,
    Conv2d,
    Model,
    accumulator_proof,
    check_model,
    input_bounds,
    layer_bounds,
)
from ref.bounds import layer_operands
from ref.errors import UserError

from ..ref.random_models import random_model, random_samples

#: Kinds of layers that the engine runs.
ENGINE_KINDS = ("dense", "depthwise", "pointwise", "grouped", "maximum", "average", "leaky", "ausn",
                "add", "concat", "squares")

#: Compiled once each and cached: odd and single pixels, every way to divide the requantizers.
CONFIGS = {
    "c4p3": EngineConfig(channels=4, pixels=3, requantizers=1, tape_depth=8192,
                         activation_depth=4096, single_port=True, multiplier_slice=4),
    "c2p1": EngineConfig(channels=2, pixels=1, requantizers=2, tape_depth=16384,
                         activation_depth=8192, single_port=False),
    # Results leave so slowly that the last tile's are still leaving when the next layer begins.
    # Five bytes are a word of weights; constants and descriptors fill their last ones in part.
    "c8p5": EngineConfig(channels=8, pixels=5, requantizers=1, tape_depth=4096,
                         activation_depth=2048, single_port=True, accumulator_bits=20,
                         multiplier_slice=8, weight_bits=5),
    "c8p3w4": EngineConfig(channels=8, pixels=3, requantizers=8, tape_depth=8192,
                           activation_depth=8192, single_port=False, accumulator_bits=18,
                           bias_bits=2, weight_bits=4, strips=4, pipelined=True),
    "c8p2r4": EngineConfig(channels=8, pixels=2, requantizers=4, tape_depth=8192,
                           activation_depth=8192, single_port=False, pipelined=True),
}


@cache
def engine_of(name: str) -> CompiledEngine:
    """The compiled engine of a configuration; each run starts clean whatever the last one did."""
    return compiled_engine(CONFIGS[name])


def packed_layer(**fields: int) -> int:
    """A layer descriptor as the integer of its bits; fields not given are 0."""
    values = {name: fields.pop(name, 0) for name in FIELDS}
    assert not fields, fields
    return int.from_bytes(b"".join(map(bytes, pack_descriptor(values, 4))), "little")


def runnable(model: Model, config: EngineConfig) -> Model:
    """``model`` within the engine's limits: small weights, linear results of one lower bound a
    layer, one padding value a map, multipliers of sums that weights times a factor can be.

    Proofs are made again, since other clipping gives other bounds.
    """
    bounds = {model.input.tensor: input_bounds(model.input, model.input_tensor)}
    layers = []
    for layer in model.layers:
        operands = [bounds[name] for name in layer.inputs]
        lowest = model.tensors[layer.output].lo
        if isinstance(layer, Add):
            most = config.largest_weight * (1, 3, MOST_REPEATS)[len(layer.lo) % 3]
            factor = np.minimum(-(-layer.multiplier.max(axis=0) // most), LARGEST_FACTOR)
            weight = np.clip(layer.multiplier // factor, 1, most)
            layer = replace(layer, multiplier=weight * factor, **one_lower_bound(layer, lowest))
        elif isinstance(layer, Conv2d | AveragePool2d):
            rule = layer.requantization
            rule = replace(rule, **one_lower_bound(rule, lowest))
            layer = replace(layer, requantization=rule)
            if isinstance(layer, Conv2d):
                if layer.weight_code is None:
                    largest = config.largest_weight
                    layer = replace(layer, weight=layer.weight.clip(-largest, largest))
                if len(layer.pad_value) > config.channels:
                    layer = replace(layer, pad_value=np.full_like(layer.pad_value,
                                                                  layer.pad_value[0]))
            (lo, hi), = operands
            weight, bias, pad_value, groups = layer_operands(layer, len(lo))
            layer = replace(layer, proof=accumulator_proof(weight, bias, lo, hi, pad_value, groups))
        layers.append(layer)
        bounds[layer.output] = layer_bounds(layer, *operands)
    made = replace(model, layers=tuple(layers))
    check_model(made)
    return made


def one_lower_bound(rule, lowest: int) -> dict:
    """Changes to a requantization or a sum: the engine has one lower bound a layer, and no code."""
    lo = int(rule.lo.max())
    lo = lo if lo <= rule.hi.min() else lowest
    return {"lo": np.full_like(rule.lo, lo), "code": None}


def random_program(seed: int, config: EngineConfig, samples: int = 2, **options
                   ) -> tuple[Model, Program, np.ndarray]:
    """A random model that ``config`` can run, its program and samples for it.

    A model that needs wider accumulators or weights or deeper memories is passed over for the next
    one.
    """
    rng = np.random.default_rng([seed, config.channels, config.pixels])
    while True:
        model = runnable(random_model(rng, **{"kinds": ENGINE_KINDS} | options), config)
        x = random_samples(rng, model, samples)
        try:
            return model, compile_program(model, config), x
        except UserError as error:
            assert any(words in str(error) for words in (
                "accumulator", "bytes too many", "linear preset", "is built without")), error
