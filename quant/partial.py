"""The float network with parts of the integer model in it: its weights, or its activations.

Scales are in the original network's units (`ref.model.Tensor.scale`), so the transfer of imbalance
needs no undoing: an integer weight w of output o and input i is the real weight
``w * ratio[o] * scale[o] / scale[i]``, with the ratio of the layer's requantizer.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import numpy as np

from ref.data import Data
from ref.errors import UserError
from ref.model import Add, AveragePool2d, Conv2d, Model
from ref.run import quantize_input

from .evaluate import Rounding
from .graph import FloatConv, FloatNetwork


def network_of(model: Model, network: FloatNetwork) -> FloatNetwork:
    """The float network with exactly the layers of the model that was made from it.

    Raises `UserError` when the model was made from another network.
    """
    shapes = network.shapes()
    if model.layers[0].output not in shapes:
        network = network.with_first_convolution()
        shapes = network.shapes()
    named = {layer.output: layer.name for layer in network.layers}
    for layer in model.layers:
        tensor = model.tensors[layer.output]
        if named.get(layer.output) != layer.name or shapes[layer.output] != tensor.shape:
            raise UserError(f"the model {model.name!r} has a layer {layer.name!r} that makes "
                            f"{layer.output!r} of shape {tensor.shape}, and the float network "
                            f"{network.name!r} has none like it; give the network the model was "
                            "made from")
    return network


def with_model_weights(network: FloatNetwork, model: Model,
                       layers: Collection[str] | None = None) -> FloatNetwork:
    """``network`` with the real values of the model's integer weights and biases.

    Only in the convolutions named in ``layers``, by default in all. ``network`` is one of
    `network_of`.
    """
    made = {layer.name: layer for layer in model.layers if isinstance(layer, Conv2d)
            and (layers is None or layer.name in layers)}
    return replace(network, layers=tuple(
        _with_weights(layer, made[layer.name], network, model)
        if isinstance(layer, FloatConv) and layer.name in made else layer
        for layer in network.layers))


def activation_rounding(model: Model, tensors: Collection[str] | None = None) -> Rounding:
    """What rounds and clips each result of a layer as the model does: for `quant.evaluate`.

    Only the tensors named, by default all. Maxima, concatenations and squares to channels keep what
    they get.
    """
    rules = {}
    for layer in model.layers:
        if tensors is not None and layer.output not in tensors:
            continue
        if isinstance(layer, Conv2d | AveragePool2d | Add):
            rule = layer if isinstance(layer, Add) else layer.requantization
            rules[layer.output] = (model.tensors[layer.output].scale, rule.lo, rule.hi)

    def rounding(name: str, value: np.ndarray) -> np.ndarray:
        if name not in rules:
            return value
        scale, lo, hi = (part.reshape(-1, 1, 1).astype(value.dtype) for part in rules[name])
        return np.clip(np.floor(value / scale + 0.5), lo, hi) * scale

    return rounding


def rounded_input(model: Model, data: Data) -> np.ndarray:
    """The real input (N, C, H, W) that the model's integer input stands for."""
    zero = model.input.x_zero_point * math.ldexp(model.input.multiplier, -model.input.shift)
    integers = quantize_input(model, data.x)
    real = (integers - zero.reshape(-1, 1, 1)) * model.input_tensor.scale.reshape(-1, 1, 1)
    return real.astype(np.float32)


def input_step(network: FloatNetwork, model: Model) -> tuple[np.ndarray, np.ndarray]:
    """Step and zero of each channel of the input as layers read it, (C,): ``(q - zero) * step``."""
    ratio = math.ldexp(model.input.multiplier, -model.input.shift)
    step = model.input_tensor.scale * network.input_gain
    return step, model.input.x_zero_point * ratio - network.input_offset / step


def accumulator_units(made: Conv2d, model: Model) -> np.ndarray:
    """The real value of 1 in the accumulator of each output channel, (O,)."""
    rule = made.requantization
    return rule.multiplier * 2.0 ** -rule.shift * model.tensors[made.output].scale


def source_steps(network: FloatNetwork, model: Model, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Step and zero of each channel of a tensor as layers read it, (C,)."""
    if name == network.input:
        return input_step(network, model)
    tensor = model.tensors[name]
    return np.broadcast_to(tensor.scale, tensor.shape[:1]), np.zeros(tensor.shape[0])


def _with_weights(layer: FloatConv, made: Conv2d, network: FloatNetwork, model: Model) -> FloatConv:
    """A convolution with the weights and bias of the model's."""
    step, zero = source_steps(network, model, layer.input)
    unit, inputs = accumulator_units(made, model), layer.input_of_output
    weight = made.weight * (unit[:, None] / step[inputs])[:, :, None, None]
    offset = np.einsum("oi,oi->o", made.weight.sum(axis=(2, 3), dtype=np.int64), zero[inputs])
    return replace(layer, weight=weight, bias=(made.requantization.bias + offset) * unit)
