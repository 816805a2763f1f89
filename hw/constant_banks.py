"""The constants of output channels: those in use, and the next group's as they arrive."""

from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .config import EngineConfig
from .copies import copied
from .words import word_layout


class ConstantBanks(wiring.Component):
    """Two sets of constants, for the group of channels being requantized and for the next one.

    A set arrives as ``config.constant_words`` tape words while results of the group before it are
    still leaving. R channels' constants are read at a time, and begin a word.

    Members
    -------
    constant : In(tape word), valid : In(1), give it only while ready; ready : Out(1)
    switch : In(1), use the set that has arrived; give it two cycles after its last word or later
    chunk : In, which R channels' constants to show
    o : Out(R channels' constants), as asked for in the cycle before; where the engine is pipelined,
        in the one before that
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
        with m.If(self.switch):
            m.d.sync += whole.eq(0)
        with m.If(self.valid):
            m.d.sync += part.eq(part + 1)
            with m.If(part == parts - 1):
                m.d.sync += [part.eq(0), chunk.eq(chunk + 1), whole.eq(chunk == self.chunks - 1)]
        if self.chunks == 1:
            constant = Signal(8 * self.config.tape_bytes, reset_less=True)
            m.d.sync += constant.eq(self.constant)
            switches = [self.switch] * parts
            if self.config.pipelined:
                switches = copied(m, platform, self.switch, parts)
            shown = []
            for number, switch in enumerate(switches):
                arrived = Signal(name=f"arrived{number}")
                arriving = Signal.like(constant, name=f"arriving{number}")
                used = Signal.like(constant, name=f"used{number}")
                m.d.sync += arrived.eq(self.valid & (part == number))
                with m.If(arrived):
                    m.d.sync += arriving.eq(constant)
                with m.If(switch):
                    m.d.sync += used.eq(arriving)
                shown.append(used)
            m.d.comb += self.o.eq(Cat(shown))
            return m

        # One memory for each of the words that make up a chunk's constants, all read together.
        used = Signal()
        m.d.sync += used.eq(used ^ self.switch)
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
                Cat(self.chunk, used ^ self.switch))
            shown.append(read.data)
        m.d.comb += self.o.eq(Cat(shown))
        return m
