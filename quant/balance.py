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
them out. The exponents are fixed by the user (u = v = 0 unless given) or chosen per edge by the
search in `quant.transfer`.

Choices of ours where the paper's text is silent: C is the tensor's own largest r_i, since a
common factor changes no integer; and no r_i, w_i or p_i counts as less than `SMALLEST` of the
largest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from .calibrate import Calibration, Statistics
from .graph import (
    FloatAdd,
    FloatAveragePool,
    FloatConv,
    FloatLayer,
    FloatMaxPool,
    FloatNetwork,
    cap_of,
)
from .presets import Settings
from .transfer import Edge, Exponents, find_exponents, reach, transfer_factor

#: Rounds over all edges when the exponents are searched: each changes its neighbours' weights.
ROUNDS = 3
#: Layers that pass factors on unchanged.
PASSING_FACTORS = (FloatAveragePool, FloatMaxPool, FloatAdd)


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
    channel-wise activation scales are free there. Pools and sums pass the factors on: all maps of
    a residual group get the same ones, and every convolution that reads one of them undoes them.
    With one weight step per layer u and v have work there too, t none.
    """
    search, fixed = settings.exponents is None, settings.exponents or (0.0, 0.0, 0.0)
    layers = list(network.layers)
    factors: dict[str, np.ndarray] = {}
    exponents: dict[str, Exponents] = {}
    groups = _groups(network, settings.weight_scale == "tensor" and (search or any(fixed[1:])))
    for _ in range(ROUNDS if search else 1):
        carried = calibration.scaled(factors)
        for group in groups:
            name = network.layers[group.consumer].input
            statistics = _together([calibration.tensors[read] for read in group.read])
            if reach(statistics).max() == 0:
                continue
            old = factors.get(name, np.ones(len(statistics.lo)))
            _scale(layers, group, 1 / old)
            edge = _edge(layers, group, statistics, carried)
            exponents[name] = (find_exponents(edge, settings) if search else
                               Exponents(0.0 if edge.consumer.channelwise else fixed[0],
                                         *fixed[1:]))
            factor = transfer_factor(edge, exponents[name])
            _scale(layers, group, factor)
            factors |= {layer.output: factor for layer in network.layers
                        if layer.output in group.tensors}
            carried = calibration.scaled(factors)
    return Balanced(replace(network, layers=tuple(layers)), calibration.scaled(factors), factors,
                    exponents)


def uniformity(statistics: Statistics) -> float:
    """TAIT's value-range uniformity of a tensor: root mean square over largest magnitude, 0..1.

    The error of integers with one scale, relative to the tensor's power, is about its inverse
    square. The paper names no formula that is at hand; of seven forms this one predicts best over
    the 249 activation and weight tensors of five networks (bench/uniformity.py,
    calibrated scales): Pearson's correlation of the logarithms -0.89 at 8 bits and -0.90 at 4,
    Spearman's -0.94 and -0.94; of activations alone -0.94 to -0.97. Of forms that look at the
    channels' maxima only, their root mean square over the largest has -0.79, -0.77, -0.82 and
    -0.80, their mean -0.69, -0.72, -0.79 and -0.78. A tensor of zeros has 1.
    """
    largest = float(reach(statistics).max())
    return math.sqrt(float(statistics.square.mean())) / largest if largest else 1.0


def balance_report(balanced: Balanced) -> dict[str, dict[str, float]]:
    """By tensor name: the exponents of its edge, and the uniformity before and after them."""
    after = balanced.calibration.tensors
    before = balanced.calibration.scaled({name: 1 / factor
                                          for name, factor in balanced.factors.items()}).tensors
    return {name: {"t": found.t, "u": found.u, "v": found.v,
                   "uniformity_before": uniformity(before[name]),
                   "uniformity_after": uniformity(after[name])}
            for name, found in balanced.exponents.items()}


@dataclass(frozen=True)
class _Group:
    """Tensors that share factors, and the indices of the layers around them.

    The exponents are chosen for the edge from ``producer`` to ``consumer``, the first of each; a
    chain of layers has no other. ``read`` are the tensors whose ranges count.
    """

    tensors: frozenset[str]
    makers: tuple[int, ...]                 # convolutions and sums
    readers: tuple[int, ...]                # convolutions
    producer: int
    consumer: int
    read: tuple[str, ...]


def _groups(network: FloatNetwork, channelwise: bool) -> list[_Group]:
    """The groups that may have factors, in order.

    All layers around them are convolutions, pools and sums that nothing quantized before; one of
    the convolutions that read them mixes channels, or need not where ``channelwise``.
    """
    groups = []
    for tensors in dict.fromkeys(network.linked(PASSING_FACTORS).values()):
        around = [(index, layer) for index, layer in enumerate(network.layers)
                  if tensors & {*layer.inputs, layer.output}]
        makers = [(index, layer) for index, layer in around if layer.output in tensors
                  and isinstance(layer, FloatConv | FloatAdd)]
        readers = [(index, layer) for index, layer in around if isinstance(layer, FloatConv)
                   and layer.input in tensors]
        chosen = [(index, layer) for index, layer in readers if not layer.channelwise]
        if channelwise and not chosen:
            chosen = readers
        if not chosen or tensors & {network.input, network.output, *network.stored} or not all(
                isinstance(layer, (FloatConv, *PASSING_FACTORS))
                and getattr(layer, "weight_step", None) is None for _, layer in around):
            continue
        groups.append(_Group(
            tensors, tuple(index for index, _ in makers), tuple(index for index, _ in readers),
            next(index for index, layer in makers if isinstance(layer, FloatConv)), chosen[0][0],
            tuple(dict.fromkeys(layer.input for _, layer in chosen))))
    return groups


def _together(statistics: list[Statistics]) -> Statistics:
    """Statistics of several maps as of one: the widest ranges and largest powers."""
    if len(statistics) == 1:
        return statistics[0]
    return replace(statistics[0], lo=np.min([one.lo for one in statistics], axis=0),
                   hi=np.max([one.hi for one in statistics], axis=0),
                   square=np.max([one.square for one in statistics], axis=0))


def _edge(layers: list[FloatLayer], group: _Group, statistics: Statistics, carried: Calibration
          ) -> Edge:
    """What the choice of a group's factors needs; its own factors are 1 in ``layers``.

    ``carried`` has the statistics of the other tensors with their present factors.
    """
    producer, consumer = layers[group.producer], layers[group.consumer]
    assert isinstance(producer, FloatConv) and isinstance(consumer, FloatConv)
    after = next((layer for layer in layers[group.consumer + 1:] if isinstance(layer, FloatConv)),
                 None)
    importance = np.ones(len(consumer.bias))
    if consumer.channelwise and after is not None and not after.channelwise:
        sums = _column_sums(after)
        importance = sums if len(sums) == len(importance) else importance
    own = carried.tensors.get(producer.input)
    energy = np.ones(producer.input_of_output.max() + 1) if own is None else own.square
    return Edge(statistics, producer, consumer, importance,
                energy[producer.input_of_output].sum(axis=1))


def _column_sums(layer: FloatConv) -> np.ndarray:
    """Sum of the squared weights that read each input channel, (I,)."""
    sums = np.zeros(layer.input_of_output.max() + 1)
    np.add.at(sums, layer.input_of_output, (layer.weight ** 2).sum(axis=(2, 3)))
    return sums


def _scale(layers: list[FloatLayer], group: _Group, factor: np.ndarray) -> None:
    """Multiply channel i of all maps of a group by ``factor[i]``, in place."""
    for index in group.makers:
        layers[index] = _scale_outputs(layers[index], factor)
    for index in group.readers:
        layers[index] = _scale_inputs(layers[index], factor)


def _scale_outputs(layer: FloatLayer, factor: np.ndarray) -> FloatLayer:
    """The layer with output channel i multiplied by ``factor[i]``, its cap with it."""
    assert isinstance(layer, FloatConv | FloatAdd)
    caps = cap_of(layer.activation) * factor
    layer = replace(layer, activation=caps if np.isfinite(caps).all() else layer.activation)
    if isinstance(layer, FloatConv):
        return replace(layer, weight=layer.weight * factor[:, None, None, None],
                       bias=layer.bias * factor)
    return layer


def _scale_inputs(layer: FloatLayer, factor: np.ndarray) -> FloatConv:
    """The convolution that undoes ``factor`` on its input channels."""
    assert isinstance(layer, FloatConv)
    return replace(layer, weight=layer.weight / factor[layer.input_of_output][:, :, None, None])
