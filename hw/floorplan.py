"""Where multiplier blocks lie: those of an output channel side by side, in wide arrays."""

from typing import NamedTuple

from .config import EngineConfig
from .packing import OPERAND_BITS, PIXELS

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


def product_blocks(config: EngineConfig) -> int:
    """Blocks of a channel for the products of its pixels; two share one where weights are small."""
    pixels = config.pixels - config.table_pixels
    return -(-pixels // 2) if config.weight_bits <= PIXELS.weight_bits else pixels


def site(config: EngineConfig, channel: int, number: int) -> Site | None:
    """Where the ``number``-th block of an output channel lies; None: wherever nextpnr likes.

    A channel has blocks for its pixels, two by two, and one for its requantizer. They have a group
    for themselves where they fill it.
    """
    if (config.weight_bits > PIXELS.weight_bits or config.requantizers != config.channels
            or config.channels < CHANNELS or config.biased_bits > OPERAND_BITS
            or product_blocks(config) + 1 != GROUP):
        return None
    return Site(channel, number, config.channels)
