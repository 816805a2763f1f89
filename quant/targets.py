"""What is asked of every tensor before rounding: width, sign and steps."""

from __future__ import annotations

import numpy as np

from ref.model import RESULT_BITS, Tensor

from .activation_codes import coded_steps
from .balance import Balanced
from .graph import PASSING, FloatAdd, FloatAveragePool, FloatConv, FloatLayer, FloatNetwork
from .kept import kept_map
from .layers import Target
from .presets import Settings
from .ranges import channel_ranges, tensor_range

#: Range of the class scores over the calibrated one, so that none saturates and ties with another.
SCORE_MARGIN = 1.1
#: The same for each channel of a detector's map, whose `RESULT_BITS` allow for it.
BOX_MARGIN = 2.0


def find_targets(balanced: Balanced, source: Tensor, settings: Settings) -> dict[str, Target]:
    """The target of every layer's result by tensor name; ``source`` is the network's input.

    Tensors that maxima, concatenations and squares to channels connect have one sign, one width
    (the largest asked of a layer that makes one) and, unless all that reads them takes channels
    apart, one step. Class scores have 8 bits. Where a map without a sign has a code its integers
    are bytes, and the width asked is that of the code. Maps that came quantized keep their steps.
    """
    network, calibration = balanced.network, balanced.calibration
    shapes, groups = network.shapes(), network.linked(PASSING)
    targets: dict[str, Target] = {}
    for layer in network.layers:
        statistics, group = calibration.tensors[layer.output], groups[layer.output]
        signed = any(network.signed(name, source.signed) for name in group)
        last = layer.output == network.output
        made = [other for other in network.layers if other.output in group
                and not isinstance(other, PASSING)]
        if source.name in group:
            bits = source.bits
        elif last and not isinstance(layer, PASSING):
            bits = 8
        else:
            bits = max(settings.of(other.name).activation_bits for other in made)
        boxes = last and isinstance(layer, FloatConv) and shapes[layer.output][1:] != (1, 1)
        if boxes and signed:
            bits = RESULT_BITS
        largest = (1 << (bits - int(signed))) - 1
        channels = len(statistics.lo)
        code = None
        coded = not (signed or last or source.name in group) and any(
            settings.of(other.name).activation_code == "ausn" for other in made)
        kept = None if source.name in group else kept_map(network, group, channels, signed)
        shared = last and not boxes
        if kept is not None:
            bits, step = kept
            shared = isinstance(layer, FloatConv | FloatAdd) and bool((step == step[0]).all())
        elif boxes:     # channels of a detector's map stand for unlike things: each has its step
            step = channel_ranges(statistics, "max", largest) * BOX_MARGIN / largest
        elif last:
            reach = float(max(statistics.hi.max(), -statistics.lo.min())) or 1.0
            step = np.full(channels, SCORE_MARGIN * reach / largest)
        elif coded:
            apart = _takes_channels_apart(network, group)
            maps = [statistics] if apart else [calibration.tensors[one.output] for one in made]
            lanes = any(settings.of(other.name).weight_code == "mixed" for other in made)
            code, found = coded_steps(maps, calibration.method, bits, apart, lanes)
            step, bits = np.broadcast_to(found, channels), 8
        elif _takes_channels_apart(network, group):
            step = channel_ranges(statistics, calibration.method, largest) / largest
        else:
            step = np.full(channels, max(tensor_range(calibration.tensors[other.output],
                                                      calibration.method, largest)
                                         for other in made or [layer]) / largest)
        targets[layer.output] = Target(layer.output, shapes[layer.output], bits, signed,
                                       code, shared, step,
                                       balanced.factor(layer.output), statistics)
    return targets


def _takes_channels_apart(network: FloatNetwork, group: frozenset[str]) -> bool:
    """Whether every reader of a group of tensors takes a step per channel at no cost.

    An average pool that ends the network, or whose mean is read by weights that came as integers,
    does not: its result has one step, its input's divided.
    """
    def kept(layer: FloatLayer) -> bool:
        return isinstance(layer, FloatConv) and layer.weight_step is not None

    readers = [layer for layer in network.layers if group & set(layer.inputs)
               and not isinstance(layer, PASSING)]
    return network.output not in group and bool(readers) and all(
        isinstance(layer, FloatAdd)
        or (isinstance(layer, FloatAveragePool) and layer.output != network.output
            and not any(map(kept, network.readers(layer.output))))
        or (isinstance(layer, FloatConv) and layer.channelwise) for layer in readers)
