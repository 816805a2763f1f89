"""Whether integers of a float graph differ from the model's only where float rounding explains it.

Each layer is judged alone, on the integers that the graph itself gave it. Before its rounding the
integer layer has an exact value, a multiple of 2^-shift; the float graph has it with float32's
errors, at most `ULP` of all magnitudes it adds up for each operation. The results may differ, by
one, only where the exact value is that close to half way between two integers.
"""

from __future__ import annotations

import numpy as np

from ref import Add, AveragePool2d, Conv2d, Model
from ref.layers import quantize_input, run_layer
from ref.model import GUARD_BITS
from ref.ops import average_pool2d, conv2d

#: Relative error of one float32 operation.
ULP = 2.0 ** -24
#: Operations besides the additions of a sum: scales, products, bias, slope, the result's scale.
OTHERS = 8


def share_of_differences(model: Model, x: np.ndarray, integers: dict[str, np.ndarray]) -> float:
    """The share of ``integers`` (by tensor name, (N, C, H, W)) that differ, each layer alone.

    Asserts that they differ by one and that rounding explains it.
    """
    rule, given = model.input, quantize_input(model, x)
    ratio = rule.multiplier * 2.0 ** -rule.shift
    exact = x.reshape(len(x), *model.sample_shape).astype(np.float64) * ratio
    reach = (np.abs(exact) + np.abs(rule.x_zero_point).max() * ratio) * OTHERS
    first = {rule.tensor: integers[rule.tensor]}
    if rule.low_bits:
        given, first[rule.tensor] = (_joined(maps, rule.low_bits) for maps in
                                     (given, first[rule.tensor]))
    wrong = [_differing(rule.tensor, given, exact, reach, first)]
    for layer in model.layers:
        sources = [integers[source].astype(np.int64) for source in layer.inputs]
        exact, reach = _exact(layer, sources)
        wrong.append(_differing(layer.output, run_layer(layer, *sources), exact, reach, integers))
    return sum(wrong) / sum(values.size for values in integers.values())


def _joined(planes, low_bits):
    """The integers that two planes hold."""
    planes = planes.astype(np.int64)
    assert (planes[:, 1::2] < 1 << low_bits).all() and (planes[:, 1::2] >= 0).all()
    return (planes[:, ::2] << low_bits) + planes[:, 1::2]


def _differing(name, given, exact, reach, integers):
    """How many integers differ."""
    found = integers[name].reshape(given.shape).astype(np.int64)
    differs = found != given
    assert np.abs(found - given).max() <= 1, name
    if exact is None:                       # integers that are only moved
        assert not differs.any(), name
        return 0
    off = np.abs(exact - np.floor(exact) - 0.5)
    assert (off[differs] <= reach[differs] * ULP).all(), (name, (off / reach)[differs].max() / ULP)
    return int(differs.sum())


def _exact(layer, sources):
    """Values before rounding in steps of the result, and the bound of their error in `ULP`."""
    if isinstance(layer, Add):
        parts = [source * ratio.reshape(-1, 1, 1) * 2.0 ** (GUARD_BITS - layer.shift)
                 for source, ratio in zip(sources, layer.multiplier, strict=True)]
        return parts[0] + parts[1], (np.abs(parts[0]) + np.abs(parts[1])) * OTHERS
    if not isinstance(layer, Conv2d | AveragePool2d):
        return None, None
    rule, window, x = layer.requantization, layer.window, sources[0]
    moved = rule.bias
    if isinstance(layer, Conv2d):
        outputs, fan_in = layer.weight.shape[:2]
        first = np.arange(outputs) // (outputs // layer.groups) * fan_in
        pads = layer.pad_value[first[:, None] + np.arange(fan_in)]
        moved = rule.bias + (layer.weight.sum(axis=(2, 3), dtype=np.int64) * pads).sum(axis=1)
        sums = conv2d(x, layer.weight, window, layer.pad_value, layer.groups)
        reach = conv2d(np.abs(x - layer.pad_value.reshape(-1, 1, 1)),
                       np.abs(layer.weight.astype(np.int64)), window, 0 * layer.pad_value,
                       layer.groups)
        additions = layer.weight[0].size
    else:
        sums, reach = average_pool2d(x, window), average_pool2d(np.abs(x), window)
        additions = window.kernel[0] * window.kernel[1]
    sums = sums + rule.bias.reshape(-1, 1, 1)
    multiplier = rule.multiplier.reshape(-1, 1, 1)
    if rule.multiplier_negative is not None:
        multiplier = np.where(sums < 0, rule.multiplier_negative.reshape(-1, 1, 1), multiplier)
    exact = sums * multiplier * 2.0 ** -rule.shift
    reach = (reach + np.abs(moved).reshape(-1, 1, 1)) * multiplier * 2.0 ** -rule.shift
    return exact, reach * (additions + OTHERS)
