"""TAIT: tunable transfer of activation imbalance into the next layer's weights.

Source: "TAIT: One-Shot Full-Integer Lightweight DNN Quantization via Tunable Activation
Imbalance Transfer", DAC 2021, doi 10.1109/DAC18074.2021.9586109. With r_i the calibrated maximum
of channel i of an activated map, ``F_i = (C / r_i)^t``: the layer before is multiplied by F_i per
output channel, the layer after divided by it per input channel. ReLU passes positive factors
through; a ReLU6's cap becomes ``6 F_i``, carried per channel. t = 0 changes nothing, t = 1 makes
all channels of the map span the same range and leaves the whole imbalance to the weights. The
default t = 0.2 is the paper's.

Two choices of ours where the paper's text is silent: C is the tensor's own largest r_i, since a
common factor changes no integer; and r_i is at least `SMALLEST` of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ref.errors import UserError

from .calibrate import Calibration
from .graph import FloatConv, FloatLayer, FloatNetwork

#: Smallest channel maximum that counts, relative to the largest of its map.
SMALLEST = 2.0 ** -14


@dataclass(frozen=True, eq=False)
class Balanced:
    """A network that computes the same function with other channel ranges.

    ``factors`` holds, by tensor name, what each channel was multiplied by, (C,); absent: 1.
    ``calibration`` is the original's, carried over exactly (all its statistics are per channel).
    """

    network: FloatNetwork
    calibration: Calibration
    factors: dict[str, np.ndarray]

    def factor(self, tensor: str) -> np.ndarray | float:
        """The factors of one tensor."""
        return self.factors.get(tensor, 1.0)


def balance(network: FloatNetwork, calibration: Calibration, t: float = 0.2) -> Balanced:
    """Transfer imbalance over every edge into a layer that mixes channels.

    Edges into depthwise convolutions and pools are left alone: channel-wise scales are free there.
    Pools between two convolutions pass the factors on. ``t`` is 0..1; else `UserError`.
    """
    if not 0 <= t <= 1:
        raise UserError(f"the transfer exponent t is {t:g}; choose it between 0 and 1")
    layers = list(network.layers)
    factors: dict[str, np.ndarray] = {}
    for first, last in _edges(network):
        target = layers[last]
        assert isinstance(target, FloatConv)
        statistics = calibration.tensors[target.input]
        reach = np.maximum(np.abs(statistics.lo), np.abs(statistics.hi))
        if reach.max() == 0:
            continue
        factor = (reach.max() / np.maximum(reach, reach.max() * SMALLEST)) ** t
        layers[first] = _scale_outputs(layers[first], factor)
        layers[last] = _scale_inputs(target, factor)
        factors |= {layer.output: factor for layer in network.layers[first:last]}
    return Balanced(replace(network, layers=tuple(layers)), calibration.scaled(factors), factors)


def _edges(network: FloatNetwork) -> list[tuple[int, int]]:
    """Indices (producer, consumer) of convolutions with nothing but pools between them."""
    edges, producer = [], None
    for index, layer in enumerate(network.layers):
        if isinstance(layer, FloatConv):
            if producer is not None and not layer.channelwise:
                edges.append((producer, index))
            producer = index
    return edges


def _scale_outputs(layer: FloatLayer, factor: np.ndarray) -> FloatConv:
    """The convolution with output channel i multiplied by ``factor[i]``, its cap with it."""
    assert isinstance(layer, FloatConv)
    caps = layer.caps * factor
    return replace(layer, weight=layer.weight * factor[:, None, None, None],
                   bias=layer.bias * factor,
                   activation=caps if np.isfinite(caps).all() else layer.activation)


def _scale_inputs(layer: FloatConv, factor: np.ndarray) -> FloatConv:
    """The convolution that undoes ``factor`` on its input channels."""
    return replace(layer, weight=layer.weight / factor[layer.input_of_output][:, :, None, None])
