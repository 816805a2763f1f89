"""A float network beside the integer model made from it, to put parts of one into the other.

Scales are in the original network's units (`ref.model.Tensor.scale`), so the transfer of imbalance
needs no undoing: an integer weight w of output o and input i is the real weight
``w * ratio[o] * scale[o] / scale[i]``, with the ratio of the layer's requantizer.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from ref.data import Data
from ref.errors import UserError
from ref.layers import quantize_input
from ref.model import Add, AveragePool2d, Conv2d, Layer, Model

from .evaluate import Rounding
from .graph import FloatConv, FloatNetwork
from .input_rule import input_steps, traced_input
from .planes import on_planes


class Twin:
    """A model and the float network it was made from, layer by layer the same.

    ``network`` reads its input as the model's layers do: normalized, in as many planes.
    """

    def __init__(self, model: Model, network: FloatNetwork) -> None:
        """Raises `UserError` when the model was made from another network."""
        if model.layers[0].output not in network.shapes():
            network = network.with_first_convolution()
        _check_same(model, network)
        self.model = model
        self.layers: dict[str, Layer] = {layer.name: layer for layer in model.layers}
        self.single = network                   # with the input's own channels and normalization
        wide = on_planes(network) if model.input.low_bits else network
        channels = wide.input_shape[0]
        self.network = replace(wide, input_gain=np.ones(channels), input_offset=np.zeros(channels))

    def real_input(self, data: Data) -> np.ndarray:
        """The input of `network`, float32 (N, C, H, W), exactly the data's."""
        return traced_input(self.single, data, self.model.input, self.model.input_tensor)[0]

    def rounded_input(self, data: Data) -> np.ndarray:
        """The input of `network`, float32 (N, C, H, W), that the model's integers stand for."""
        step, zero = (part.reshape(-1, 1, 1) for part in self.steps(self.network.input))
        return ((quantize_input(self.model, data.x) - zero) * step).astype(np.float32)

    def steps(self, tensor: str) -> tuple[np.ndarray, np.ndarray]:
        """Step and zero of each channel of a tensor as layers read it, (C,) each."""
        if tensor == self.network.input:
            return input_steps(self.single, self.model.input)
        kind = self.model.tensors[tensor]
        return np.broadcast_to(kind.scale, kind.shape[:1]), np.zeros(kind.shape[0])

    def units(self, layer: Conv2d) -> np.ndarray:
        """The real value of 1 in the accumulator of each output channel, (O,)."""
        rule = layer.requantization
        return rule.multiplier * 2.0 ** -rule.shift * self.model.tensors[layer.output].scale

    def with_weights(self, layers: Collection[str] | None = None) -> FloatNetwork:
        """`network` with the real values of the model's integer weights and biases.

        Only in the convolutions named in ``layers``, by default in all.
        """
        return replace(self.network, layers=tuple(
            self.with_own_weights(layer) if isinstance(layer, FloatConv)
            and (layers is None or layer.name in layers) else layer
            for layer in self.network.layers))

    def with_own_weights(self, layer: FloatConv) -> FloatConv:
        """A convolution of `network` with the weights and bias of the model's."""
        made = self.layers[layer.name]
        assert isinstance(made, Conv2d)
        step, zero = self.steps(layer.input)
        unit, inputs = self.units(made), layer.input_of_output
        weight = made.weight * (unit[:, None] / step[inputs])[:, :, None, None]
        offset = np.einsum("oi,oi->o", made.weight.sum(axis=(2, 3), dtype=np.int64), zero[inputs])
        return replace(layer, weight=weight, bias=(made.requantization.bias + offset) * unit)

    def rounding(self, tensors: Collection[str] | None = None) -> Rounding:
        """What rounds and clips each layer's result as the model does: for `quant.evaluate`.

        Only the tensors named, by default all. Maxima, concatenations and squares to channels keep
        what they get.
        """
        rules = {}
        for layer in self.model.layers:
            if isinstance(layer, Conv2d | AveragePool2d | Add) and (
                    tensors is None or layer.output in tensors):
                rule = layer if isinstance(layer, Add) else layer.requantization
                rules[layer.output] = (rule.code, self.model.tensors[layer.output].scale, rule.lo,
                                       rule.hi)

        def rounding(name: str, value: np.ndarray) -> np.ndarray:
            if name not in rules:
                return value
            code, *parts = rules[name]
            scale, lo, hi = (part.reshape(-1, 1, 1).astype(value.dtype) for part in parts)
            if code is not None:
                halves = np.clip(np.floor(2 * value / scale), 2 * lo, 2 * hi).astype(np.int64)
                return (code.bytes[halves] * scale).astype(value.dtype)
            return np.clip(np.floor(value / scale + 0.5), lo, hi) * scale

        return rounding


def _check_same(model: Model, network: FloatNetwork) -> None:
    """Raise `UserError` unless the layers have the same names, results and shapes."""
    shapes = network.shapes()
    named = {layer.output: layer.name for layer in network.layers}
    for layer in model.layers:
        tensor = model.tensors[layer.output]
        if named.get(layer.output) != layer.name or shapes[layer.output] != tensor.shape:
            raise UserError(f"the model {model.name!r} has a layer {layer.name!r} that makes "
                            f"{layer.output!r} of shape {tensor.shape}, and the float network "
                            f"{network.name!r} has none like it; give the network the model was "
                            "made from")
