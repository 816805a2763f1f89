"""TAIT: tunable transfer of activation imbalance into the next layer's weights.

Source: "TAIT: One-Shot Full-Integer Lightweight DNN Quantization via Tunable Activation
Imbalance Transfer", DAC 2021, doi 10.1109/DAC18074.2021.9586109. With r_i the calibrated maximum
of channel i of an activated map, ``F_i = (C / r_i)^t``: the layer before is multiplied by F_i per
output channel, the layer after divided by it per input channel. ReLU passes positive factors
through; a ReLU6's cap becomes ``6 F_i``, carried per channel. t = 0 changes nothing, t = 1 makes
all channels of the map span the same range and leaves the whole imbalance to the weights.

The generalised form (ours) is ``F_i = r_i^-t * w_i^u * p_i^-v`` up to a common factor, with w_i the
largest weight that reads channel i and p_i the largest that makes it: with one weight scale per
layer (`Settings.weight_scale` "tensor") the rows of both layers share a step, and u and v even
them out. The exponents are fixed by the user (t, with u = v = 0) or chosen per edge by the search
in `quant.transfer`.

Choices of ours where the paper's text is silent: C is the tensor's own largest r_i, since a
common factor changes no integer; and no r_i, w_i or p_i counts as less than `SMALLEST` of the
largest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .calibrate import Calibration
from .graph import FloatConv, FloatLayer, FloatNetwork
from .presets import Settings
from .transfer import Edge, Exponents, find_exponents, reach, transfer_factor

#: Rounds over all edges when the exponents are searched: each changes its neighbours' weights.
ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Balanced:
    """A network that computes the same function with other channel ranges.

    ``factors`` holds, by tensor name, what each channel was multiplied by, (C,); absent: 1.
    ``calibration`` is the original's, carried over exactly (all its statistics are per channel).
    ``exponents`` are those of each edge, by the name of the tensor its consumer reads.
    """

    network: FloatNetwork
    calibration: Calibration
    factors: dict[str, np.ndarray]
    exponents: dict[str, Exponents]

    def factor(self, tensor: str) -> np.ndarray | float:
        """The factors of one tensor."""
        return self.factors.get(tensor, 1.0)


def balance(network: FloatNetwork, calibration: Calibration, settings: Settings) -> Balanced:
    """Transfer imbalance over every edge between two convolutions where it can matter.

    Edges into depthwise convolutions are left alone while weights have a scale per channel:
    channel-wise activation scales are free there. Pools between two convolutions pass the factors
    on. ``settings.transfer`` is the exponent t or "search".
    """
    t = settings.transfer
    layers = list(network.layers)
    factors: dict[str, np.ndarray] = {}
    exponents: dict[str, Exponents] = {}
    edges = _edges(network, settings.weight_scale == "tensor" and t == "search")
    for _ in range(ROUNDS if t == "search" else 1):
        carried = calibration.scaled(factors)
        for first, last in edges:
            name = network.layers[last].input
            if reach(calibration.tensors[name]).max() == 0:
                continue
            old = factors.get(name, np.ones(len(calibration.tensors[name].lo)))
            layers[first] = _scale_outputs(layers[first], 1 / old)
            layers[last] = _scale_inputs(layers[last], 1 / old)
            edge = _edge(layers, first, last, calibration, carried)
            exponents[name] = (find_exponents(edge, settings) if t == "search"
                               else Exponents(t))
            factor = transfer_factor(edge, exponents[name])
            layers[first] = _scale_outputs(layers[first], factor)
            layers[last] = _scale_inputs(layers[last], factor)
            factors |= {layer.output: factor for layer in network.layers[first:last]}
            carried = calibration.scaled(factors)
    return Balanced(replace(network, layers=tuple(layers)), calibration.scaled(factors), factors,
                    exponents)


def uniformity(statistics_reach: np.ndarray) -> float:
    """TAIT's value-range uniformity of channel maxima (C,): their mean over their maximum, 0..1.

    1: all channels span the same range. The form is our choice. A tensor of zeros has 1.
    """
    largest = float(statistics_reach.max())
    return float(statistics_reach.mean()) / largest if largest else 1.0


def balance_report(calibration: Calibration, balanced: Balanced) -> dict[str, dict[str, float]]:
    """By tensor name: the exponents of its edge, and the uniformity before and after them."""
    return {name: {"t": found.t, "u": found.u, "v": found.v,
                   "uniformity_before": uniformity(reach(calibration.tensors[name])),
                   "uniformity_after": uniformity(reach(balanced.calibration.tensors[name]))}
            for name, found in balanced.exponents.items()}


def _edges(network: FloatNetwork, channelwise: bool) -> list[tuple[int, int]]:
    """Indices (producer, consumer) of convolutions with nothing but pools between them.

    Edges into depthwise convolutions only where ``channelwise``.
    """
    edges, producer = [], None
    for index, layer in enumerate(network.layers):
        if isinstance(layer, FloatConv):
            if producer is not None and (channelwise or not layer.channelwise):
                edges.append((producer, index))
            producer = index
    return edges


def _edge(layers: list[FloatLayer], first: int, last: int, calibration: Calibration,
          carried: Calibration) -> Edge:
    """What the choice of an edge's factors needs; its own factors are 1 in ``layers``.

    ``carried`` has the statistics of the other tensors with their present factors.
    """
    producer, consumer = layers[first], layers[last]
    assert isinstance(producer, FloatConv) and isinstance(consumer, FloatConv)
    after = next((layer for layer in layers[last + 1:] if isinstance(layer, FloatConv)), None)
    importance = np.ones(len(consumer.bias))
    if consumer.channelwise and after is not None and not after.channelwise:
        importance = _column_sums(after)
    own = carried.tensors.get(producer.input)
    energy = np.ones(producer.input_of_output.max() + 1) if own is None else own.square
    return Edge(calibration.tensors[consumer.input], producer, consumer, importance,
                energy[producer.input_of_output].sum(axis=1))


def _column_sums(layer: FloatConv) -> np.ndarray:
    """Sum of the squared weights that read each input channel, (I,)."""
    sums = np.zeros(layer.input_of_output.max() + 1)
    np.add.at(sums, layer.input_of_output, (layer.weight ** 2).sum(axis=(2, 3)))
    return sums


def _scale_outputs(layer: FloatLayer, factor: np.ndarray) -> FloatConv:
    """The convolution with output channel i multiplied by ``factor[i]``, its cap with it."""
    assert isinstance(layer, FloatConv)
    caps = layer.caps * factor
    return replace(layer, weight=layer.weight * factor[:, None, None, None],
                   bias=layer.bias * factor,
                   activation=caps if np.isfinite(caps).all() else layer.activation)


def _scale_inputs(layer: FloatLayer, factor: np.ndarray) -> FloatConv:
    """The convolution that undoes ``factor`` on its input channels."""
    assert isinstance(layer, FloatConv)
    return replace(layer, weight=layer.weight / factor[layer.input_of_output][:, :, None, None])
