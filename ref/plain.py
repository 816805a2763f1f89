"""The definition: a model evaluated with Python integers and loops, nothing else.

Slow, and meant to be read beside ``ref.model``; the tests hold every faster evaluator to it.
"""

from __future__ import annotations

from .arithmetic import SHIFTWISE, Arithmetic
from .ausn import AusnCode
from .model import (
    BLOCK,
    GUARD_BITS,
    Add,
    AveragePool2d,
    Concat,
    Conv2d,
    Layer,
    MaxPool2d,
    Model,
    Requantization,
    SpaceToDepth,
    Window,
)

#: One sample's feature map as nested lists: channel, row, column.
Map = list[list[list[int]]]


def run_plain(model: Model, sample: Map) -> dict[str, Map]:
    """Every feature map for one sample of data-file integers (C, H, W), by tensor name."""
    maps = {model.input.tensor: quantize_input_plain(model, sample)}
    for layer in model.layers:
        maps[layer.output] = run_layer_plain(layer, *(maps[name] for name in layer.inputs))
    return maps


def quantize_input_plain(model: Model, sample: Map) -> Map:
    """The network's integer input, a wide one in two planes."""
    rule, tensor = model.input, model.input_tensor
    half, planes = (1 << rule.shift) >> 1, 1 << rule.low_bits
    channels = []
    for rows in sample:
        wide = [[clip((value * rule.multiplier + half) >> rule.shift, tensor.lo * planes,
                      tensor.hi * planes + planes - 1) for value in row] for row in rows]
        if rule.low_bits:
            channels += [[[value // planes for value in row] for row in wide],
                         [[value % planes for value in row] for row in wide]]
        else:
            channels.append(wide)
    return channels


def run_layer_plain(layer: Layer, *sources: Map) -> Map:
    """One layer on one sample's maps."""
    source = sources[0]
    match layer:
        case Add():
            return _sum(layer, sources[0], sources[1])
        case Concat():
            return [channel for one in sources for channel in one]
        case SpaceToDepth():
            return [[row[dx::BLOCK] for row in channel[dy::BLOCK]]
                    for dy in range(BLOCK) for dx in range(BLOCK) for channel in source]
        case Conv2d():
            outputs = len(layer.weight)
        case AveragePool2d() | MaxPool2d():
            outputs = len(source)
        case _:
            raise TypeError(f"layer {layer.name!r} is of unknown kind {type(layer).__name__}")
    rows, columns = layer.window.output_size(len(source[0]), len(source[0][0]))
    return [[[_value(layer, source, channel, row, column) for column in range(columns)]
             for row in range(rows)] for channel in range(outputs)]


def clip(value: int, lo: int, hi: int) -> int:
    """``value``, or the bound it passes."""
    return min(max(value, lo), hi)


def requantize_plain(accumulator: int, rule: Requantization, channel: int,
                     arithmetic: Arithmetic = SHIFTWISE) -> int:
    """One accumulator to one result."""
    value = accumulator + int(rule.bias[channel])
    if arithmetic.saturation_bits is not None:
        largest = 1 << (arithmetic.saturation_bits - 1)
        value = clip(value, -largest, largest - 1)
    if arithmetic.rectifies and int(rule.lo[channel]) == 0:
        value = max(value, 0)
    multiplier = rule.multiplier
    if value < 0 and rule.multiplier_negative is not None:
        multiplier = rule.multiplier_negative
    scaled = value * int(multiplier[channel])
    lo, hi = int(rule.lo[channel]), int(rule.hi[channel])
    if rule.code is not None:
        return level_plain(clip(scaled >> (rule.shift - 1), 2 * lo, 2 * hi), rule.code)
    rounded = (scaled + (0 if arithmetic.truncates else 1 << (rule.shift - 1))) >> rule.shift
    return clip(rounded, lo, hi)


def level_plain(halves: int, code: AusnCode) -> int:
    """The level of ``code`` for 0..510 halves: the leading one says how many bits are dropped.

    The kept bits and the exponent are one number whose order is that of the levels, so a rounding
    that overflows the kept bits counts the exponent up by itself.
    """
    fraction = 8 - code.largest.bit_length()                # zeros behind every level
    exponent = max(halves.bit_length() - fraction - code.superposition - 2, 0)
    dropped = fraction + exponent + 1
    kept = (halves + (1 << (dropped - 1))) >> dropped
    word = min((exponent << code.superposition) + kept, (1 << code.bits) - 1)
    field, gates = word >> code.superposition, word & ((1 << code.superposition) - 1)
    return ((min(field, 1) << code.superposition) + gates) << max(field - 1, 0) << fraction


def _sum(layer: Add, first: Map, second: Map) -> Map:
    """The sum of two maps."""
    def value(channel: int, a: int, b: int) -> int:
        total = ((a << GUARD_BITS) * int(layer.multiplier[0, channel])
                 + (b << GUARD_BITS) * int(layer.multiplier[1, channel]))
        lo, hi = int(layer.lo[channel]), int(layer.hi[channel])
        if layer.code is not None:
            return level_plain(clip(total >> (layer.shift - 1), 2 * lo, 2 * hi), layer.code)
        return clip((total + (1 << (layer.shift - 1))) >> layer.shift, lo, hi)

    return [[[value(channel, a, b) for a, b in zip(*rows, strict=True)]
             for rows in zip(*maps, strict=True)]
            for channel, maps in enumerate(zip(first, second, strict=True))]


def _value(layer: Conv2d | AveragePool2d | MaxPool2d, source: Map, channel: int, row: int,
           column: int) -> int:
    """One value of a layer's result."""
    taps = _positions(layer.window, row, column)
    if isinstance(layer, MaxPool2d):
        values = [_at(source[channel], y, x, None) for _, _, y, x in taps]
        return max(value for value in values if value is not None)
    accumulator = 0
    if isinstance(layer, AveragePool2d):
        for _, _, y, x in taps:
            accumulator += _at(source[channel], y, x, 0) or 0
    else:
        width = len(source) // layer.groups                       # input channels of a group
        first = channel // (len(layer.weight) // layer.groups) * width
        for i in range(width):
            for ky, kx, y, x in taps:
                value = _at(source[first + i], y, x, int(layer.pad_value[first + i])) or 0
                accumulator += value * int(layer.weight[channel, i, ky, kx])
    return requantize_plain(accumulator, layer.requantization, channel)


def _positions(window: Window, row: int, column: int) -> list[tuple[int, int, int, int]]:
    """Of each tap of a window: its place in the kernel and in the map (outside it: padding)."""
    top, left = window.pads[:2]
    return [(ky, kx, row * window.stride[0] + ky - top, column * window.stride[1] + kx - left)
            for ky in range(window.kernel[0]) for kx in range(window.kernel[1])]


def _at(channel: list[list[int]], y: int, x: int, padding: int | None) -> int | None:
    """The value at a position, or ``padding`` outside the map."""
    inside = 0 <= y < len(channel) and 0 <= x < len(channel[0])
    return channel[y][x] if inside else padding
