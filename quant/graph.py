"""The float network after import: convolutions and pools in a chain, everything else fused away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ref.model import Window

#: What follows a convolution: nothing, ReLU, or ReLU with a cap (one number or one per channel).
Activation = None | Literal["relu"] | float | np.ndarray


@dataclass(frozen=True, eq=False)
class FloatLayer:
    """What every layer has; ``input`` and ``output`` are tensor names of the ONNX file.

    ``output`` is the tensor after the fused normalization and activation.
    """

    name: str
    input: str
    output: str
    window: Window


@dataclass(frozen=True, eq=False)
class FloatConv(FloatLayer):
    """Convolution with zero padding; a fully connected layer has the kernel of its whole map."""

    weight: np.ndarray                      # (O, I / groups, kernel height, kernel width) float64
    bias: np.ndarray                        # (O,) float64
    groups: int
    activation: Activation

    @property
    def channelwise(self) -> bool:
        """Each output channel reads one input channel (depthwise, or a network of one channel)."""
        return self.weight.shape[1] == 1

    @property
    def caps(self) -> np.ndarray:
        """Upper limit of each output channel, (O,); infinite without a capped activation."""
        cap = np.inf if self.activation is None or isinstance(self.activation, str) \
            else self.activation
        return np.broadcast_to(np.asarray(cap, np.float64), self.bias.shape)

    @property
    def input_of_output(self) -> np.ndarray:
        """Input channels each output channel reads, int64 (O, I / groups)."""
        outputs, fan_in = self.weight.shape[:2]
        first = np.arange(outputs) // (outputs // self.groups) * fan_in
        return first[:, None] + np.arange(fan_in)


@dataclass(frozen=True, eq=False)
class FloatAveragePool(FloatLayer):
    """Mean over the window; padding counts as zeros."""


@dataclass(frozen=True, eq=False)
class FloatMaxPool(FloatLayer):
    """Largest value of the window; padding never wins."""


@dataclass(frozen=True, eq=False)
class FloatNetwork:
    """A chain of layers from one input to one output.

    The first layer reads ``real * input_gain + input_offset`` (per channel: a normalization that
    precedes the first convolution), and its padding is zero in that result.
    """

    name: str
    input: str
    input_shape: tuple[int, int, int]       # (C, H, W)
    own_input_shape: tuple[int, ...]        # the shape in the ONNX file, without the batch
    input_gain: np.ndarray                  # (C,) float64
    input_offset: np.ndarray                # (C,) float64
    layers: tuple[FloatLayer, ...]

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
            shapes[layer.output] = (channels, *layer.window.output_size(height, width))
        return shapes

    def consumer(self, tensor: str) -> FloatLayer | None:
        """The layer that reads ``tensor``; None for the network's output."""
        return next((layer for layer in self.layers if layer.input == tensor), None)


def is_rectified(activation: Activation) -> bool:
    """Whether an activation leaves no negative value."""
    return activation is not None
