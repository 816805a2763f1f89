"""The engine's two memories: one read port, one write port, some cycles to read."""

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from .config import EngineConfig
from .descriptor import ADDRESS_BITS
from .words import word_layout


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
        """The RAM and its output register; where ``pipelined`` registers of its inputs too."""
        m = Module()
        bits = self.read_data.shape().size
        m.submodules.ram = ram = memory.Memory(
            shape=bits, depth=self.depth, init=[],
            attrs={"ram_style": "huge" if self.single_port else "block", "collision": "undefined"})
        write, read = ram.write_port(), ram.read_port()
        fetched = Signal()
        m.d["sync" if self.pipelined else "comb"] += [
            write.en.eq(self.write_enable),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_data),
            read.en.eq(self.read_enable),
            read.addr.eq(self.read_address),
        ]
        m.d.sync += fetched.eq(read.en)
        word = Signal(bits, reset_less=True)
        with m.If(fetched if self.single_port else 1):       # it may lose its answer by a write
            m.d.sync += word.eq(read.data)
        m.d.comb += self.read_data.eq(word)
        return m
