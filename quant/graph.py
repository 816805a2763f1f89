"""The float network after import: a graph of few kinds of layers, everything else fused away."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from ref.model import BLOCK, Window


@dataclass(frozen=True)
class Leaky:
    """Leaky ReLU: negative values times ``slope``, which is larger than 0."""

    slope: float | np.ndarray               # one number or one per channel


#: What follows a layer: nothing, ReLU, ReLU with a cap (one number or one per channel), leaky ReLU.
Activation = None | Literal["relu"] | float | np.ndarray | Leaky


@dataclass(frozen=True, eq=False)
class FloatLayer:
    """What every layer has; ``inputs`` and ``output`` are tensor names of the ONNX file.

    ``output`` is the tensor after the fused normalization and activation.
    """

    name: str
    inputs: tuple[str, ...]
    output: str

    @property
    def input(self) -> str:
        """The first tensor it reads; for most kinds the only one."""
        return self.inputs[0]


@dataclass(frozen=True, eq=False)
class FloatWindowed(FloatLayer):
    """A layer that slides a window over its map."""

    window: Window


@dataclass(frozen=True, eq=False)
class FloatConv(FloatWindowed):
    """Convolution with zero padding; a fully connected layer has the kernel of its whole map."""

    weight: np.ndarray                      # (O, I / groups, kernel height, kernel width) float64
    bias: np.ndarray                        # (O,) float64
    groups: int
    activation: Activation
    #: (O,) float64: the scale of weights that came as integers, which are kept; None: free weights.
    weight_step: np.ndarray | None = None

    @property
    def channelwise(self) -> bool:
        """Each output channel reads one input channel (depthwise, or a network of one channel)."""
        return self.weight.shape[1] == 1

    @property
    def depthwise(self) -> bool:
        """Output channel i reads input channel i alone."""
        return self.channelwise and len(self.weight) == self.groups

    @property
    def caps(self) -> np.ndarray:
        """Upper limit of each output channel, (O,); infinite without a capped activation."""
        return np.broadcast_to(cap_of(self.activation), self.bias.shape)

    @property
    def input_of_output(self) -> np.ndarray:
        """Input channels each output channel reads, int64 (O, I / groups)."""
        outputs, fan_in = self.weight.shape[:2]
        first = np.arange(outputs) // (outputs // self.groups) * fan_in
        return first[:, None] + np.arange(fan_in)


@dataclass(frozen=True, eq=False)
class FloatAveragePool(FloatWindowed):
    """Mean over the window; padding counts as zeros."""


@dataclass(frozen=True, eq=False)
class FloatMaxPool(FloatWindowed):
    """Largest value of the window; padding never wins."""


@dataclass(frozen=True, eq=False)
class FloatAdd(FloatLayer):
    """Sum of two maps of one shape; its activation is none or a rectifier, never leaky."""

    activation: Activation


@dataclass(frozen=True, eq=False)
class FloatConcat(FloatLayer):
    """Maps of one height and width, channels one after the other."""


@dataclass(frozen=True, eq=False)
class FloatSpaceToDepth(FloatLayer):
    """Squares of 2x2 pixels as channels, in the order of `ref.model.SpaceToDepth`."""


#: Layers whose result holds values of their inputs and nothing else: scales pass through them.
PASSING = (FloatMaxPool, FloatConcat, FloatSpaceToDepth)


@dataclass(frozen=True, eq=False)
class StoredMap:
    """How an already quantized file rounds a map: to integers ``lo..hi`` times ``step``."""

    step: np.ndarray                        # (C,) float64
    lo: int
    hi: int

    @property
    def signed(self) -> bool:
        """Whether the integers need a sign."""
        return self.lo < 0

    @property
    def bits(self) -> int:
        """Bits of the integers, 2 at least."""
        return max(2, self.hi.bit_length() + int(self.signed))


@dataclass(frozen=True, eq=False)
class FloatNetwork:
    """Layers in execution order, from one input to one output, which the last layer makes.

    Layers read the input as ``real * input_gain + input_offset`` (per channel: a normalization
    that precedes the first convolution), and their padding is zero in that result. ``stored`` has,
    by tensor name, the maps whose scales an already quantized file gives.
    """

    name: str
    input: str
    input_shape: tuple[int, int, int]       # (C, H, W)
    own_input_shape: tuple[int, ...]        # the shape in the ONNX file, without the batch
    input_gain: np.ndarray                  # (C,) float64
    input_offset: np.ndarray                # (C,) float64
    layers: tuple[FloatLayer, ...]
    stored: dict[str, StoredMap] = field(default_factory=dict)

    @property
    def output(self) -> str:
        """Name of the last layer's result."""
        return self.layers[-1].output

    def shapes(self) -> dict[str, tuple[int, int, int]]:
        """(channels, height, width) of every tensor by name."""
        shapes = {self.input: self.input_shape}
        for layer in self.layers:
            channels, height, width = shapes[layer.input]
            if isinstance(layer, FloatConv):
                channels = len(layer.bias)
            elif isinstance(layer, FloatConcat):
                channels = sum(shapes[name][0] for name in layer.inputs)
            elif isinstance(layer, FloatSpaceToDepth):
                channels, height, width = channels * BLOCK ** 2, height // BLOCK, width // BLOCK
            if isinstance(layer, FloatWindowed):
                height, width = layer.window.output_size(height, width)
            shapes[layer.output] = (channels, height, width)
        return shapes

    def with_first_convolution(self) -> FloatNetwork:
        """The same network with an identity between the input and all that reads it."""
        name, channels = f"{self.input}_normalized", self.input_shape[0]
        identity = FloatConv(name, (self.input,), name, Window((1, 1)),
                             np.ones((channels, 1, 1, 1)), np.zeros(channels), channels, None)
        layers = (replace(layer, inputs=tuple(name if tensor == self.input else tensor
                                              for tensor in layer.inputs))
                  for layer in self.layers)
        return replace(self, layers=(identity, *layers))

    def readers(self, tensor: str) -> list[FloatLayer]:
        """The layers that read ``tensor``, in order; none for the network's output."""
        return [layer for layer in self.layers if tensor in layer.inputs]

    def linked(self, kinds: tuple[type[FloatLayer], ...], depthwise: bool = False
               ) -> dict[str, frozenset[str]]:
        """For each tensor the set of those that layers of ``kinds`` connect with it, itself too.

        Where ``depthwise``, such convolutions do as well.
        """
        sets = {name: frozenset([name]) for name in
                (self.input, *(layer.output for layer in self.layers))}
        for layer in self.layers:
            if isinstance(layer, kinds) or (
                    depthwise and isinstance(layer, FloatConv) and layer.depthwise):
                joined = frozenset().union(*(sets[name] for name in (*layer.inputs, layer.output)))
                sets |= dict.fromkeys(joined, joined)
        return sets

    def signed(self, tensor: str, signed_input: bool) -> bool:
        """Whether ``tensor`` can hold negative values when the input can or cannot."""
        layer = next((layer for layer in self.layers if layer.output == tensor), None)
        if layer is None:
            return signed_input
        if isinstance(layer, FloatConv):
            return not is_rectified(layer.activation)
        if isinstance(layer, FloatAdd) and is_rectified(layer.activation):
            return False
        return any(self.signed(name, signed_input) for name in layer.inputs)


def is_rectified(activation: Activation) -> bool:
    """Whether an activation leaves no negative value."""
    return activation is not None and not isinstance(activation, Leaky)


def cap_of(activation: Activation) -> np.ndarray:
    """The upper limit of an activation, () or one per channel; infinite where there is none."""
    capped = activation is not None and not isinstance(activation, str | Leaky)
    return np.asarray(activation if capped else np.inf, np.float64)
