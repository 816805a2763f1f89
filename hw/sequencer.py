"""Runs a program: fetches each layer's descriptor, starts the layer, waits for its last result."""

from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .descriptor import DescriptorLayout, descriptor_words
from .words import word_layout


class Sequencer(wiring.Component):
    """Step through the layers of the tape.

    While idle ``clear`` holds the other blocks in reset. After ``start`` there is for each layer
    ``fetch``, the descriptor's words from ``words``, one cycle of ``begin``, and then
    ``layer_done`` is awaited. A run that takes longer than :attr:`longest_run` cycles is ended with
    ``error``, whatever it waits for, or if it never waits: a program may lack its end.

    Members
    -------
    start : In(1); busy, error : Out(1); cycles : Out, of the last run
    words : In(stream of word), the descriptor
    clear, fetch, begin : Out(1); layer : Out(DescriptorLayout)
    layer_done : In(1)
    """

    longest_run = 1 << 26

    def __init__(self, word_bytes: int) -> None:
        self.word_bytes = word_bytes
        super().__init__({
            "start":      In(1),
            "busy":       Out(1),
            "error":      Out(1),
            "cycles":     Out(exact_log2(self.longest_run) + 1),
            "words":      In(stream.Signature(word_layout(word_bytes))),
            "clear":      Out(1, init=1),
            "fetch":      Out(1),
            "begin":      Out(1),
            "layer":      Out(DescriptorLayout()),
            "layer_done": In(1),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """A small state machine, the descriptor register and the watchdog."""
        m = Module()
        words    = descriptor_words(self.word_bytes)
        register = Signal(words * self.word_bytes * 8)
        count    = Signal(range(words))
        m.d.comb += self.layer.eq(register[:self.layer.shape().size])

        with m.If(self.busy):
            m.d.sync += self.cycles.eq(self.cycles + 1)

        def end_when_too_long() -> None:
            with m.If(self.cycles[-1]):
                m.d.sync += [self.busy.eq(0), self.clear.eq(1), self.error.eq(1)]
                m.next = "IDLE"

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.start):
                    # `clear` is a register of its own: many hundreds of others listen to it.
                    m.d.sync += [self.busy.eq(1), self.clear.eq(0), self.cycles.eq(0),
                                 self.error.eq(0), count.eq(0)]
                    m.next = "FETCH"
            with m.State("FETCH"):
                m.d.comb += self.fetch.eq(1)
                m.next = "DESCRIPTOR"
            with m.State("DESCRIPTOR"):
                m.d.comb += self.words.ready.eq(1)
                with m.If(self.words.valid):
                    m.d.sync += [
                        register.eq(Cat(register, self.words.payload)[self.word_bytes * 8:]),
                        count.eq(count + 1),
                    ]
                    with m.If(count == words - 1):
                        m.d.sync += count.eq(0)
                        m.next = "BEGIN"
                end_when_too_long()
            with m.State("BEGIN"):
                m.d.comb += self.begin.eq(1)
                m.next = "RUN"
            with m.State("RUN"):
                with m.If(self.layer_done):
                    m.next = "FETCH"
                    with m.If(self.layer.last_layer):
                        m.d.sync += [self.busy.eq(0), self.clear.eq(1)]
                        m.next = "IDLE"
                end_when_too_long()
        return m
