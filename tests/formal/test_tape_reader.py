"""Proof that the tape is read word by word as the program says, and never beyond its end.

A part of the tape is a descriptor, a group's constants or its weights. Its words come in order, one
each time a word is taken; weights come again for every tile of the group; the next part begins
where this one ends. When parts are asked for, how long the layers' parts are and when words are
taken is free; a layer's descriptor stays the same while its words are read.
"""

from types import ModuleType

import pytest
from amaranth.hdl import Mux, Signal

from hw import tape_reader
from hw.config import EngineConfig
from hw.descriptor import ADDRESS_BITS, descriptor_words
from hw.fit import ICE40_CODES

from .prove import Bench, Refuted, broken

CONFIG = EngineConfig(channels=8, pixels=1, requantizers=8, tape_depth=1, activation_depth=1,
                      single_port=False)
IDLE, DESCRIPTOR, CONSTANTS, WEIGHTS = range(4)


def prove_reader(module: ModuleType, config: EngineConfig) -> None:
    bench = Bench()
    m = bench.m
    dut = module.TapeReader(config)
    registers = bench.add(dut)
    o, layer = dut.o, dut.layer
    for port in (dut.rewind, dut.fetch, dut.begin, o.ready):
        m.d.comb += port.eq(bench.free(1, port.name))

    part  = Signal(2)
    start = Signal(ADDRESS_BITS)        # its first word
    word, tile, group = (Signal.like(registers[name], name=f"own_{name}")
                         for name in ("word", "tile", "group"))
    held = Signal(len(layer.as_value()))
    m.d.sync += held.eq(layer)
    m.d.comb += layer.as_value().eq(
        Mux(part >= CONSTANTS, held, bench.free(len(held), "layer")))
    idle = part == IDLE
    bench.assume(idle | ~(dut.rewind | dut.fetch | dut.begin))
    bench.assume(~(dut.fetch & dut.begin))

    # Words of the tape that are the part's, and words that are read from it each time.
    words, reads = Signal(17), Signal(17)
    with m.Switch(part):
        with m.Case(DESCRIPTOR):
            m.d.comb += words.eq(descriptor_words(config.tape_bytes))
        with m.Case(CONSTANTS):
            m.d.comb += words.eq(config.constant_words)
        with m.Case(WEIGHTS):
            m.d.comb += words.eq(Mux(layer.hold, 1, layer.product_last + 1))
    m.d.comb += reads.eq(Mux(part == WEIGHTS, layer.product_last + 1, words))

    with m.If(dut.rewind):
        m.d.sync += start.eq(0)
    with m.If(dut.fetch):
        m.d.sync += part.eq(DESCRIPTOR)
    with m.If(dut.begin):
        m.d.sync += part.eq(CONSTANTS)
    with m.If(o.valid & o.ready):
        m.d.sync += word.eq(word + 1)
        with m.If(word == reads - 1):
            m.d.sync += word.eq(0)
            with m.If((part == WEIGHTS) & (tile != layer.group_tile_last)):
                m.d.sync += tile.eq(tile + 1)
            with m.Else():
                m.d.sync += [tile.eq(0), start.eq(start + words)]
                with m.Switch(part):
                    with m.Case(DESCRIPTOR):
                        m.d.sync += part.eq(IDLE)
                    with m.Case(CONSTANTS):
                        m.d.sync += part.eq(WEIGHTS)
                    with m.Case(WEIGHTS):
                        last = group == layer.output_group_last
                        m.d.sync += [part.eq(Mux(last, IDLE, CONSTANTS)),
                                     group.eq(Mux(last, 0, group + 1))]

    address = Signal(ADDRESS_BITS)
    m.d.comb += address.eq(Mux((part == WEIGHTS) & layer.hold, start, start + word))
    bench.check(o.valid == ~idle)
    bench.check(idle | (o.payload.address == address))
    kinds = module.TapeWord
    for own, kind in ((DESCRIPTOR, kinds.DESCRIPTOR), (CONSTANTS, kinds.CONSTANT),
                      (WEIGHTS, kinds.WEIGHT)):
        bench.check((part != own) | (o.payload.tag == kind))

    # Where the tape holds all parts no address is beyond it.
    end = bench.constant(ADDRESS_BITS + 1, "end")
    bench.assume(idle | (start + words <= end))
    bench.check(idle | (o.payload.address < end))

    # Lemmas.
    bench.check(registers["fsm_state"] == part)
    bench.check(registers["address"] == address)
    bench.check((part != WEIGHTS) | (registers["first"] == start))
    if config.codes:
        weights = part == WEIGHTS
        bench.check(~weights | (registers["tile_end"] == (word == layer.product_last)))
        bench.check(~weights | (registers["last_tile"] == (tile == layer.group_tile_last)))
    for name, own in (("word", word), ("tile", tile), ("group", group)):
        bench.check(registers[name] == own)
    bench.check(Mux(idle, word == 0, word < reads))
    bench.check(Mux(part == WEIGHTS, tile <= layer.group_tile_last, tile == 0))
    bench.prove()


@pytest.mark.parametrize("config", [CONFIG, ICE40_CODES], ids=["bytes", "codes"])
def test_the_tape_is_read_in_order_and_not_beyond(config):
    prove_reader(tape_reader, config)


@pytest.mark.parametrize(("right", "wrong"), [
    ("(group_end | ~layer.hold)", "~layer.hold"),
    ("word + 1 == layer.product_last", "word == layer.product_last"),
    ("tile_end.eq(Mux(tile_end, layer.product_last == 0,", "tile_end.eq(Mux(tile_end, 0,"),
    pytest.param("last_tile.eq(layer.group_tile_last == 0)", "last_tile.eq(0)",
                 marks=pytest.mark.long),
    pytest.param("first.eq(address + 1), ", "first.eq(address), ", marks=pytest.mark.long),
])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_reader(broken(tape_reader, right, wrong), ICE40_CODES)
