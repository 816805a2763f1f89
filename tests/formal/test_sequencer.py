"""Proof that the sequencer takes its steps in order and that no program keeps it busy for ever.

Start, the stream of descriptor words and the end of a layer are free in every cycle, so a stream
that stops, a layer that never ends, one that ends at once and a program without end are all among
the runs. The longest run is shortened to 16 cycles: it is only compared with a counter.
"""

from types import ModuleType

import pytest
from amaranth.hdl import Mux, Signal

from hw import sequencer
from hw.descriptor import descriptor_words

from .prove import Bench, Refuted, broken

WORD_BYTES = 16
LONGEST_RUN = 16


def prove_sequencer(module: ModuleType) -> None:
    bench = Bench()
    m = bench.m
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.Sequencer, "longest_run", LONGEST_RUN)
        dut = module.Sequencer(WORD_BYTES)
    bench.add(dut)
    for port in (dut.start, dut.words.valid, dut.words.payload, dut.layer_done):
        m.d.comb += port.eq(bench.free(port.shape(), "input"))
    last_word = descriptor_words(WORD_BYTES) - 1

    # The order of the steps.
    running, reading = Signal(), Signal()
    words = Signal(range(last_word + 1))
    started, taken, ended, expired = Signal(), Signal(), Signal(), Signal()
    m.d.comb += [started.eq(dut.start & ~dut.busy),
                 expired.eq((running | reading) & (dut.cycles >= LONGEST_RUN)),
                 taken.eq(dut.words.valid & dut.words.ready & ~expired),
                 ended.eq(running & dut.busy & dut.layer_done & ~expired)]
    m.d.sync += words.eq(Mux(started | dut.begin, 0, words + taken))
    m.d.sync += reading.eq(dut.fetch | reading & dut.busy & ~(taken & (words == last_word)))
    m.d.sync += running.eq(dut.begin | running & dut.busy & ~ended)
    bench.check(dut.clear == ~dut.busy)
    bench.check(dut.fetch == bench.before(started | ended & ~dut.layer.last_layer))
    bench.check(dut.words.ready == reading & dut.busy)
    bench.check(dut.begin == bench.before(taken & (words == last_word)))
    bench.check(~bench.before(ended & dut.layer.last_layer) | ~dut.busy)
    bench.check(~bench.before(started) | dut.busy & (dut.cycles == 0))
    bench.check(~bench.before(dut.busy) | (dut.cycles == bench.before(dut.cycles) + 1))

    # Whatever happens or does not, it ends: with an error if and only if it took too long.
    bench.check(~dut.busy | (dut.cycles <= LONGEST_RUN + 1))
    fell = bench.before(dut.busy) & ~dut.busy
    bench.check(~fell | bench.before(expired) | bench.before(ended & dut.layer.last_layer))
    bench.check(~fell | (dut.error == bench.before(expired)))
    bench.check(~dut.error | ~dut.busy)
    bench.check(~bench.before(started) | ~dut.error)
    bench.check(fell | bench.before(started) | (dut.error == bench.before(dut.error)))
    bench.prove()


def test_steps_are_in_order_and_every_run_ends():
    prove_sequencer(sequencer)


@pytest.mark.parametrize(("right", "wrong"), [
    ("self.error.eq(0), ", ""),
    ("                end_when_too_long()\n            with m.State(\"BEGIN\")",
     "            with m.State(\"BEGIN\")"),
    ("                end_when_too_long()\n        return", "        return"),
    ("count == words - 1", "count == words - 2"),
    ("with m.If(self.layer.last_layer)", "with m.If(self.layer.last_layer & ~self.start)"),
])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_sequencer(broken(sequencer, right, wrong))
