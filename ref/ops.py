"""The operators of the integer model as pure functions on arrays (N, channels, rows, columns).

Sums of products run in floating point, for its speed, only where every partial sum is an integer
that the format holds exactly, which is computed, not assumed: the result is the integers' own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from .arithmetic import SHIFTWISE, Arithmetic
from .model import BLOCK, GUARD_BITS, Add, Requantization, Window

#: Values of a sum that stay in a core's own cache while the taps are added.
CACHED_VALUES = 1 << 16


def conv2d(x: np.ndarray, weight: np.ndarray, window: Window, pad_value: np.ndarray,
           groups: int) -> np.ndarray:
    """Accumulators of a convolution, without bias: int64 (N, O, rows, columns).

    ``x`` is (N, I, H, W) integers, ``weight`` (O, I / groups, kernel height, kernel width),
    ``pad_value`` (I,). Raises `OverflowError` when a sum could pass 2^53 in magnitude.
    """
    kind = _exact_float(x, weight, pad_value)
    padded = _pad(x, window, pad_value, kind)
    outputs = weight.shape[0]
    rows, columns = window.output_size(*x.shape[2:])
    if weight.shape[1] == 1 and groups > 1:
        return _depthwise(padded, weight.astype(kind), window, outputs // groups, rows, columns)
    samples, channels = x.shape[:2]
    taps = weight.shape[2] * weight.shape[3]
    if taps == 1:
        patches = next(_taps(padded, window, rows, columns))
    else:
        patches = np.empty((samples, channels, taps, rows, columns), kind)
        for index, tap in enumerate(_taps(padded, window, rows, columns)):
            patches[:, :, index] = tap
    patches = patches.reshape(samples, groups, channels // groups * taps, rows * columns)
    matrix = weight.astype(kind).reshape(groups, outputs // groups, -1)
    if rows * columns == 1:     # one matrix product instead of one per sample
        sums = np.matmul(patches[..., 0].transpose(1, 0, 2), matrix.transpose(0, 2, 1))
        sums = sums.transpose(1, 0, 2)
    else:
        sums = np.matmul(matrix, patches)
    return sums.reshape(samples, outputs, rows, columns).astype(np.int64)


def average_pool2d(x: np.ndarray, window: Window) -> np.ndarray:
    """Sums over the window, int64 (N, C, rows, columns); padding counts as zeros.

    The division by the window's size is the requantization's.
    """
    padded = _pad(x, window, np.zeros(x.shape[1], np.int64), np.int64)
    return sum(_taps(padded, window, *window.output_size(*x.shape[2:])),
               start=np.zeros((), np.int64))


def max_pool2d(x: np.ndarray, window: Window) -> np.ndarray:
    """Largest value of each window, int64 (N, C, rows, columns); padding never wins.

    Needs padding smaller than the kernel, so that every window holds a value of ``x``.
    """
    lowest = np.full(x.shape[1], np.iinfo(np.int64).min)
    padded = _pad(x, window, lowest, np.int64)
    taps = _taps(padded, window, *window.output_size(*x.shape[2:]))
    largest = next(taps).copy()
    for tap in taps:
        np.maximum(largest, tap, out=largest)
    return largest


def requantize(accumulator: np.ndarray, requantization: Requantization,
               arithmetic: Arithmetic = SHIFTWISE) -> np.ndarray:
    """Results of accumulators (N, O, ...) by the formula of `Requantization`, int64."""
    column = (-1,) + (1,) * (accumulator.ndim - 2)
    result = accumulator.astype(np.int64) + requantization.bias.reshape(column)
    if arithmetic.saturation_bits is not None:
        largest = 1 << (arithmetic.saturation_bits - 1)
        np.clip(result, -largest, largest - 1, out=result)
    if arithmetic.rectifies:
        rectified = requantization.lo.reshape(column) == 0
        np.maximum(result, 0, out=result, where=rectified)
    multiplier = requantization.multiplier.reshape(column)
    if requantization.multiplier_negative is not None:
        multiplier = np.where(result < 0, requantization.multiplier_negative.reshape(column),
                              multiplier)
    result *= multiplier
    return _rounded(result, requantization, arithmetic)


def add(first: np.ndarray, second: np.ndarray, layer: Add, arithmetic: Arithmetic = SHIFTWISE
        ) -> np.ndarray:
    """The sum of two maps (N, C, ...) of integers by the formula of `Add`, int64."""
    column = (-1,) + (1,) * (first.ndim - 2)
    one, other = (values.astype(np.int64) * (ratio.reshape(column) << GUARD_BITS)
                  for values, ratio in zip((first, second), layer.multiplier, strict=True))
    return _rounded(one + other, layer, arithmetic)


def space_to_depth(x: np.ndarray) -> np.ndarray:
    """The map (N, C, H, W) as (N, 4 C, H / 2, W / 2) in the order of `SpaceToDepth`."""
    return np.concatenate([x[:, :, dy::BLOCK, dx::BLOCK]
                           for dy in range(BLOCK) for dx in range(BLOCK)], axis=1)


def split_planes(x: np.ndarray, low_bits: int) -> np.ndarray:
    """Integers (N, C, H, W) as (N, 2 C, H, W): of each channel its high part, then ``low_bits``."""
    samples, channels, *size = x.shape
    planes = np.stack([x >> low_bits, x & ((1 << low_bits) - 1)], axis=2)
    return planes.reshape(samples, 2 * channels, *size)


def _rounded(product: np.ndarray, rule: Requantization | Add, arithmetic: Arithmetic
             ) -> np.ndarray:
    """The formulas of `Requantization` after its product, without and with a code.

    Channels are on axis 1; ``product`` is overwritten.
    """
    column = (-1,) + (1,) * (product.ndim - 2)
    lo, hi = rule.lo.reshape(column), rule.hi.reshape(column)
    if rule.code is not None:
        product >>= rule.shift - 1
        return rule.code.bytes[np.clip(product, 2 * lo, 2 * hi, out=product)]
    product += arithmetic.rounding_constant(rule.shift)
    product >>= rule.shift
    return np.clip(product, lo, hi, out=product)


def _exact_float(x: np.ndarray, weight: np.ndarray, pad_value: np.ndarray) -> type[np.floating]:
    """The narrowest float type in which every partial sum of products is an exact integer."""
    largest = max((abs(int(bound)) for values in (x, pad_value) if values.size
                   for bound in (values.min(), values.max())), default=0)
    weights = np.abs(weight.astype(np.int64)).reshape(weight.shape[0], -1).sum(axis=1)
    bound = largest * int(weights.max())
    if bound < 1 << 24 and largest < 1 << 24:
        return np.float32
    if bound < 1 << 53 and largest < 1 << 53:
        return np.float64
    raise OverflowError(f"a sum of products can reach {bound}, beyond the exact range of 2^53")


def _pad(x: np.ndarray, window: Window, value: np.ndarray, dtype: type[np.generic]) -> np.ndarray:
    """``x`` as ``dtype`` inside a frame of ``value`` (one per channel)."""
    top, left, bottom, right = window.pads
    samples, channels, height, width = x.shape
    if not any(window.pads):
        return x.astype(dtype)
    padded = np.empty((samples, channels, top + height + bottom, left + width + right), dtype)
    padded[...] = value.reshape(-1, 1, 1)
    padded[:, :, top:top + height, left:left + width] = x
    return padded


def _taps(padded: np.ndarray, window: Window, rows: int, columns: int) -> Iterator[np.ndarray]:
    """For each tap of the window, row by row, the view of the values it meets."""
    down, right = window.stride
    for y in range(window.kernel[0]):
        for x in range(window.kernel[1]):
            yield padded[:, :, y:y + (rows - 1) * down + 1:down,
                         x:x + (columns - 1) * right + 1:right]


def _depthwise(padded: np.ndarray, weight: np.ndarray, window: Window, multiplier: int, rows: int,
               columns: int) -> np.ndarray:
    """One input channel per output channel; ``multiplier`` output channels share one.

    With stride 1 a whole padded channel is one row of numbers: what a tap meets is that row from
    some place on, and the sums at positions between output rows are thrown away.
    """
    if multiplier > 1:
        padded = np.repeat(padded, multiplier, axis=1)
    samples, channels, _, width = padded.shape
    factors = np.tile(weight.reshape(channels, -1), (samples, 1))
    if window.stride != (1, 1):
        sums = np.zeros((samples, channels, rows, columns), padded.dtype)
        products = np.empty_like(sums)
        for index, tap in enumerate(_taps(padded, window, rows, columns)):
            sums += np.multiply(tap, factors[:channels, index].reshape(-1, 1, 1), out=products)
        return sums.astype(np.int64)
    lines = padded.reshape(samples * channels, -1)
    length = (rows - 1) * width + columns
    sums = np.zeros((len(lines), rows * width), padded.dtype)
    step = max(1, CACHED_VALUES // length)
    scratch = np.empty((step, length), padded.dtype)
    for start in range(0, len(lines), step):
        part = slice(start, start + step)
        total = sums[part, :length]
        products = scratch[:len(total)]
        for index in range(factors.shape[1]):
            y, x = divmod(index, window.kernel[1])
            place = y * width + x
            total += np.multiply(lines[part, place:place + length], factors[part, index, None],
                                 out=products)
    return sums.reshape(samples, channels, rows, width)[..., :columns].astype(np.int64)
