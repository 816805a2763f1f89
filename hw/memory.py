"""The engine's two memories: one read port, one write port, some cycles to read."""

from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .config import EngineConfig
from .copies import copied
from .descriptor import ADDRESS_BITS
from .words import word_layout

#: Bits of a word that hear of an address together: whole block RAMs, whatever their shape.
PART_BITS = 36


def memory_latency(config: EngineConfig) -> int:
    """Cycles from the address of a word to the word."""
    return 2 + config.pipelined


class EngineMemory(wiring.Component):
    """``depth`` words of ``channels`` bytes, read within `memory_latency` cycles.

    Reading and writing the same word in one cycle gives an undefined value; the engine never does.
    With ``single_port`` the two are never enabled in one cycle at all, and boards may use
    single-port RAM.

    Members
    -------
    read_enable, read_address : In; read_data : Out
    write_enable, write_address, write_data : In
    """

    def __init__(self, channels: int, depth: int, *, single_port: bool, pipelined: bool) -> None:
        self.depth = depth
        self.single_port = single_port
        self.pipelined = pipelined
        word = word_layout(channels)
        super().__init__({
            "read_enable":   In(1),
            "read_address":  In(ADDRESS_BITS),
            "read_data":     Out(word),
            "write_enable":  In(1),
            "write_address": In(ADDRESS_BITS),
            "write_data":    In(word),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """The RAM and its output register; where ``pipelined`` registers of its inputs too.

        It is then in parts, each with registers of its own for the addresses.
        """
        m = Module()
        bits = self.read_data.shape().size
        written, reading, writing = (self.write_data.as_value(),
                                     Cat(self.read_enable, self.read_address),
                                     Cat(self.write_enable, self.write_address))
        part_bits, readings, writings = bits, [reading], [writing]
        if self.pipelined:
            part_bits = PART_BITS
            count = -(-bits // part_bits)
            readings, writings = (copied(m, platform, ports, count)
                                  for ports in (reading, writing))
            later = Signal(bits, name="written", reset_less=True)
            m.d.sync += later.eq(written)
            written = later
        fetched = Signal()
        m.d.sync += fetched.eq(self.read_enable)
        word = Signal(bits, reset_less=True)
        for low, reading, writing in zip(range(0, bits, part_bits), readings, writings,
                                         strict=True):
            part = slice(low, min(low + part_bits, bits))
            m.submodules[f"ram{low}"] = ram = memory.Memory(
                shape=part.stop - low, depth=self.depth, init=[],
                attrs={"ram_style": "huge" if self.single_port else "block",
                       "collision": "undefined"})
            write, read = ram.write_port(), ram.read_port()
            m.d.comb += [Cat(read.en, read.addr).eq(reading), Cat(write.en, write.addr).eq(writing),
                         write.data.eq(written[part])]
            with m.If(fetched if self.single_port else 1):   # it may lose its answer by a write
                m.d.sync += word[part].eq(read.data)
        m.d.comb += self.read_data.eq(word)
        return m
