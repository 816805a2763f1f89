"""Integer layers as the engine sees them: one kind of step, in stored bytes."""

from dataclasses import dataclass, replace

import numpy as np

from ref.errors import UserError
from ref.model import SHIFTS, AveragePool2d, Conv2d, Layer, MaxPool2d, Model, Tensor, Window

from .config import EngineConfig
from .program import STORED_OFFSET


@dataclass(frozen=True)
class Step:
    """One pass of the engine over a feature map, in stored (unsigned) activations.

    ``weight`` is (O, I, kernel height, kernel width) for dense steps, (O, 1, kernel height, kernel
    width) for depthwise ones; with ``hold`` all its entries are equal. ``pad`` is the stored
    padding of each input channel.
    """

    name: str
    source: str                          # tensor read
    target: str                          # tensor written
    shape: tuple[int, int, int]          # input (channels, height, width)
    result: tuple[int, int, int]         # output (channels, height, width)
    window: Window
    weight: np.ndarray
    depthwise: bool
    maximum: bool
    hold: bool
    pad: np.ndarray                      # (I,)
    bias: np.ndarray                     # (O,)
    multiplier: np.ndarray               # (O,)
    shift: int
    lo: int                              # stored
    hi: np.ndarray                       # (O,), stored
    signed_output: bool
    macs: int                            # products that count as work
    strips: int = 1                      # that a word of the source holds (`hw.strips`)
    gathers: bool = False                # results are not in strips though the source is

    def transposed(self) -> "Step":
        """The same step on maps with rows and columns exchanged."""
        window = self.window
        top, left, bottom, right = window.pads
        return replace(
            self,
            shape=(self.shape[0], self.shape[2], self.shape[1]),
            result=(self.result[0], self.result[2], self.result[1]),
            window=Window(window.kernel[::-1], window.stride[::-1], (left, top, right, bottom)),
            weight=self.weight.transpose(0, 1, 3, 2))

    @property
    def pointwise(self) -> bool:
        """One tap, stride 1, no padding."""
        window = self.window
        return (window.kernel, window.stride, window.pads) == ((1, 1), (1, 1), (0, 0, 0, 0))

    def flattened(self, limit: int) -> "Step":
        """A pointwise step of stride 1 on rows as long as ``limit`` allows; any other unchanged."""
        if not self.pointwise or self.gathers:
            return self
        channels, height, width = self.shape
        lines = max(lines for lines in range(1, height + 1)
                    if height % lines == 0 and (lines == 1 or lines * width <= limit))
        folded = (height // lines, width * lines)
        return replace(self, shape=(channels, *folded), result=(self.result[0], *folded))


def lower(model: Model, config: EngineConfig) -> list[Step]:
    """The steps of a model, in order. Raises `UserError` naming a layer the engine cannot run."""
    return [lower_layer(layer, model, config) for layer in model.layers]


def lower_layer(layer: Layer, model: Model, config: EngineConfig) -> Step:
    """One layer as a step."""
    source, target = model.tensors[layer.inputs[0]], model.tensors[layer.output]
    if isinstance(layer, MaxPool2d):
        return lower_max_pool(layer, source, target)
    if not isinstance(layer, (Conv2d, AveragePool2d)):
        raise UserError(f"layer {layer.name}: the engine does not run {type(layer).__name__} "
                        "layers; replace it in the network")
    if target.bits > 8:
        raise UserError(f"layer {layer.name}: the engine does not write results of {target.bits} "
                        "bits; end the network in a vector of class scores")
    if layer.proof.bits > config.accumulator_bits:
        raise UserError(
            f"layer {layer.name} needs an accumulator of {layer.proof.bits} bits and the engine "
            f"has {config.accumulator_bits}; use fewer weight bits (--preset)")
    offset = STORED_OFFSET if source.signed else 0
    if isinstance(layer, Conv2d):
        if largest_weight(layer) > config.largest_weight:
            raise UserError(
                f"layer {layer.name} has weights up to {largest_weight(layer)} and the engine "
                f"multiplies by integers up to {config.largest_weight}; use a linear preset of "
                f"{config.weight_bits} weight bits or fewer (--preset)")
        weight, depthwise = expand_groups(layer), layer.depthwise
        pad = layer.pad_value + offset
        macs = target.shape[1] * target.shape[2] * layer.weight.size
    else:
        weight = np.ones((source.shape[0], 1, *layer.window.kernel), np.int64)
        depthwise, pad, macs = True, np.full(source.shape[0], offset), 0
    constants = layer.requantization
    if constants.multiplier_negative is not None:
        raise UserError(f"layer {layer.name}: the engine does not run leaky ReLU; use ReLU")
    if constants.code is not None:
        raise UserError(f"layer {layer.name}: the engine does not round results to AUSN levels; "
                        "use linear activations")
    if np.any(constants.lo != constants.lo[0]):
        raise UserError(f"layer {layer.name}: the lower clip bound must be the same for all "
                        "channels")
    stored = STORED_OFFSET if target.signed else 0
    return Step(
        name=layer.name, source=source.name, target=target.name,
        shape=source.shape, result=target.shape, window=layer.window,
        weight=weight.astype(np.int64), depthwise=depthwise, maximum=False,
        hold=isinstance(layer, AveragePool2d), pad=pad,
        bias=constants.bias - offset * weight.sum((1, 2, 3), dtype=np.int64),
        multiplier=constants.multiplier, shift=constants.shift,
        lo=int(constants.lo[0]) + stored, hi=constants.hi + stored,
        signed_output=target.signed, macs=macs)


def largest_weight(layer: Conv2d) -> int:
    """The largest magnitude of a layer's weights."""
    return int(np.abs(layer.weight.astype(np.int64)).max())


def lower_max_pool(layer: MaxPool2d, source: Tensor, target: Tensor) -> Step:
    """Max pooling: products with 2, and a scale of one half, 2^15 / 2^16.

    Stored bytes keep the order of the values they stand for, so signed maps need nothing else;
    padding is the smallest byte.
    """
    channels = source.shape[0]
    return Step(
        name=layer.name, source=source.name, target=target.name,
        shape=source.shape, result=target.shape, window=layer.window,
        weight=np.full((channels, 1, *layer.window.kernel), 2), depthwise=True, maximum=True,
        hold=True, pad=np.zeros(channels, np.int64), bias=np.zeros(channels, np.int64),
        multiplier=np.full(channels, 1 << 15), shift=SHIFTS[0], lo=0, hi=np.full(channels, 255),
        signed_output=False, macs=0)


def expand_groups(layer: Conv2d) -> np.ndarray:
    """Weights (O, I, kh, kw) of a grouped convolution as a dense one; depthwise unchanged."""
    if layer.groups == 1 or layer.depthwise:
        return layer.weight
    outputs, inputs = layer.weight.shape[:2]
    dense = np.zeros((outputs, inputs * layer.groups, *layer.weight.shape[2:]), np.int64)
    for group in range(layer.groups):
        rows = slice(group * outputs // layer.groups, (group + 1) * outputs // layer.groups)
        dense[rows, group * inputs:(group + 1) * inputs] = layer.weight[rows]
    return dense
