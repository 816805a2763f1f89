"""One pass of the engine over feature maps: what a layer of the integer model becomes."""

from dataclasses import dataclass, replace

import numpy as np

from ref.model import SHIFTS, Tensor, Window

from .program import Placement


@dataclass(frozen=True)
class Map:
    """A feature map in memory: a tensor of the model, or one made on the way to such a tensor.

    It may lie within another one, ``within``, ``group`` words behind the first of each pixel.
    """

    shape: tuple[int, int, int]          # (channels, height, width)
    signed: bool
    within: str | None = None
    group: int = 0

    def placed(self, tensor: str, address: int, channels: int, transposed: bool, strips: int
               ) -> Placement:
        """Where it lies, in words of ``channels``."""
        return Placement(tensor, address, self.shape, self.signed, channels, transposed, strips)


@dataclass(frozen=True)
class Step:
    """One pass of the engine, in stored (unsigned) activations.

    ``weight`` is (O, I, kernel height, kernel width) for dense steps and (O, K, kernel height,
    kernel width) for depthwise ones, where each word read makes K products in turn. A depthwise
    step of a 1x1 kernel may read two maps of one shape, each with K / 2 of the weights. With
    ``hold`` all weights are equal. ``pad`` is the stored padding of each input channel; paddings of
    the window may be negative.
    """

    name: str                            # of the layer it belongs to
    sources: tuple[str, ...]             # the map read, or a sum's two
    target: str                          # map written
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
    multiplier_negative: np.ndarray | None = None   # (O,), for negative sums; None: the same
    group: int = 0                       # words of a target's pixel in front of those written
    strips: int = 1                      # that a word of the source holds (`hw.strips`)
    gathers: bool = False                # results are not in strips though the source is
    byte_input: bool = False             # of an engine of codes: the map read holds bytes
    byte_result: bool = False            # ... the one written
    shifts: np.ndarray | None = None     # ... (O,), of its own in place of multiplier and shift

    @property
    def kernel(self) -> tuple[int, int]:
        """Rows and columns of a patch that a pixel needs; each of two maps gives a row."""
        rows, columns = self.window.kernel
        return rows * len(self.sources), columns

    @property
    def repeats(self) -> int:
        """Products that a depthwise step makes of each word read."""
        return self.weight.shape[1] // len(self.sources)

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


@dataclass(frozen=True)
class Lowering:
    """A model's steps, in order, and the maps they read and write.

    A layer has any number of steps: none where its operands are made in their place.
    """

    steps: list[Step]
    maps: dict[str, Map]

    def whole(self, name: str) -> tuple[str, int]:
        """The map that a map lies within, however deep, and how many words in; or itself and 0."""
        one = self.maps[name]
        if one.within is None:
            return name, 0
        outermost, group = self.whole(one.within)
        return outermost, group + one.group

    def transposed(self) -> "Lowering":
        """The same with rows and columns of all maps exchanged."""
        return replace(self, steps=[step.transposed() for step in self.steps])


def unchanged(name: str, source: Tensor, target: str, window: Window, *, maximum: bool = False,
              group: int = 0) -> Step:
    """Bytes as they are, one of each window or with ``maximum`` its largest.

    Products with 2, and a scale of one half, 2^15 / 2^16. Stored bytes keep the order of the values
    they stand for, so signed maps need nothing else; padding is the smallest byte.
    """
    channels, height, width = source.shape
    return Step(
        name=name, sources=(source.name,), target=target,
        shape=source.shape, result=(channels, *window.output_size(height, width)), window=window,
        weight=np.full((channels, 1, *window.kernel), 2), depthwise=True, maximum=maximum,
        hold=True, pad=np.zeros(channels, np.int64), bias=np.zeros(channels, np.int64),
        multiplier=np.full(channels, 1 << 15), shift=SHIFTS[0], lo=0, hi=np.full(channels, 255),
        signed_output=False, macs=0, group=group)


def pick(name: str, source: str, target: str, shape: tuple[int, int, int], channels: np.ndarray
         ) -> Step:
    """A pointwise step: channel c of the target is channel ``channels[c]`` of a map of ``shape``.

    Bytes stay as they are, by the scale of `unchanged`.
    """
    outputs = len(channels)
    weight = np.zeros((outputs, shape[0], 1, 1), np.int64)
    weight[np.arange(outputs), channels] = 2
    return Step(
        name=name, sources=(source,), target=target, shape=shape, result=(outputs, *shape[1:]),
        window=Window((1, 1)), weight=weight, depthwise=False, maximum=False, hold=False,
        pad=np.zeros(shape[0], np.int64), bias=np.zeros(outputs, np.int64),
        multiplier=np.full(outputs, 1 << 15), shift=SHIFTS[0], lo=0, hi=np.full(outputs, 255),
        signed_output=False, macs=0)
