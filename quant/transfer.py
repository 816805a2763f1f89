"""The exponents of one transfer edge, by a line search on the predicted quantization error.

Rounding to a step s adds noise of power ``s^2 / 12``. The predicted error of an edge is the noise
that reaches the consumer's sums from the map's own rounding, from the consumer's weights and, where
a layer's weights share one step, from the producer's. All three follow from the factors F_i, so a
candidate costs a few vector operations; `find_exponents` searches t, u and v one after the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .calibrate import Statistics
from .graph import FloatConv
from .presets import Settings

#: Smallest channel maximum that counts, relative to the largest of its map.
SMALLEST = 2.0 ** -14
#: Candidate values of each exponent.
GRID = np.linspace(0.0, 1.0, 11)
#: Times t, u and v are searched one after the other.
PASSES = 2


@dataclass(frozen=True)
class Exponents:
    """Of ``F_i = r_i^-t * w_i^u * p_i^-v`` (see `quant.balance`), each 0..1."""

    t: float
    u: float = 0.0
    v: float = 0.0


@dataclass(frozen=True, eq=False)
class Edge:
    """A map between two convolutions before its transfer.

    ``importance`` (O,) weighs the noise of each of the consumer's sums; ``energy`` (C,) is the
    summed mean square of the inputs that each of the producer's outputs adds up.
    """

    statistics: Statistics
    producer: FloatConv
    consumer: FloatConv
    importance: np.ndarray
    energy: np.ndarray


def reach(statistics: Statistics) -> np.ndarray:
    """Largest magnitude of each channel, (C,)."""
    return np.maximum(np.abs(statistics.lo), np.abs(statistics.hi))


def transfer_factor(edge: Edge, exponents: Exponents) -> np.ndarray:
    """The factors F_i of an edge, (C,), all positive."""
    return (_relative(reach(edge.statistics)) ** -exponents.t
            * _relative(_reading(edge.consumer)) ** exponents.u
            * _relative(np.abs(edge.producer.weight).max(axis=(1, 2, 3))) ** -exponents.v)


def find_exponents(edge: Edge, settings: Settings) -> Exponents:
    """The exponents with the smallest `predicted_error` on `GRID`, searched one at a time.

    v is searched only where the producer's weights share one step; t only where the map's
    channels do (not into a depthwise layer).
    """
    names = ["u", "v"] if settings.weight_scale == "tensor" else ["u"]
    if not edge.consumer.channelwise:
        names.insert(0, "t")
    best = Exponents(0.0)
    least = predicted_error(edge, transfer_factor(edge, best), settings)
    for _ in range(PASSES):
        for name in names:
            for value in GRID:
                candidate = replace(best, **{name: round(float(value), 2)})
                error = predicted_error(edge, transfer_factor(edge, candidate), settings)
                if error < least:
                    best, least = candidate, error
    return best


def predicted_error(edge: Edge, factor: np.ndarray, settings: Settings) -> float:
    """Noise power that reaches the consumer's sums when channel i is multiplied by ``factor[i]``.

    Steps are those of the largest value; the map has unsigned integers of the producer's
    ``activation_bits``.
    """
    consumer, inputs = edge.consumer, edge.consumer.input_of_output
    producing, reading = settings.of(edge.producer.name), settings.of(consumer.name)
    tensor = settings.weight_scale == "tensor"
    power = (consumer.weight ** 2).sum(axis=(2, 3)) * edge.importance[:, None]
    gain = np.zeros(len(factor))                    # of noise on channel i, in original units
    np.add.at(gain, inputs, power)
    gain /= factor ** 2
    step = np.full(len(factor), 0.0 if consumer.channelwise else
                   (reach(edge.statistics) * factor).max() / ((1 << producing.activation_bits) - 1))
    error = float((step ** 2 * gain).sum())
    steps = np.abs(consumer.weight).max(axis=(2, 3)) / factor[inputs]
    steps = steps.max() if tensor else steps.max(axis=1)
    taps = consumer.weight[0, 0].size
    seen = (edge.statistics.square * factor ** 2)[inputs].sum(axis=1) * taps
    largest = (1 << (reading.weight_bits - 1)) - 1
    error += float(((steps / largest) ** 2 * seen * edge.importance).sum())
    if tensor:
        rows = np.abs(edge.producer.weight).max(axis=(1, 2, 3)) * factor
        taps = edge.producer.weight[0, 0].size
        largest = (1 << (producing.weight_bits - 1)) - 1
        error += float((rows.max() / largest) ** 2 * (edge.energy * taps * gain).sum())
    return error / 12


def _reading(consumer: FloatConv) -> np.ndarray:
    """The largest weight that reads each input channel, (C,)."""
    largest = np.zeros(consumer.input_of_output.max() + 1)
    np.maximum.at(largest, consumer.input_of_output, np.abs(consumer.weight).max(axis=(2, 3)))
    return largest


def _relative(values: np.ndarray) -> np.ndarray:
    """Positive values relative to their maximum, none below `SMALLEST`; 1 where all are 0."""
    largest = values.max()
    return np.maximum(values / largest, SMALLEST) if largest > 0 else np.ones_like(values)
