"""Clipping error and rounding error of a layer's weights: AUSN's two metrics, for every quantizer.

Source: "AUSN: Approximately Uniform Quantization by Adaptively Superimposing Non-uniform
Distribution for Deep Neural Networks", arXiv 2007.03903, whose abstract names the metrics; their
exact form is our choice (see `weight_errors`).
"""

from __future__ import annotations

import numpy as np

from ref.model import Conv2d

from .graph import FloatConv
from .weights import LinearCode, WeightCode


def weight_errors(layer: FloatConv, made: Conv2d, source_step: np.ndarray,
                  result_step: np.ndarray, square: np.ndarray) -> dict[str, float]:
    """Squared errors of the integer weights relative to the sum of the squared float weights.

    Each is weighed by ``square`` (I,), the mean square of the input channel it meets: weights that
    meet a channel of zeros may be as wrong as they like.
    ``clipping`` sums over weights that lie beyond the largest level by more than half of its
    distance from the next, ``rounding`` over all others; both are 0 for a layer of zeros.
    ``layer`` is of the balanced network, ``source_step`` (I,) and ``result_step`` (O,) are the
    steps of the maps it reads and makes, in that network's units.
    """
    rule = made.requantization
    unit = rule.multiplier * 2.0 ** -rule.shift * result_step               # (O,)
    scale = (unit[:, None] / source_step[layer.input_of_output])[:, :, None, None]
    energy = square[layer.input_of_output][:, :, None, None]
    error = (layer.weight - made.weight * scale) ** 2 * energy
    linear = LinearCode(made.weight_bits)
    limit = np.where(made.coded_channels, _limit(made.weight_code or linear), _limit(linear))
    beyond = np.abs(layer.weight) > limit[:, None, None, None] * np.abs(scale)
    total = float((layer.weight ** 2 * energy).sum()) or 1.0
    return {"clipping": float(error[beyond].sum()) / total,
            "rounding": float(error[~beyond].sum()) / total}


def _limit(code: WeightCode) -> float:
    """Beyond the largest level by half of its distance from the next."""
    return 1.5 * float(code.levels[-1]) - 0.5 * float(code.levels[-2])
