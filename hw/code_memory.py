"""Activation memory whose words are written whole or a half at a time."""

from amaranth.hdl import Cat, Elaboratable, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .config import EngineConfig
from .descriptor import ADDRESS_BITS
from .memory import EngineMemory
from .words import word_layout


class HalvesMemory(wiring.Component):
    """Two `EngineMemory` side by side, the lower and the upper half of each word.

    Members
    -------
    read_enable, read_address : In; read_data : Out
    write_enable : In(2), lower and upper half; write_address, write_data : In
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        word = word_layout(config.word_bytes)
        super().__init__({
            "read_enable":   In(1),
            "read_address":  In(ADDRESS_BITS),
            "read_data":     Out(word),
            "write_enable":  In(2),
            "write_address": In(ADDRESS_BITS),
            "write_data":    In(word),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """The halves, which read together."""
        m = Module()
        config = self.config
        halves = [EngineMemory(config.word_bytes // 2, config.activation_depth,
                               single_port=config.single_port, pipelined=False)
                  for _ in range(2)]
        written = self.write_data.as_value()
        for number, half in enumerate(halves):
            m.submodules[f"half{number}"] = half
            m.d.comb += [
                half.read_enable.eq(self.read_enable),
                half.read_address.eq(self.read_address),
                half.write_enable.eq(self.write_enable[number]),
                half.write_address.eq(self.write_address),
                half.write_data.eq(written.word_select(number, len(written) // 2)),
            ]
        m.d.comb += self.read_data.eq(Cat(*(half.read_data for half in halves)))
        return m
