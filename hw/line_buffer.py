"""Words of a map row in, windows of P neighbouring words out."""

from amaranth.hdl import Elaboratable, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

#: What travels with a word from the address generator to the result writer.
TAGS = data.StructLayout({
    "window":      1,   # this word completes a window
    "first":       1,   # the window is the first of its tile
    "last":        1,   # ... the last of its tile
    "partial":     1,   # ... of the last input group, which may hold fewer channels
    "row_last":    1,   # the tile is the last of its output row
    "group_last":  1,   # ... of its output group
    "layer_last":  1,   # ... of its layer
})


def word_layout(channels: int) -> data.ArrayLayout:
    """One memory word: ``channels`` unsigned bytes."""
    return data.ArrayLayout(unsigned(8), channels)


class LineBuffer(wiring.Component):
    """Hold the last P words of a row and emit them as a window when a word is tagged ``window``.

    A row's first window costs P words, each further one a single word: the window slides. Words
    that complete no window only shift in. Accepts one word per cycle; a window appears one cycle
    after its last word and is held until taken. Window element 0 is the oldest word.

    Members
    -------
    i : In(stream of {word, tags})
    o : Out(stream of {words: P words, tags})
    """

    def __init__(self, pixels: int, channels: int) -> None:
        self.pixels = pixels
        word = word_layout(channels)
        super().__init__({
            "i": In(stream.Signature(data.StructLayout({"word": word, "tags": TAGS}))),
            "o": Out(stream.Signature(data.StructLayout({
                "words": data.ArrayLayout(word, pixels), "tags": TAGS}))),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """A shift register of words."""
        m = Module()
        words = self.o.payload.words
        shifted = [words[p + 1] for p in range(self.pixels - 1)] + [self.i.payload.word]
        accept = Signal()
        m.d.comb += [
            self.i.ready.eq(~self.o.valid | self.o.ready),
            accept.eq(self.i.valid & self.i.ready),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(accept):
            m.d.sync += [words[p].eq(shifted[p]) for p in range(self.pixels)]
            m.d.sync += [
                self.o.payload.tags.eq(self.i.payload.tags),
                self.o.valid.eq(self.i.payload.tags.window),
            ]
        return m
