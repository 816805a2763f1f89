"""Reads the tape: a descriptor, then each group's constants and weights, tile after tile."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal, unsigned
from amaranth.lib import data, enum, stream, wiring
from amaranth.lib.wiring import In, Out

from .config import EngineConfig
from .descriptor import ADDRESS_BITS, DescriptorLayout, descriptor_words


class TapeWord(enum.Enum, shape=2):     # type: ignore[call-arg]  # Amaranth's metaclass
    """What a tape word is."""

    WEIGHT = 0
    CONSTANT = 1
    DESCRIPTOR = 2


class TapeReader(wiring.Component):
    """Emit tape addresses: a descriptor's on ``fetch``, its constants' and weights' on ``begin``.

    The address only counts up, except that the weights of a group are read again for each of its
    tiles. With ``layer.hold`` one weight word is repeated for all products of the layer's group.

    Members
    -------
    layer : In(DescriptorLayout), stable from ``begin`` until the layer's last word
    rewind : In(1), back to word 0
    fetch, begin : In(1), pulses, while idle
    o : Out(stream of {address, tag: TapeWord})
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        super().__init__({
            "layer":  In(DescriptorLayout()),
            "rewind": In(1),
            "fetch":  In(1),
            "begin":  In(1),
            "o": Out(stream.Signature(data.StructLayout({
                "address": unsigned(ADDRESS_BITS), "tag": TapeWord}))),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """A counter of words inside a counter of tiles inside a counter of groups."""
        m = Module()
        layer   = self.layer
        address = Signal(ADDRESS_BITS)
        first   = Signal(ADDRESS_BITS)      # the group's first weight word
        word    = Signal(16)
        tile    = Signal(16)
        group   = Signal.like(layer.output_group_last)
        m.d.comb += self.o.payload.address.eq(address)
        with m.If(self.rewind):
            m.d.sync += address.eq(0)

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.fetch):
                    m.next = "DESCRIPTOR"
                with m.If(self.begin):
                    m.next = "CONSTANTS"

            with m.State("DESCRIPTOR"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.tag.eq(TapeWord.DESCRIPTOR)]
                with m.If(self.o.ready):
                    m.d.sync += [address.eq(address + 1), word.eq(word + 1)]
                    with m.If(word == descriptor_words(self.config.tape_bytes) - 1):
                        m.d.sync += word.eq(0)
                        m.next = "IDLE"

            with m.State("CONSTANTS"):
                m.d.comb += [self.o.valid.eq(1), self.o.payload.tag.eq(TapeWord.CONSTANT)]
                with m.If(self.o.ready):
                    m.d.sync += [address.eq(address + 1), first.eq(address + 1), word.eq(word + 1)]
                    with m.If(word == self.config.constant_words - 1):
                        m.d.sync += word.eq(0)
                        m.next = "WEIGHTS"

            with m.State("WEIGHTS"):
                tile_end  = word == layer.product_last
                group_end = tile_end & (tile == layer.group_tile_last)
                m.d.comb += [self.o.valid.eq(1), self.o.payload.tag.eq(TapeWord.WEIGHT)]
                with m.If(self.o.ready):
                    m.d.sync += [
                        word.eq(Mux(tile_end, 0, word + 1)),
                        address.eq(Mux(tile_end & ~group_end, first,
                                       address + (group_end | ~layer.hold))),
                    ]
                    with m.If(tile_end):
                        m.d.sync += tile.eq(tile + 1)
                    with m.If(group_end):
                        m.d.sync += [tile.eq(0), group.eq(group + 1)]
                        m.next = "CONSTANTS"
                        with m.If(group == layer.output_group_last):
                            m.d.sync += group.eq(0)
                            m.next = "IDLE"
        return m
