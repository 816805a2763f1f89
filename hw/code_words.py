"""What the tape and the padding of an engine of codes hold: constants, weights, bytes in halves."""

from collections.abc import Iterator

import numpy as np

from .ausn.code_product import WEIGHTS
from .code_maps import HALF, PLACES
from .config import FRACTION_BITS, EngineConfig
from .step import Step


def code_constants(step: Step, config: EngineConfig) -> np.ndarray:
    """Each lane's constants as in `hw.code_requantizer.constants_layout`: uint8 [lanes, bytes]."""
    bits = config.accumulator_bits + FRACTION_BITS
    assert step.shifts is not None
    shifts = np.searchsorted(config.shifts, step.shifts)
    packed = (step.bias & (1 << bits) - 1) | shifts << bits
    return packed.astype("<i8").view(np.uint8).reshape(-1, 8)[:, :config.constant_bytes]


def code_weights(step: Step, config: EngineConfig) -> Iterator[list[list[int]]]:
    """The tape words of each group's weights, in the order in which the array uses them.

    Where layers broadcast, lane c begins with channel c of a word and goes on in turn.
    """
    turns = np.add.outer(np.arange(PLACES), np.arange(PLACES)) % PLACES     # (product, lane)
    for start in range(0, len(step.weight), PLACES):
        weight = step.weight[start:start + PLACES]                          # (C, I, kh, kw)
        if step.hold:
            yield [weight_word(weight[:, 0, 0, 0], step, config)]
            continue
        taps = weight.transpose(2, 3, 1, 0).reshape(-1, *weight.shape[1::-1])   # (taps, I, C)
        words: list[np.ndarray] = []
        if step.depthwise:
            words += list(taps.reshape(-1, PLACES))
        elif step.byte_input:
            words += list(taps.swapaxes(0, 1).reshape(-1, PLACES))
        else:
            for first in range(0, taps.shape[1], PLACES):
                block = taps[:, first:first + PLACES]                       # (taps, word, C)
                words += list(block[:, turns, np.arange(PLACES)].reshape(-1, PLACES))
        yield [weight_word(row, step, config) for row in words]


def weight_word(weights: np.ndarray, step: Step, config: EngineConfig) -> list[int]:
    """The bytes of the tape word of the lanes' ``weights``, the first in the lowest bits.

    Those of lanes that shift are codes; where the others count alone they are the upper halves of
    bytes.
    """
    lower, upper = weights[:HALF] & 15, WEIGHTS.encode(weights[HALF:])
    if step.byte_result:
        upper = weights[:HALF] >> 4 & 15
    return halved(np.concatenate([lower, upper])).tolist()


def pad_rows(step: Step) -> np.ndarray:
    """The padding word of each channel of a step, uint8 [channels, bytes]: code 0, or its byte.

    Channels of bytes each have a word of their own (`hw.code_maps.ByteMap`).
    """
    pads = step.pad.astype(np.int64)[:, None].repeat(HALF, axis=1)
    return halved(np.concatenate([pads & 15, pads >> 4], axis=1))


def halved(halves: np.ndarray) -> np.ndarray:
    """Halves of bytes (..., halves), the lower one first, as bytes."""
    return (halves[..., ::2] | halves[..., 1::2] << 4).astype(np.uint8)
