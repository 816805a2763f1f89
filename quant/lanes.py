"""Mixed weights: which output channels of a layer are AUSN levels, and which are linear.

An array whose lanes are multipliers in one half and shift and add in the other (`hw.ausn`) computes
a layer in both, so half of its output channels have a code and half have none, whatever the number
of lanes; of an odd number the larger half is linear, which loses less. Channels keep their place in
a word, and so their lane, through pools, sums of maps and depthwise layers: all layers that such
layers connect make the same choice.

Which channels they are matters: signal over noise of the keyword spotter's scores (preset "mixed4"
but for maps that choose their codes and the transfer's search) 19.8 dB with those that lose least,
19.5 and 19.6 with a half drawn by lot, 19.3 with the other half, and 12, 33, 24 and 42 channels
coarser for their sums to fit 16 bits.
"""

from __future__ import annotations

import numpy as np

from ref.errors import UserError

from .calibrate import Calibration
from .graph import (
    FloatAdd,
    FloatAveragePool,
    FloatConcat,
    FloatConv,
    FloatMaxPool,
    FloatNetwork,
    FloatSpaceToDepth,
)
from .layers import Quantized
from .presets import Settings
from .weights import LinearCode, best_code, weight_codes


def coded_channels(network: FloatNetwork, calibration: Calibration, source: Quantized,
                   settings: Settings) -> dict[str, np.ndarray]:
    """By name of each layer with mixed weights, which output channels have a code, bool (O,).

    ``network`` and ``calibration`` are balanced, ``source`` is the network's input. Of n channels
    n // 2 have a code: those where it adds least to the loss of linear weights, as a share of the
    power of the layer's products, added up over the layers that make the same choice.
    Raises `UserError` naming a layer that moves channels to other lanes.
    """
    layers = [layer for layer in network.layers if isinstance(layer, FloatConv)
              and settings.of(layer.name).weight_code == "mixed"]
    moving = [layer for layer in network.layers
              if isinstance(layer, FloatConcat | FloatSpaceToDepth)]
    if layers and moving:
        raise UserError(f"layer {moving[0].name!r} moves channels to other lanes, which mixed "
                        "weights do not allow; choose linear or AUSN weights")
    linked = network.linked((FloatAdd, FloatAveragePool, FloatMaxPool), depthwise=True)
    added: dict[frozenset[str], np.ndarray] = {}
    for layer in layers:
        group = linked[layer.output]
        added[group] = added.get(group, 0.0) + _added_loss(layer, calibration, source, settings)
    coded = {}
    for group, loss in added.items():
        coded[group] = np.zeros(len(loss), bool)
        coded[group][np.argsort(loss, kind="stable")[:len(loss) // 2]] = True
    return {layer.name: coded[linked[layer.output]] for layer in layers}


def _added_loss(layer: FloatConv, calibration: Calibration, source: Quantized, settings: Settings
                ) -> np.ndarray:
    """What a code adds to the loss of each row's linear weights, relative to the layer, (O,)."""
    if layer.input == source.tensor.name:
        step, square = source.step, source.square
    else:
        square = calibration.tensors[layer.input].square
        step = np.ones(len(square))
    inputs, shape = layer.input_of_output, layer.weight.shape
    weight, energy = (
        np.broadcast_to(values[:, :, None, None], shape).reshape(len(layer.weight), -1)
        for values in (step[inputs], (square / step ** 2)[inputs]))
    weight = weight * layer.weight.reshape(weight.shape)
    own = settings.of(layer.name)
    linear, coded = (best_code(codes, weight, energy)[2]
                     for codes in ((LinearCode(own.weight_bits),), weight_codes(own)))
    power = float((weight ** 2 * energy).sum())
    return (coded - linear) / (power or 1.0)
