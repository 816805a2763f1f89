"""The integer model: what `quant` makes, `ref` gives meaning to and `hw` builds.

Every number that takes part in inference is an integer. Scales are kept beside the integers only to
turn results back into real numbers and to compare with the float network; no operator reads them.
Feature maps are ``(channels, height, width)``; a vector is ``(channels, 1, 1)``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from .ausn import AusnCode
from .errors import UserError

#: The shifts a requantizer may use; hardware holds one fixed shifter for each.
SHIFTS = (16, 20, 24, 28)
#: Significant bits of a requantization multiplier: it fits a 16x16 multiplier block.
MULTIPLIER_BITS = 15
#: Zeros written behind the operands of an `Add`: ratios reach 2^6 / 2 = 32, operands 14 bits and
#: a sign, so the products fit the requantizer's multiplier and their sum 32 bits.
GUARD_BITS = 6
#: Most bits of the network's result; every other tensor has 8 at most.
RESULT_BITS = 16
#: Most bits of the low plane of a wide input: it has room beside the sign of a signed 8-bit tensor.
LOW_BITS = 7
#: Rows and columns of the squares that `SpaceToDepth` turns into channels.
BLOCK = 2


@dataclass(frozen=True)
class Tensor:
    """Type of one activation tensor: integers of ``bits`` bits, real value ``q * scale``.

    The network's result may have up to `RESULT_BITS` bits, signed, where a convolution, an average
    pool or a sum makes it: no layer multiplies it, and a detector's confidences need them.
    ``scale`` is float64, a scalar array or one entry per channel; for the network's input the real
    value is ``(q - zero_point) * scale`` (see `Input`).
    """

    name: str
    shape: tuple[int, int, int]             # (channels, height, width)
    bits: int                               # 2..8; the network's result: 2..RESULT_BITS
    signed: bool
    scale: np.ndarray                       # () or (channels,), float64

    @property
    def lo(self) -> int:
        """Smallest representable integer."""
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def hi(self) -> int:
        """Largest representable integer."""
        return (1 << (self.bits - int(self.signed))) - 1


@dataclass(frozen=True)
class Input:
    """How the data file's integers ``x`` become the network's input tensor.

    ``q = clip((x * multiplier + 2^(shift-1)) >> shift, lo, hi)``; a natural 8-bit input has
    ``multiplier = 1, shift = 0`` and passes unchanged. ``x_scale`` and ``x_zero_point`` are the
    calibration file's, with the meaning of ONNX DequantizeLinear.

    An integer wider than the tensor travels as two planes. With ``k = low_bits`` larger than 0,
    ``v = clip((x * multiplier + 2^(shift-1)) >> shift, lo * 2^k, hi * 2^k + 2^k - 1)``; channel c
    of x gives channel ``2 c`` of the tensor ``v >> k`` and channel ``2 c + 1`` the k low bits of
    ``v``, which are never negative. The high plane's scale is ``2^k`` times the low plane's.
    """

    tensor: str                             # name of the tensor it feeds
    dtype: str                              # numpy dtype name of the data file's x, e.g. "int16"
    multiplier: int                         # 1 .. 2^15-1
    shift: int                              # 0 .. 28
    x_scale: np.ndarray                     # () or (channels,), float64
    x_zero_point: np.ndarray                # () or (channels,), float64
    shape: tuple[int, ...]                  # of one sample of x: the float network's own, batch off
    low_bits: int = 0                       # 0 (one plane) .. LOW_BITS


@dataclass(frozen=True)
class AccumulatorProof:
    """That ``acc + bias`` of a layer fits ``bits`` bits for every input its bounds allow.

    ``lo`` and ``hi`` are the extreme values over all channels; ``channel`` reaches the one of
    larger magnitude on ``witness``, an input window (channels / groups, kernel height, width).
    """

    bits: int
    lo: int
    hi: int
    channel: int
    witness: np.ndarray


@dataclass(frozen=True)
class Window:
    """Kernel, stride and padding of a sliding window; all in (vertical, horizontal) order."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)   # top, left, bottom, right (the ONNX order)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the result for a ``height`` x ``width`` input."""
        top, left, bottom, right = self.pads
        return ((height + top + bottom - self.kernel[0]) // self.stride[0] + 1,
                (width + left + right - self.kernel[1]) // self.stride[1] + 1)


@dataclass(frozen=True)
class Requantization:
    """``y = clip(((acc + bias) * multiplier + 2^(shift-1)) >> shift, lo, hi)`` per channel.

    Half-way results go up. There are none where the multiplier is odd and the shift larger than
    the accumulator's bits; a multiplier of few significant bits is these and a power of two.
    With a ``code`` the result is an unsigned byte and that code's level nearest to
    ``clip((acc + bias) * multiplier / 2^shift, lo, hi)``, half-way the larger: one rounding too.
    As integers: ``y = code.bytes[clip(((acc + bias) * multiplier) >> (shift-1), 2 lo, 2 hi)]``.
    With ``multiplier_negative`` (a leaky ReLU) it replaces ``multiplier`` where ``acc + bias`` is
    negative: the negative branch has a dyadic ratio of its own, with the same shift.
    """

    bias: np.ndarray                        # (O,) int64, accumulator units, 32 bits at most
    multiplier: np.ndarray                  # (O,) int64, 1 .. 2^15-1
    shift: int                              # one of SHIFTS
    lo: np.ndarray                          # (O,) int64
    hi: np.ndarray                          # (O,) int64
    multiplier_negative: np.ndarray | None = None   # (O,) int64, 0 .. 2^15-1
    code: AusnCode | None = None            # None: linear


@dataclass(frozen=True)
class Layer:
    """What every layer has; ``inputs`` and ``output`` name tensors of the model."""

    name: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True)
