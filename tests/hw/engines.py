"""Engines and models that fit each other, descriptors by hand: what the engine's tests share."""

from dataclasses import replace
from functools import cache

import numpy as np

from hw.compiler import compile_program
from hw.config import EngineConfig
from hw.cxxrtl import CompiledEngine, compiled_engine
from hw.descriptor import FIELDS, pack_descriptor
from hw.program import Program
from ref import Conv2d, MaxPool2d, Model, accumulator_proof, input_bounds, layer_bounds
from ref.bounds import layer_operands
from ref.errors import UserError

from ..ref.random_models import random_model, random_samples

#: Compiled once each and cached: odd and single pixels, every way to divide the requantizers.
CONFIGS = {
    "c4p3": EngineConfig(channels=4, pixels=3, requantizers=1, tape_depth=8192,
                         activation_depth=4096, single_port=True, multiplier_slice=4),
    "c2p1": EngineConfig(channels=2, pixels=1, requantizers=2, tape_depth=16384,
                         activation_depth=8192, single_port=False, accumulator_bits=32),
    # Results leave so slowly that the last tile's are still leaving when the next layer begins.
    "c8p5": EngineConfig(channels=8, pixels=5, requantizers=1, tape_depth=4096,
                         activation_depth=2048, single_port=True, accumulator_bits=20,
                         multiplier_slice=8),
    "c8p3w4": EngineConfig(channels=8, pixels=3, requantizers=8, tape_depth=8192,
                           activation_depth=8192, single_port=False, accumulator_bits=20,
                           weight_bits=4, strips=4),
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
    """``model`` within the engine's limits: small weights, one lower bound, one padding value.

    Proofs are made again, since other clipping gives other bounds.
    """
    bounds = input_bounds(model.input, model.input_tensor)
    layers = []
    for layer in model.layers:
        if not isinstance(layer, MaxPool2d):
            rule, lowest = layer.requantization, model.tensors[layer.output].lo
            lo = int(rule.lo.max())
            lo = lo if lo <= rule.hi.min() else lowest
            layer = replace(layer, requantization=replace(rule, lo=np.full_like(rule.lo, lo)))
            if isinstance(layer, Conv2d):
                if layer.weight_code is None:
                    largest = config.largest_weight
                    layer = replace(layer, weight=layer.weight.clip(-largest, largest))
                if len(layer.pad_value) > config.channels:
                    layer = replace(layer, pad_value=np.full_like(layer.pad_value,
                                                                  layer.pad_value[0]))
            weight, bias, pad_value, groups = layer_operands(layer, len(bounds[0]))
            layer = replace(layer, proof=accumulator_proof(weight, bias, *bounds, pad_value,
                                                           groups))
        layers.append(layer)
        bounds = layer_bounds(layer, bounds)
    return replace(model, layers=tuple(layers))


def random_program(seed: int, config: EngineConfig, samples: int = 2, **options
                   ) -> tuple[Model, Program, np.ndarray]:
    """A random model that ``config`` can run, its program and samples for it.

    A model that needs wider accumulators or deeper memories is passed over for the next one.
    """
    rng = np.random.default_rng([seed, config.channels, config.pixels])
    while True:
        model = runnable(random_model(rng, **options), config)
        x = random_samples(rng, model, samples)
        try:
            return model, compile_program(model, config), x
        except UserError as error:
            assert "accumulator" in str(error) or "bytes too many" in str(error), error
