"""Proof that the sequencer takes its steps in order and that no program keeps it busy for ever.

Start, the stream of descriptor words, progress and the end of a layer are free in every cycle, so
a stream that stops, a layer that never ends and one that ends at once are all among the runs. The
patience is shortened to nine cycles: it is only compared with a counter. A run that goes on for
ever thus writes results, or reads descriptors, for ever.
"""

from types import ModuleType

import pytest
from amaranth.hdl import Mux, Signal

from hw import sequencer
from hw.descriptor import descriptor_words

from .prove import Bench, Refuted, broken

WORD_BYTES = 16
PATIENCE = 9


def prove_sequencer(module: ModuleType) -> None:
    bench = Bench()
    m = bench.m
    dut = module.Sequencer(WORD_BYTES)
    dut.patience = PATIENCE
    bench.add(dut)
    for port in (dut.start, dut.words.valid, dut.words.payload, dut.progress, dut.layer_done):
        m.d.comb += port.eq(bench.free(port.shape(), "input"))
    last_word = descriptor_words(WORD_BYTES) - 1

    # The order of the steps.
    running, reading = Signal(), Signal()
    words = Signal(range(last_word + 1))
    taken, ended = Signal(), Signal()
    m.d.comb += [taken.eq(dut.words.valid & dut.words.ready),
                 ended.eq(running & dut.busy & dut.layer_done)]
    m.d.sync += words.eq(Mux(dut.clear | dut.begin, 0, words + taken))
    m.d.sync += reading.eq(dut.fetch | reading & dut.busy & ~(taken & (words == last_word)))
    m.d.sync += running.eq(dut.begin | running & dut.busy & ~ended)
    bench.check(dut.clear == dut.start & ~dut.busy)
    bench.check(dut.fetch == bench.before(dut.clear | ended & ~dut.layer.last_layer))
    bench.check(dut.words.ready == reading & dut.busy)
    bench.check(dut.begin == bench.before(taken & (words == last_word)))
    bench.check(~bench.before(ended & dut.layer.last_layer) | ~dut.busy)
    bench.check(~bench.before(dut.clear) | dut.busy & (dut.cycles == 0))
    bench.check(~bench.before(dut.busy) | (dut.cycles == bench.before(dut.cycles) + 1)
                | (dut.cycles == 0) & bench.before(dut.cycles).all())

    # Nothing happens for as long as its patience lasts: it ends, with an error, and only then.
    quiet = Signal(range(PATIENCE + 1))
    restart = dut.clear | dut.begin | dut.progress | dut.layer_done | taken
    m.d.sync += quiet.eq(Mux(restart, 0, quiet + dut.busy))
    bench.check(~dut.busy | (quiet < PATIENCE))
    fell = bench.before(dut.busy) & ~dut.busy
    regular = bench.before(ended & dut.layer.last_layer)
    bench.check(~fell | (dut.error == ~regular))
    bench.check(~fell | regular | (bench.before(quiet) == PATIENCE - 1))
    bench.check(~dut.error | ~dut.busy)
    bench.check(~bench.before(dut.clear) | ~dut.error)
    bench.check(fell | bench.before(dut.clear) | (dut.error == bench.before(dut.error)))
    bench.prove()


def test_steps_are_in_order_and_patience_ends():
    prove_sequencer(sequencer)


@pytest.mark.parametrize(("right", "wrong"), [
    ("self.error.eq(0), ", ""),
    ("| self.begin | word_taken", "| word_taken"),
    ("                give_up_when_hung()\n            with m.State(\"BEGIN\")",
     "            with m.State(\"BEGIN\")"),
    ("count == words - 1", "count == words - 2"),
    ("with m.If(self.layer.last_layer)", "with m.If(self.layer.last_layer & ~self.start)"),
])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_sequencer(broken(sequencer, right, wrong))
