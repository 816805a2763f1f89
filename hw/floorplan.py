"""Where multiplier blocks lie: those of an output channel side by side, in wide arrays."""

from typing import NamedTuple

from .config import EngineConfig
from .packing import OPERAND_BITS

#: Multiplier blocks that lie side by side on ECP5.
GROUP = 4
#: Output channels from which on it helps. nextpnr by itself puts the blocks of a wide array so near
#: to each other that it cannot route what is between them.
CHANNELS = 32


class Site(NamedTuple):
    """The ``number``-th block of the ``group``-th of ``groups`` in use."""

    group: int
    number: int
    groups: int


def multiplied_pairs(config: EngineConfig) -> int:
    """Blocks of a channel for the products of its pixels, two by two."""
    return -(-(config.pixels - config.table_pixels) // 2)


def site(config: EngineConfig, channel: int, number: int) -> Site | None:
    """Where the ``number``-th block of an output channel lies; None: wherever nextpnr likes.

    A channel has blocks for its pixels, two by two, and one for its requantizer. They have a group
    for themselves where they fill it.
    """
    pairs = multiplied_pairs(config)
    if (config.weight_bits > 4 or config.requantizers != config.channels
            or config.channels < CHANNELS or config.biased_bits > OPERAND_BITS
            or pairs + 1 != GROUP):
        return None
    return Site(channel, number, config.channels)
