"""A layer's kernel: its constants in the order in which `kernels.c` reads them.

Feature maps are bytes (N, H, W, C); a signed value v is the byte v + 128.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from .arena import Arena
from .bounds import layer_operands
from .kernels import (
    CHUNK,
    Convolution,
    Depthwise,
    Frame,
    Maximum,
    Scale,
    Sum,
    address,
)
from .model import (
    BLOCK,
    GUARD_BITS,
    MULTIPLIER_BITS,
    SHIFTS,
    Add,
    AveragePool2d,
    Concat,
    Conv2d,
    Layer,
    MaxPool2d,
    Requantization,
    SpaceToDepth,
    Tensor,
    Window,
)

INT32 = np.iinfo(np.int32)
#: Taps or inputs that are multiplied and added together.
FOUR = 4


@dataclass(frozen=True)
class Kernel:
    """A layer: ``compute(arena, *maps)`` gives its result; all maps are of `Arena.new_map`."""

    compute: Callable[..., np.ndarray]
    constants: list[np.ndarray] = field(default_factory=list)   # to which its arguments point


class Unsupported(Exception):
    """A layer that the kernels do not compute."""


def offset_of(tensor: Tensor) -> int:
    """What is added to a tensor's values to make them bytes."""
    return 128 if tensor.signed else 0


def fits(rule: Requantization | Add, result: Tensor) -> bool:
    """Whether the clip bounds are within the type of the result, and that in a byte."""
    return bool(result.bits <= 8 and result.lo <= rule.lo.min() and rule.hi.max() <= result.hi
                and np.all(rule.lo <= rule.hi))


def layer_kernel(layer: Layer, sources: list[Tensor], result: Tensor, library: ctypes.CDLL
                 ) -> Kernel:
    """The kernel of a layer whose inputs and result have these types and are bytes.

    Raises `Unsupported` when the layer's constants are outside what the kernels hold.
    """
    _require(_result_shape(layer, sources) == result.shape)
    match layer:
        case Conv2d() if not layer.depthwise:
            return _convolution(layer, sources[0], result, library)
        case Conv2d() | AveragePool2d():
            return _depthwise(layer, sources[0], result, library)
        case MaxPool2d():
            return _maximum(layer, sources[0], result, library)
        case Add():
            return _sum(layer, sources, result, library)
        case Concat():
            return Kernel(lambda arena, *maps: np.concatenate(
                maps, axis=3, out=arena.new_map(len(maps[0]), result)))
        case SpaceToDepth():
            return Kernel(lambda arena, x: np.concatenate(
                [x[:, dy::BLOCK, dx::BLOCK] for dy in range(BLOCK) for dx in range(BLOCK)], axis=3,
                out=arena.new_map(len(x), result)))
    raise Unsupported


def _require(condition: bool) -> None:
    """Raise `Unsupported` unless ``condition`` holds."""
    if not condition:
        raise Unsupported