class Conv2d(Layer):
    """Convolution (dense, grouped, depthwise, pointwise) or, on a 1x1 map, a fully connected layer.

    ``weight`` holds the integers that are multiplied by, whatever their code: int8, or int16 where
    the code's largest needs it. Padding writes ``pad_value`` of each input channel (the input's
    zero point; 0 elsewhere).

    Where lanes of both kinds share a layer, ``coded`` says which output channels' weights are
    levels of ``weight_code``; those of the others are linear, of as many bits.
    """

    weight: np.ndarray                      # (O, I / groups, kernel height, kernel width)
    weight_bits: int                        # 2..8, of a stored weight
    window: Window
    groups: int
    pad_value: np.ndarray                   # (I,) int64
    requantization: Requantization
    proof: AccumulatorProof
    weight_code: AusnCode | None = None     # None: linear, narrow range
    coded: np.ndarray | None = None         # (O,) bool; None: all where there is a weight_code

    @property
    def depthwise(self) -> bool:
        """One input channel per output channel."""
        return self.groups > 1 and self.weight.shape[:2] == (self.groups, 1)

    @property
    def coded_channels(self) -> np.ndarray:
        """Which output channels' weights are levels of ``weight_code``, bool (O,)."""
        if self.coded is not None:
            return self.coded
        return np.full(len(self.weight), self.weight_code is not None)


@dataclass(frozen=True)
class AveragePool2d(Layer):
    """Integer sum over the window, then one requantization whose multiplier holds the 1/N.

    Padding counts as zeros, and N is the whole window (``count_include_pad``).
    """

    window: Window
    requantization: Requantization
    proof: AccumulatorProof


@dataclass(frozen=True)
class MaxPool2d(Layer):
    """Largest value of the window; padding never wins."""

    window: Window


@dataclass(frozen=True)
class Add(Layer):
    """Sum of two maps of one shape, brought to a common scale and rounded once.

    With the operands ``a`` and ``b`` (``inputs`` in order) and ``g`` = `GUARD_BITS`, per channel
    ``y = clip(((a << g) * multiplier[0] + (b << g) * multiplier[1] + 2^(shift-1)) >> shift,
    lo, hi)``. The shift is arithmetic and rounds half up; the sum fits 32 bits. A ``code`` does
    what it does in `Requantization`.
    """

    multiplier: np.ndarray                  # (2, C) int64, 1 .. 2^15-1
    shift: int                              # one of SHIFTS
    lo: np.ndarray                          # (C,) int64
    hi: np.ndarray                          # (C,) int64
    code: AusnCode | None = None            # None: linear


@dataclass(frozen=True)
class Concat(Layer):
    """Two or more maps of one height and width, channels one after the other, integers unchanged.

    Operands and result have one width and sign; every channel keeps its operand's scale.
    """


@dataclass(frozen=True)
class SpaceToDepth(Layer):
    """Squares of 2x2 pixels as channels (reorg), integers unchanged; height and width are even.

    The order is that of ONNX SpaceToDepth with blocksize 2:
    ``y[(2 * dy + dx) * C + c, row, column] = x[c, 2 * row + dy, 2 * column + dx]``.
    """


@dataclass(frozen=True)
class Model:
    """A whole integer network, in execution order."""

    name: str
    input: Input
    tensors: dict[str, Tensor]
    layers: tuple[Layer, ...]
    metadata: dict = field(default_factory=dict)   # settings and float accuracy; JSON values only

    @property
    def input_tensor(self) -> Tensor:
        """The type of the network's integer input."""
        return self.tensors[self.input.tensor]

    @property
    def sample_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of a sample of data-file integers, which planes hold once."""
        channels, height, width = self.input_tensor.shape
        return (channels // 2 if self.input.low_bits else channels, height, width)

    @property
    def output_tensor(self) -> Tensor:
        """The type of the last layer's result."""
        return self.tensors[self.layers[-1].output]

    def until(self, layer: str) -> Model:
        """The network that ends in the layer of that name; `UserError` when there is none."""
        names = [one.name for one in self.layers]
        if layer not in names:
            raise UserError(f"the network {self.name!r} has no layer {layer!r}; its layers are "
                            f"{', '.join(names)}")
        layers = self.layers[:names.index(layer) + 1]
        kept = {self.input.tensor, *(one.output for one in layers)}
        return replace(self, layers=layers, tensors={
            name: tensor for name, tensor in self.tensors.items() if name in kept})
