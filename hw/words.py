"""What streams between the blocks carry: memory words, and what a window of them is."""

from amaranth.hdl import unsigned
from amaranth.lib import data

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
