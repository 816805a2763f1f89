"""The constants of output channels: those in use, and the next group's as they arrive."""

from amaranth.hdl import Cat, Elaboratable, Module, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .config import EngineConfig
from .copies import spread
from .words import word_layout


class ConstantBanks(wiring.Component):
    """Two sets of constants, for the group of channels being requantized and for the next one.

    A set arrives as ``config.constant_words`` tape words while results of the group before it are
    still leaving. R channels' constants are read at a time, and begin a word, of which each channel
    has an equal part (`shares`): so in a wide engine a wire of the tape leads to one channel.

    Members
    -------
    constant : In(tape word), valid : In(1), give it only while ready; ready : Out(1)
    switch : In(1), use the set that has arrived; give it two cycles after its last word or later,
        where the engine is pipelined one cycle or later
    chunk : In, which R channels' constants to show
    o : Out(R channels' constants), as asked for in the cycle before; where the engine is pipelined,
        two cycles earlier than that
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.chunks = config.channels // config.requantizers
        super().__init__({
            "constant": In(word_layout(config.tape_bytes)),
            "valid":    In(1),
            "ready":    Out(1),
            "switch":   In(1),
            "chunk":    In(exact_log2(self.chunks)),
            "o":        Out(8 * config.constant_bytes * config.requantizers),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """A count of the words that have arrived, and the two sets."""
        m = Module()
        parts = self.config.constant_words // self.chunks    # words of R channels
        part  = Signal(range(parts))
        chunk = Signal.like(self.chunk)
        whole = Signal()
        m.d.comb += self.ready.eq(~whole)
        switch, shown_chunk = self.switch, self.chunk
        if self.config.pipelined:
            switch, shown_chunk = Signal(), Signal.like(self.chunk, name="shown_chunk")
            m.d.sync += [switch.eq(self.switch), shown_chunk.eq(self.chunk)]
        with m.If(switch):
            m.d.sync += whole.eq(0)
        with m.If(self.valid):
            m.d.sync += part.eq(part + 1)
            with m.If(part == parts - 1):
                m.d.sync += [part.eq(0), chunk.eq(chunk + 1), whole.eq(chunk == self.chunks - 1)]
        if self.config.constants_in_registers:
            m.d.comb += self.o.eq(self.in_registers(m, platform, parts * self.chunks))
            return m

        # One memory for each of the words that make up a chunk's constants, all read together.
        used = Signal()
        m.d.sync += used.eq(used ^ switch)
        shown = []
        for number in range(parts):
            m.submodules[f"part{number}"] = ram = memory.Memory(
                shape=8 * self.config.tape_bytes, depth=2 * self.chunks, init=[],
                attrs={"ram_style": "block", "collision": "undefined"})
            write, read = ram.write_port(), ram.read_port()
            m.d.comb += [
                write.en.eq(self.valid & (part == number)),
                write.addr.eq(Cat(chunk, ~used)),
                write.data.eq(self.constant),
            ]
            m.d["sync" if self.config.pipelined else "comb"] += read.addr.eq(
                Cat(shown_chunk, used ^ switch))
            shown.append(read.data)
        m.d.comb += self.o.eq(self.shares(shown))
        return m

    def in_registers(self, m: Module, platform: object, parts: int) -> Value:
        """Each requantizer's share of the words shifts in, and is taken over as a whole."""
        size = 8 * self.config.tape_bytes // self.config.requantizers
        constant = self.constant.as_value()
        for stage in range(1 + self.config.pipelined):
            constant, before = Signal.like(constant, name=f"constant{stage}",
                                           reset_less=True), constant
            m.d.sync += constant.eq(before)
        if self.config.pipelined:
            controls = spread(m, platform, Cat(self.valid, self.switch), self.config.requantizers)
        else:
            valid = Signal()
            m.d.sync += valid.eq(self.valid)
            controls = [Cat(valid, self.switch)] * self.config.requantizers
        asked = Signal.like(self.chunk, name="asked")
        m.d.sync += asked.eq(self.chunk)
        chunks = spread(m, platform, asked, self.config.requantizers)
        shown = []
        for lane, ((shift, take_over), chunk) in enumerate(zip(controls, chunks, strict=True)):
            arriving = Signal(parts * size, name=f"arriving{lane}", reset_less=True)
            used = Signal.like(arriving, name=f"used{lane}")
            with m.If(shift):
                m.d.sync += arriving.eq(Cat(arriving[size:], constant.word_select(lane, size)))
            with m.If(take_over):
                m.d.sync += used.eq(arriving)
            own = used.word_select(chunk, parts * size // self.chunks)
            shown.append(own[:8 * self.config.constant_bytes])
        return Cat(shown)

    def shares(self, words: list[Value]) -> Value:
        """The constants of R channels, one after the other, from the words that hold them."""
        size = len(words[0]) // self.config.requantizers
        return Cat(Cat(word.word_select(channel, size) for word in words)
                   [:8 * self.config.constant_bytes] for channel in range(self.config.requantizers))
