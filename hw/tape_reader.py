"""Reads the tape: a descriptor, then each group's constants and weights, tile after tile."""

from amaranth.hdl import Elaboratable, Module, Mux, Signal, Value, unsigned
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
    In an engine of codes the ends of tiles are known a word ahead, which is quicker and takes more
    cells.

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
        # The weight is its tile's last, the tile its group's.
        ahead = self.config.codes
        tile_end: Value = Signal(name="tile_end") if ahead else word == layer.product_last
        last_tile: Value = Signal(name="last_tile") if ahead else tile == layer.group_tile_last
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
                if ahead:
                    m.d.sync += [tile_end.eq(layer.product_last == 0),
                                 last_tile.eq(layer.group_tile_last == 0)]
                with m.If(self.o.ready):
                    m.d.sync += [address.eq(address + 1), first.eq(address + 1), word.eq(word + 1)]
                    with m.If(word == self.config.constant_words - 1):
                        m.d.sync += word.eq(0)
                        m.next = "WEIGHTS"

            with m.State("WEIGHTS"):
                group_end = tile_end & last_tile
                m.d.comb += [self.o.valid.eq(1), self.o.payload.tag.eq(TapeWord.WEIGHT)]
                with m.If(self.o.ready):
                    m.d.sync += [
                        word.eq(Mux(tile_end, 0, word + 1)),
                        address.eq(Mux(tile_end & ~group_end, first,
                                       address + (group_end | ~layer.hold))),
                    ]
                    with m.If(tile_end):
                        m.d.sync += tile.eq(tile + 1)
                    if ahead:
                        m.d.sync += tile_end.eq(Mux(tile_end, layer.product_last == 0,
                                                    word + 1 == layer.product_last))
                        with m.If(tile_end):
                            m.d.sync += last_tile.eq(tile + 1 == layer.group_tile_last)
                    with m.If(group_end):
                        m.d.sync += [tile.eq(0), group.eq(group + 1)]
                        m.next = "CONSTANTS"
                        with m.If(group == layer.output_group_last):
                            m.d.sync += group.eq(0)
                            m.next = "IDLE"
        return m
