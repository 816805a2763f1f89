"""The whole engine: memories, readers, window memory, array, result writer and sequencer."""

from typing import Any

from amaranth.hdl import (
    Cat,
    Elaboratable,
    Module,
    Mux,
    ResetInserter,
    Signal,
    ValueLike,
    unsigned,
)
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from .address_generator import AddressGenerator
from .code_array import ARRAY_LATENCY, CodeArray
from .config import EngineConfig
from .copies import copied
from .descriptor import ADDRESS_BITS, CODE_FIELDS
from .mac_array import MacArray, array_latency
from .memory import EngineMemory, memory_latency
from .memory_reader import MemoryReader
from .result_writer import ResultWriter
from .sequencer import Sequencer
from .tape_reader import TapeReader, TapeWord
from .window_memory import WindowMemory


def load_layout(word_bytes: int) -> data.StructLayout:
    """A word for one of the memories: space 0 is the activation memory, 1 the tape.

    A tape word of fewer bytes lies in the lowest ones.
    """
    return data.StructLayout({"space": 1, "address": ADDRESS_BITS, "data": 8 * word_bytes})


class Accelerator(wiring.Component):
    """Runs the program on its tape over the activations in its memory.

    Everything is accepted only while not ``busy``. A run reads the tape from word 0, and leaves the
    result where the program says; `ref.run` gives the same integers for every layer.

    Members
    -------
    load : In(stream of {space, address, data}), writes a word
    read : In(stream of address), data : Out(stream of word), reads the activation memory
    start : In(1), busy : Out(1)
    error : Out(1), the last run hung and was ended; cleared by ``start``
    cycles : Out(32), of the last run
    trace_write, trace_address, trace_data, trace_layer_done : Out, every result word as it is
        written, for simulation
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        bits = 8 * config.word_bytes
        super().__init__({
            "load":   In(stream.Signature(load_layout(config.word_bytes))),
            "read":   In(stream.Signature(unsigned(ADDRESS_BITS))),
            "data":   Out(stream.Signature(unsigned(bits))),
            "start":  In(1),
            "busy":   Out(1),
            "error":  Out(1),
            "cycles": Out(32),
            "trace_write":      Out(1),
            "trace_address":    Out(ADDRESS_BITS),
            "trace_data":       Out(bits),
            "trace_layer_done": Out(1),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Blocks and the wires between them."""
        m = Module()
        config = self.config
        single, pipelined = config.single_port, config.pipelined
        m.submodules.sequencer = sequencer = Sequencer(config.tape_bytes)
        m.submodules.tape = tape = EngineMemory(config.tape_bytes, config.tape_depth,
                                                single_port=single, pipelined=pipelined)
        m.submodules.activations = activations = EngineMemory(
            config.word_bytes, config.activation_depth, single_port=single, pipelined=pipelined)

        tape_addresses = TapeReader(config)
        tape_words     = MemoryReader(config.tape_bytes, TapeWord,
                                      memory_latency=memory_latency(config),
                                      quick_tags=pipelined)
        addresses      = AddressGenerator(config.strips, ahead=config.codes)
        windows        = WindowMemory(config)
        array          = CodeArray(config) if config.codes else MacArray(config)
        writer         = ResultWriter(
            config, ARRAY_LATENCY if config.codes else array_latency(config))
        clear = ResetInserter(sequencer.clear)   # a run starts clean whatever the last one did
        m.submodules.tape_addresses = clear(tape_addresses)
        m.submodules.tape_words     = clear(tape_words)
        m.submodules.addresses      = clear(addresses)
        m.submodules.windows        = clear(windows)
        m.submodules.array          = clear(array)
        m.submodules.writer         = clear(writer)

        # Program: tape -> descriptor | constants | weights
        connect(m, tape_addresses.o, tape_words.request)
        tag, word = tape_words.o.payload.tag, tape_words.o.payload.word
        m.d.comb += [
            tape_addresses.layer.eq(sequencer.layer),
            tape_addresses.rewind.eq(sequencer.clear),
            tape_addresses.fetch.eq(sequencer.fetch),
            tape_addresses.begin.eq(sequencer.begin),
            tape.read_enable.eq(tape_words.enable),
            tape.read_address.eq(tape_words.address),
            tape_words.data.eq(tape.read_data),
            sequencer.words.payload.eq(word),
            sequencer.words.valid.eq(tape_words.o.valid & (tag == TapeWord.DESCRIPTOR)),
            array.weights.payload.eq(word),
            array.weights.valid.eq(tape_words.o.valid & (tag == TapeWord.WEIGHT)),
            writer.constant.eq(word),
            writer.constant_valid.eq(tape_words.o.valid & tape_words.o.ready
                                  & (tag == TapeWord.CONSTANT)),
        ]
        descriptor_ready: ValueLike = sequencer.words.ready
        if config.codes:                           # the same, known sooner: it waits for its words
            descriptor_ready = 1
            m.d.comb += writer.constant_valid.eq(tape_words.o.valid & writer.constant_ready
                                                 & (tag == TapeWord.CONSTANT))
        with m.Switch(tag):
            with m.Case(TapeWord.DESCRIPTOR):
                m.d.comb += tape_words.o.ready.eq(descriptor_ready)
            with m.Case(TapeWord.CONSTANT):
                m.d.comb += tape_words.o.ready.eq(writer.constant_ready)
            with m.Case(TapeWord.WEIGHT):
                m.d.comb += tape_words.o.ready.eq(array.weights.ready)

        # Data: activations -> windows -> sums -> activations
        connect(m, addresses.o, windows.request)
        connect(m, windows.o, array.i)
        m.d.comb += [
            addresses.layer.eq(sequencer.layer),
            addresses.begin.eq(sequencer.begin),
            windows.layer.eq(sequencer.layer),
            windows.begin.eq(sequencer.begin),
            windows.blocked.eq(writer.write if single else 0),
            windows.data.eq(activations.read_data),
            array.words.eq(windows.words),
            array.depthwise.eq(sequencer.layer.depthwise),
            *self.settings(array, sequencer.layer),
            array.channel_last.eq(sequencer.layer.channel_last),
            array.may_finish.eq(writer.may_finish),
            writer.layer.eq(sequencer.layer),
            writer.begin.eq(sequencer.begin),
            writer.finishing.eq(array.finishing),
            writer.done.eq(array.done),
            writer.sums.eq(array.sums),
            writer.tags.eq(array.tags),
            sequencer.layer_done.eq(writer.layer_done),
            sequencer.start.eq(self.start),
            self.error.eq(sequencer.error),
            self.cycles.eq(sequencer.cycles),
            self.busy.eq(sequencer.busy),
            self.trace_write.eq(writer.write),
            self.trace_address.eq(writer.address),
            self.trace_data.eq(writer.data),
            self.trace_layer_done.eq(writer.layer_done),
        ]
        # The memories' many wires listen to copies, a cycle late: the engine does not use them yet
        # when a run begins.
        engaged = copied(m, platform, self.busy, config.word_bytes)
        self.connect_memories(m, engaged, tape, activations, windows, writer)
        return m

    def settings(self, array: MacArray | CodeArray, layer: data.View) -> list[Any]:
        """Assignments of what only an array of its kind has to know of a layer."""
        if isinstance(array, MacArray):
            return [array.maximum.eq(layer.maximum), array.in_strips.eq(layer.in_strips),
                    array.gathers.eq(layer.gathers)]
        return [array.blocks_only.eq(layer[CODE_FIELDS["byte_result"]])]

    def connect_memories(self, m: Module, engaged: list[Signal], tape: EngineMemory,
                         activations: EngineMemory, windows: WindowMemory,
                         writer: ResultWriter) -> None:
        """Share the memories between the engine (while ``engaged``) and the host (while idle)."""
        load = self.load.payload
        loading = Signal()
        answers = Signal(memory_latency(self.config))   # reads under way, the highest bit's oldest
        accepted = Signal()
        idle = Signal()
        m.d.comb += [
            idle.eq(~self.busy & ~engaged[0]),
            self.load.ready.eq(idle),
            loading.eq(self.load.valid & self.load.ready),
            tape.write_enable.eq(loading & load.space),
            tape.write_address.eq(load.address),
            tape.write_data.eq(load.data),

            self.read.ready.eq(idle & ~self.load.valid & ~self.data.valid & (answers == 0)),
            accepted.eq(self.read.valid & self.read.ready),
            self.data.payload.eq(activations.read_data),
        ]
        m.d.sync += answers.eq(Cat(accepted, answers))
        with m.If(self.data.ready):
            m.d.sync += self.data.valid.eq(0)
        with m.If(answers[-1]):
            m.d.sync += self.data.valid.eq(1)

        for c, busy in enumerate(engaged):
            m.d.comb += activations.write_data[c].eq(Mux(busy, writer.data[c],
                                                         load.data.word_select(c, 8)))
        with m.If(engaged[0]):
            m.d.comb += [
                activations.read_enable.eq(windows.enable),
                activations.read_address.eq(windows.address),
                activations.write_enable.eq(writer.write),
                activations.write_address.eq(writer.address),
            ]
        with m.Else():
            m.d.comb += [
                activations.read_enable.eq(accepted),
                activations.read_address.eq(self.read.payload),
                activations.write_enable.eq(loading & ~load.space),
                activations.write_address.eq(load.address),
            ]
