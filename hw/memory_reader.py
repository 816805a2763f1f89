"""Read requests in, words out, in order and without loss, over a memory of fixed latency."""

from amaranth.hdl import Elaboratable, Module, ShapeLike, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .descriptor import ADDRESS_BITS
from .words import word_layout


class MemoryReader(wiring.Component):
    """Turn a stream of addresses into a stream of the words there, with each request's tag.

    A request is issued when a place in the queue is free for its answer, so answers are never lost
    however long the consumer stalls. One word per cycle in the steady state; a word can be taken
    ``memory_latency + queue_latency`` cycles after its request was accepted. With ``quick_tags``
    they leave registers instead of a block RAM, which takes long to answer on ECP5.

    Members
    -------
    request : In(stream of {address, tag})
    blocked : In(1), the memory does something else in this cycle: nothing is issued
    enable, address : Out, the memory's read port
    data : In, its answer, ``memory_latency`` cycles later
    o : Out(stream of {word, tag})
    """

    queue_latency = 2
    depth = 16

    def __init__(self, channels: int, tag: ShapeLike, *, memory_latency: int = 2,
                 quick_tags: bool = False) -> None:
        word = word_layout(channels)
        self.memory_latency = memory_latency
        self.tag = tag
        self.quick_tags = quick_tags
        super().__init__({
            "request": In(stream.Signature(data.StructLayout({
                "address": unsigned(ADDRESS_BITS), "tag": tag}))),
            "blocked": In(1),
            "enable":  Out(1),
            "address": Out(ADDRESS_BITS),
            "data":    In(word),
            "o":       Out(stream.Signature(data.StructLayout({"word": word, "tag": tag}))),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Credits in front, the tags' delay line beside the memory, a queue behind."""
        m = Module()
        credits = Signal(range(self.depth + 1), init=self.depth)
        returned = Signal()
        m.d.comb += [
            self.request.ready.eq((credits != 0) & ~self.blocked),
            self.enable.eq(self.request.valid & self.request.ready),
            self.address.eq(self.request.payload.address),
            returned.eq(self.o.valid & self.o.ready),
        ]
        m.d.sync += credits.eq(credits - self.enable + returned)
        valid, tag = self.enable, self.request.payload.tag
        for stage in range(self.memory_latency):
            next_valid = Signal(name=f"valid{stage}")
            next_tag = Signal(self.tag, name=f"tag{stage}", reset_less=True)
            m.d.sync += [next_valid.eq(valid), next_tag.eq(tag)]
            valid, tag = next_valid, next_tag

        # The queue is a block RAM; its read register is the output. A word is never read in the
        # cycle in which it is written, because `waiting` counts it one cycle later.
        m.submodules.queue = queue = memory.Memory(
            shape=self.o.payload.shape(), depth=self.depth, init=[],
            attrs={"ram_style": "block", "collision": "undefined"})
        write, read = queue.write_port(), queue.read_port()
        waiting = Signal(range(self.depth + 1))
        m.d.comb += [
            write.en.eq(valid),
            write.data.word.eq(self.data),
            write.data.tag.eq(tag),
            read.en.eq((waiting != 0) & (~self.o.valid | self.o.ready)),
            self.o.payload.eq(read.data),
        ]
        if self.quick_tags:
            m.submodules.tags = tags = memory.Memory(
                shape=self.tag, depth=self.depth, init=[],
                attrs={"ram_style": "distributed", "collision": "undefined"})
            tag_write, tag_read = tags.write_port(), tags.read_port()
            m.d.comb += [
                tag_write.en.eq(write.en),
                tag_write.addr.eq(write.addr),
                tag_write.data.eq(tag),
                tag_read.en.eq(read.en),
                tag_read.addr.eq(read.addr),
                self.o.payload.tag.eq(tag_read.data),
            ]
        m.d.sync += waiting.eq(waiting + valid - read.en)
        with m.If(valid):
            m.d.sync += write.addr.eq(write.addr + 1)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(read.en):
            m.d.sync += [read.addr.eq(read.addr + 1), self.o.valid.eq(1)]
        return m
