"""The shifts of a whole network whose multipliers are powers of two, for lanes of both kinds.

An engine of such lanes (`hw.code_array`) makes all results by the same few shifts. A layer needs
few (`quant.dyadic.POWERS`), but layers whose sums and results have unlike ratios need more between
them. Such a network is quantized again, for one window of following shifts: smaller ratios than it
has are raised, which takes bits from weights (of a pool: from the range of its result), larger ones
lowered by a larger step of the result.
"""

from __future__ import annotations

import numpy as np

from ref.model import AveragePool2d, Conv2d, Model

from .dyadic import Span
from .presets import Settings

#: How many shifts the engine has for a network, and the last; the first is 1.
SHIFTS, LAST_SHIFT = 8, 19
#: Bits of its sums below those of products of levels, and of its levels below their own; shifts are
#: larger by as many where it adds up bytes, and where a result is a level.
FRACTION_BITS = 3


def window_spans(model: Model, settings: Settings) -> dict[str, Span]:
    """By layer the ratios that a network must be quantized again for; none where it has few shifts.

    The window is the one for which ratios that move add the least noise (`_added_noise`); of
    several the first, which has the largest ratios.
    """
    if settings.multiplier_bits > 1 or settings.weight_code != "mixed":
        return {}
    layers = [layer for layer in model.layers if isinstance(layer, Conv2d | AveragePool2d)]
    if not layers:
        return {}
    shifts = np.concatenate([engine_shifts(layer, model) for layer in layers])
    if shifts.max() - shifts.min() < SHIFTS and shifts.max() <= LAST_SHIFT and shifts.min() >= 1:
        return {}
    first = min(range(1, LAST_SHIFT - SHIFTS + 2),
                key=lambda one: sum(_added_noise(layer, model, one) for layer in layers))
    spans = {}
    for layer in layers:
        largest = 2.0 ** (_more(layer, model) - first)
        spans[layer.name] = largest / 2 ** (SHIFTS - 1), largest
    return spans


def engine_shifts(layer: Conv2d | AveragePool2d, model: Model) -> np.ndarray:
    """What the engine shifts the sums of each channel by, (O,)."""
    rule = layer.requantization
    return rule.shift - np.log2(rule.multiplier).astype(np.int64) + _more(layer, model)


def _more(layer: Conv2d | AveragePool2d, model: Model) -> int:
    """By how much the engine's shifts are larger than the layer's own."""
    return FRACTION_BITS * ((layer.inputs[0] == model.input.tensor)
                            + (layer.requantization.code is not None))


def _added_noise(layer: Conv2d | AveragePool2d, model: Model, first: int) -> float:
    """What a layer loses in the window from shift ``first``, as a share of its power, roughly.

    Rounding to n bits has noise of 4^-n, and of four times that for each octave that a ratio is
    moved: weights where it is raised, results where it is lowered. A pool has no weights: raised
    ratios clip its results, as if these had no bits. Channels without weights lose nothing.
    """
    shifts, code = engine_shifts(layer, model), layer.requantization.code
    result_bits = code.bits if code else model.tensors[layer.output].bits
    weight_bits = layer.weight_bits if isinstance(layer, Conv2d) else 0
    alive = np.any(layer.weight, axis=(1, 2, 3)) if isinstance(layer, Conv2d) else True
    raised = np.maximum(shifts - (first + SHIFTS - 1), 0)
    lowered = np.maximum(first - shifts, 0)
    noise = (4.0 ** raised - 1) / 4 ** weight_bits + (4.0 ** lowered - 1) / 4 ** result_bits
    return float((noise * alive).mean())
