"""What streams between the blocks carry: memory words, and what a window of them is."""

from amaranth.hdl import unsigned
from amaranth.lib import data

from .ausn.code_product import LEVEL_BITS, OPERAND_BITS

#: What travels with a window from the window memory to the result writer.
TAGS = data.StructLayout({
    "first":       1,   # the window is the first of its tile
    "last":        1,   # ... the last of its tile
    "partial":     1,   # ... of the last input group, which may hold fewer channels
    "row_last":    1,   # the tile is the last of its output row
    "inner_last":  1,   # ... the last of the inner of its two loops
    "group_last":  1,   # ... of its output group
    "layer_last":  1,   # ... of its layer
    "strip":       2,   # the strip whose channels are broadcast, where the layer gathers strips
})

#: What travels with an address and its word to the window memory.
PLACE = data.StructLayout({
    "column": 8,        # place of the word in its row of the patch
    "row_end": 1,       # the row's last word
    "before": 1,        # each strip gets what its word holds of the strip before it
    "after": 1,         # ... after it
})


def word_layout(channels: int) -> data.ArrayLayout:
    """One memory word: ``channels`` unsigned bytes."""
    return data.ArrayLayout(unsigned(8), channels)


def level_layout(channels: int) -> data.StructLayout:
    """The operands that a word of codes becomes: a level for each channel, no more ``above`` them.

    Of a word that holds one byte for all channels each has the lower bits, and ``above`` are the
    others.
    """
    return data.StructLayout({
        "levels": data.ArrayLayout(unsigned(LEVEL_BITS), channels),
        "above":  OPERAND_BITS - LEVEL_BITS,
    })