def _result_shape(layer: Layer, sources: list[Tensor]) -> tuple[int, ...]:
    """What a well-formed layer makes of inputs of these types, () where it is not well formed."""
    channels, height, width = sources[0].shape
    match layer:
        case Conv2d():
            outputs, inputs, *kernel = layer.weight.shape
            whole = inputs * layer.groups == channels and outputs % layer.groups == 0
            if not (whole and tuple(kernel) == layer.window.kernel):
                return ()
            return (outputs, *layer.window.output_size(height, width))
        case AveragePool2d() | MaxPool2d():
            return (channels, *layer.window.output_size(height, width))
        case Add():
            return sources[0].shape if sources[0].shape == sources[1].shape else ()
        case Concat():
            return (sum(source.shape[0] for source in sources), height, width)
        case SpaceToDepth():
            return (channels * BLOCK * BLOCK, height // BLOCK, width // BLOCK)
    return ()


class _Constants:
    """Arrays to which the arguments of a kernel point."""

    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []

    def keep(self, values: np.ndarray) -> int:
        """The address of a contiguous copy of ``values``."""
        self.arrays.append(np.array(values, order="C"))
        return address(self.arrays[-1])

    def words(self, values: np.ndarray) -> int:
        """The address of ``values`` modulo 2^32, 32 bits each."""
        return self.keep((values & 0xFFFFFFFF).astype(np.uint32))


class _Source:
    """How a kernel with a window finds its input's pixels: in a frame of padding, or as they are.

    Every ``phases``-th column together, so that what a tap meets along a row is contiguous for
    any stride. ``pitch`` and ``size`` are the bytes of a row and of a sample.
    """

    def __init__(self, window: Window, tensor: Tensor, padding: np.ndarray, phases: int
                 ) -> None:
        top, left, bottom, right = window.pads
        self.channels, height, width = tensor.shape
        self.kernel, self.phases = window.kernel, phases
        self.columns = -(-(left + width + right) // phases)
        self.pitch = phases * self.columns * self.channels
        self.size = (top + height + bottom) * self.pitch
        self.frame: Frame | None = None
        if any(window.pads) or phases > 1:
            self.blank = np.resize(padding.astype(np.uint8), self.pitch)
            self.frame = Frame(address(self.blank), self.channels, height, width, top, bottom,
                               left, right, phases)

    def taps(self) -> np.ndarray:
        """Bytes from a window's first pixel to each of its pixels, int64 (kernel h, kernel w)."""
        rows, columns = np.ogrid[:self.kernel[0], :self.kernel[1]]
        return rows * self.pitch + self.channels * (columns % self.phases * self.columns
                                                    + columns // self.phases)



def _windowed(library: ctypes.CDLL, function: str, arguments: ctypes.Structure,
              constants: _Constants, source: _Source, result: Tensor) -> Kernel:
    """The kernel of a layer with a window: the frame, where there is one, and the function."""
    call = getattr(library, function)

    def compute(arena: Arena, x: np.ndarray) -> np.ndarray:
        y = arena.new_map(len(x), result)
        if source.frame is None:
            call(arguments, len(x), address(x), address(y))
        else:
            framed = arena.take(len(x) * source.size)
            library.frame(source.frame, len(x), address(x), address(framed))
            call(arguments, len(x), address(framed), address(y))
            arena.give(framed)
        return y
    return Kernel(compute, constants.arrays)


def _convolution(layer: Conv2d, source: Tensor, result: Tensor, library: ctypes.CDLL) -> Kernel:
    """Any convolution as products of windows and a matrix."""
    weight, groups = layer.weight, layer.groups
    outputs, inputs = len(weight) // groups, weight.shape[1]
    bias = _checked_bias(layer, source, result)
    padding = layer.pad_value + offset_of(source)
    place = _Source(layer.window, source, padding, 1)
    # Inputs that follow each other in memory: of one tap, without groups of all taps of a row.
    runs = weight.reshape(groups, outputs, *weight.shape[1:]).transpose(0, 1, 3, 4, 2)
    starts = place.taps()
    if groups == 1:
        runs, starts = runs.reshape(groups, outputs, len(starts), -1), starts[:, :1]
    else:
        runs = runs.reshape(groups, outputs, -1, inputs)
    lanes = library.lanes()
    vectors, steps = -(-outputs // lanes), -(-runs.shape[3] // FOUR)
    padded = np.zeros((groups, vectors * lanes, runs.shape[2], steps * FOUR), np.int8)
    padded[:, :outputs, :, :runs.shape[3]] = runs
    packed = padded.reshape(groups, vectors, lanes, -1, FOUR)
    order = (0, 1, 3, 2, 4) if library.dot_products() else (0, 1, 3, 4, 2)
    offsets = starts.reshape(-1, 1) + np.arange(0, steps * FOUR, FOUR)

    def spread(values: np.ndarray) -> np.ndarray:
        padded = np.zeros((groups, vectors * lanes), np.int64)
        padded[:, :outputs] = values.reshape(groups, outputs)
        return padded

    constants = _Constants()
    down, right = layer.window.stride
    arguments = Convolution(
        _scale(layer.requantization, bias, result, spread, constants),
        constants.keep(packed.transpose(order)), constants.words(offsets), offsets.size, groups,
        inputs, outputs, vectors, *result.shape[1:], place.size, down * place.pitch,
        right * place.channels)
    return _windowed(library, "convolve", arguments, constants, place, result)


def _depthwise(layer: Conv2d | AveragePool2d, source: Tensor, result: Tensor,
               library: ctypes.CDLL) -> Kernel:
    """A convolution of single channels, the same for all pixels of a row at once."""
    channels = source.shape[0]
    weight, bias = layer_operands(layer, channels)[0], _checked_bias(layer, source, result)
    padding = np.zeros(channels, np.int64) if isinstance(layer, AveragePool2d) else layer.pad_value
    place = _Source(layer.window, source, padding + offset_of(source),
                    _phases(layer.window, result))
    blocks = channels // np.gcd(channels, CHUNK)
    taps = place.taps().ravel()
    quads = -(-len(taps) // FOUR)
    offsets = np.resize(taps, quads * FOUR)         # taps too many have weights 0
    factors = np.zeros((quads * FOUR, blocks * CHUNK), np.int8)
    for tap, values in enumerate(weight.reshape(channels, -1).T):
        factors[tap] = np.resize(values, blocks * CHUNK)
    dot_products = bool(library.dot_products())
    if dot_products:        # (quads, FOUR, blocks, 128 bits, sums, 4 lanes)
        packed = factors.reshape(quads, FOUR, blocks, 4, 4, 4).transpose(2, 0, 4, 3, 5, 1)
    else:
        packed = factors.reshape(quads, FOUR, blocks, CHUNK).transpose(2, 0, 1, 3)

    def spread(values: np.ndarray) -> np.ndarray:
        lanes = _along_rows(values)
        return lanes.reshape(blocks, 4, 4, 4).transpose(0, 2, 1, 3) if dot_products else lanes

    constants = _Constants()
    rows, columns = result.shape[1:]
    arguments = Depthwise(
        _scale(layer.requantization, bias, result, spread, constants), constants.keep(packed),
        constants.words(offsets), quads, blocks, rows, columns * channels, place.size,
        layer.window.stride[0] * place.pitch)
    return _windowed(library, "convolve_depthwise", arguments, constants, place, result)


def _maximum(layer: MaxPool2d, source: Tensor, result: Tensor, library: ctypes.CDLL) -> Kernel:
    """The largest bytes of windows; padding is 0, which no byte is below."""
    _require((source.bits, source.signed) == (result.bits, result.signed))
    channels, rows, columns = result.shape
    place = _Source(layer.window, source, np.zeros(channels), _phases(layer.window, result))
    constants = _Constants()
    arguments = Maximum(constants.words(place.taps()), place.taps().size, rows, columns * channels,
                        place.size, layer.window.stride[0] * place.pitch)
    return _windowed(library, "pool_maximum", arguments, constants, place, result)


def _sum(layer: Add, sources: list[Tensor], result: Tensor, library: ctypes.CDLL) -> Kernel:
    """The sum of two maps."""
    _require(fits(layer, result) and layer.shift in SHIFTS and _in_range(layer.multiplier, 1))
    constants, guarded = _Constants(), layer.multiplier << GUARD_BITS
    offsets = np.array([[offset_of(source)] for source in sources])
    half, shift, scale = _rounding(layer)
    rows = [*guarded, half - (guarded * offsets).sum(axis=0), layer.lo * scale, layer.hi * scale]
    blocks = len(_along_rows(layer.lo)) // CHUNK
    arguments = Sum(*(constants.words(_along_rows(row)) for row in rows),
                    _levels(layer, constants), blocks, shift, offset_of(result))

    def compute(arena: Arena, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        y = arena.new_map(len(first), result)
        library.add(arguments, y.size, address(first), address(second), address(y))
        return y
    return Kernel(compute, constants.arrays)


def _checked_bias(layer: Conv2d | AveragePool2d, source: Tensor, result: Tensor) -> np.ndarray:
    """Biases for inputs that are bytes, after checks that the kernels hold operands and sums."""
    rule = layer.requantization
    weight, bias, padding, _ = layer_operands(layer, source.shape[0])
    largest = max(-source.lo, source.hi)
    sums = np.abs(weight.astype(np.int64)).sum(axis=(1, 2, 3)) * largest + np.abs(bias)
    _require(bool(fits(rule, result) and rule.shift in SHIFTS and sums.max() <= INT32.max
                  and -128 <= weight.min() and weight.max() <= 127 and _in_range(rule.multiplier, 1)
                  and (rule.multiplier_negative is None or _in_range(rule.multiplier_negative, 0))
                  and (padding is None or _within(padding, source.lo, source.hi))))
    return bias - offset_of(source) * weight.astype(np.int64).sum(axis=(1, 2, 3))


def _scale(rule: Requantization, bias: np.ndarray, result: Tensor,
           spread: Callable[[np.ndarray], np.ndarray], constants: _Constants) -> Scale:
    """From sums to bytes; ``spread`` puts a value per channel in the order of a kernel's lanes.

    Results of sums within ``low`` and ``high`` are those within the clip bounds.
    """
    half, shift, scale = _rounding(rule)
    negative = rule.multiplier if rule.multiplier_negative is None else rule.multiplier_negative
    lo = (rule.lo * scale << shift) - half          # of the products, inclusive
    hi = (rule.hi * scale + 1 << shift) - half - 1
    _require(not np.any((hi < 0) & (negative == 0)))
    low = -(-lo // np.where(lo > 0, rule.multiplier, np.maximum(negative, 1)))
    low = np.where((lo <= 0) & (negative == 0), INT32.min, low)
    high = hi // np.where(hi < 0, np.maximum(negative, 1), rule.multiplier)
    _require(bool(low.max() <= INT32.max and INT32.min <= high.min()))
    width = 9 if rule.code is not None else 8
    drop = max(0, shift + width - 32)
    rounding = (half >> drop) + (offset_of(result) << (shift - drop))
    signed = None if rule.multiplier_negative is None else spread(rule.multiplier_negative)
    return Scale(*(constants.words(spread(values)) for values in (
        bias, np.maximum(low, INT32.min), np.minimum(high, INT32.max), rule.multiplier)),
        None if signed is None else constants.words(signed), _levels(rule, constants), rounding,
        drop, shift - drop)


def _rounding(rule: Requantization | Add) -> tuple[int, int, int]:
    """What is added to products, the shift after it, and in how many parts of one it counts.

    Levels are looked up for halves, rounded down.
    """
    return (0, rule.shift - 1, 2) if rule.code is not None else (1 << (rule.shift - 1), rule.shift,
                                                                 1)


def _levels(rule: Requantization | Add, constants: _Constants) -> int | None:
    """The address of the bytes for halves of one, where the rule has a code."""
    return None if rule.code is None else constants.keep(rule.code.bytes.astype(np.uint8))


def _along_rows(values: np.ndarray) -> np.ndarray:
    """Values per channel for whole blocks of `CHUNK` bytes, after which channels repeat."""
    return np.resize(values, int(np.lcm(len(values), CHUNK)))


def _phases(window: Window, result: Tensor) -> int:
    """Columns that taps of neighbouring windows are apart."""
    return window.stride[1] if result.shape[2] > 1 else 1


def _in_range(multiplier: np.ndarray, least: int) -> bool:
    """Whether multipliers have `MULTIPLIER_BITS` bits."""
    return _within(multiplier, least, (1 << MULTIPLIER_BITS) - 1)


def _within(values: np.ndarray, lo: int, hi: int) -> bool:
    """Whether all values are within the bounds."""
    return bool(lo <= values.min() and values.max() <= hi)
