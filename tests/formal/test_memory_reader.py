"""Proof that the memory reader loses, repeats and reorders nothing, at any pace of both sides.

Requests, answers, the blocking of the memory and the consumer are free in every cycle. One request
is chosen, any one; the specification counts the words that are ahead of it and keeps the answer
that the memory gave to it. When no word is ahead, the word taken must be that answer with that
request's tag. As any request may be the chosen one, the n-th word is the n-th answer, for all n.
Credits, queue and delays have the sizes of the engine, at each latency that its memories can have,
with tags in the queue and beside it; words are a byte, tags a bit.
"""

import pytest
from amaranth.hdl import Cat, Mux, Signal, Value

from hw import memory_reader
from hw.memory import memory_latency
from hw.memory_reader import MemoryReader

from ..hw.engines import CONFIGS
from .prove import Bench, Refuted, broken

LATENCIES = sorted({memory_latency(config) for config in CONFIGS.values()})


def prove_reader(reader: type[MemoryReader], depth: int, latency: int, quick_tags: bool, *,
                 lemmas: bool = True) -> None:
    bench = Bench()
    m = bench.m
    dut = reader(channels=1, tag=1, memory_latency=latency, quick_tags=quick_tags)
    dut.depth = depth
    registers = bench.add(dut)
    request, o = dut.request, dut.o
    for port in (request.valid, request.payload, dut.blocked, dut.data, o.ready):
        m.d.comb += port.eq(bench.free(port.shape(), "input"))

    # Requests go to the memory as they are, whenever there is room for one and it is not blocked.
    in_flight = Signal(range(dut.depth + 2))
    issued, taken = dut.enable, Signal()
    m.d.comb += taken.eq(o.valid & o.ready)
    m.d.sync += in_flight.eq(in_flight + issued - taken)
    bench.check(request.ready == ~dut.blocked & (in_flight < dut.depth))
    bench.check(issued == request.valid & request.ready)
    bench.check(~issued | (dut.address == request.payload.address))

    # The chosen request.
    choose, chosen, answered, done = bench.free(1, "choose"), Signal(), Signal(), Signal()
    picked = Signal()
    ahead  = Signal.like(in_flight)
    word, tag = Signal(8), Signal(1)
    m.d.comb += picked.eq(issued & choose & ~chosen)
    with m.If(chosen & ~done & taken):
        m.d.sync += [ahead.eq(ahead - 1), done.eq(ahead == 0)]
    with m.If(picked):
        m.d.sync += [chosen.eq(1), ahead.eq(in_flight - taken), tag.eq(request.payload.tag)]
    # picks[k]: it was chosen k + 1 cycles ago
    picks = [bench.before(picked, ago) for ago in range(1, latency + 1)]
    arrives = picks[-1]
    with m.If(arrives):
        m.d.sync += [answered.eq(1), word.eq(dut.data)]
    bench.check(~(chosen & ~done & taken & (ahead == 0))
                | (answered & (Cat(o.payload.word, o.payload.tag) == Cat(word, tag))))

    # Lemmas that make the above inductive: where in the queue the chosen answer lies.
    queue, *tags = bench.memories
    place = Signal.like(queue.write.addr)
    under_way = [bench.before(issued, ago) for ago in range(1, latency + 1)]
    first = chosen & ~done & answered & (ahead == 0) & o.valid
    with m.If(arrives):
        m.d.sync += place.eq(queue.write.addr)
    waiting = Signal.like(in_flight)
    m.d.comb += waiting.eq(in_flight - sum(under_way) - o.valid)
    bench.lemma(waiting <= dut.depth)
    bench.lemma(registers["waiting"] == waiting)
    bench.lemma((in_flight <= dut.depth) & (registers["credits"] == dut.depth - in_flight))
    bench.lemma((queue.write.addr - queue.read.addr)[:len(place)] == waiting[:len(place)])
    bench.lemma(~first | (Cat(o.payload.word, o.payload.tag) == Cat(word, tag)))
    bench.lemma(~(chosen & ~done & answered) | first | (
        (place == (queue.read.addr + ahead - o.valid)[:len(place)]) & (ahead - o.valid < waiting)
        & (Value.cast(queue.rows[place]) == Cat(word, tag))
        & Cat(Value.cast(ram.rows[place]) == tag for ram in tags).all()))
    for ram in tags:
        bench.lemma(Cat(ram.write.addr, ram.read.addr) == Cat(queue.write.addr, queue.read.addr))
    bench.lemma((chosen & ~answered) == Cat(picks).any())
    bench.lemma(sum(picks) <= 1)
    bench.lemma((~answered | chosen) & (~done | answered))
    for stage, here in enumerate(picks):
        bench.lemma(~here | (ahead == in_flight - 1 - sum(under_way[:stage])))
        bench.lemma(~here | (under_way[stage] & (tag == registers[f"tag{stage}"])))
        bench.lemma(registers[f"valid{stage}"] == under_way[stage])

    # The output is a stream, it offers only what was asked for, and it offers that in time.
    held = bench.before(o.valid & ~o.ready)
    bench.check(~held | (o.valid & (Value.cast(o.payload) == bench.before(Value.cast(o.payload)))))
    bench.check(~o.valid | (in_flight != 0))
    late = Signal(range(8))
    m.d.sync += late.eq(Mux(o.valid | (in_flight == 0), 0, late + 1))
    bench.check(late < latency + dut.queue_latency)
    # Lemmas: what is late is no longer on its way.
    bench.lemma((late <= latency) | o.valid)
    for cycles in range(1, latency + 1):
        bench.lemma((late != cycles) | o.valid | (waiting != 0) | Cat(under_way[cycles:]).any())
    bench.prove(lemmas=lemmas)


@pytest.mark.parametrize("quick_tags", [False, True])
@pytest.mark.parametrize("latency", LATENCIES)
def test_loses_repeats_and_reorders_nothing(latency, quick_tags):
    prove_reader(MemoryReader, MemoryReader.depth, latency, quick_tags)


@pytest.mark.parametrize(("right", "wrong"), [
    ("range(self.depth + 1), init=self.depth", "range(self.depth + 2), init=self.depth + 1"),
    ("self.o.valid & self.o.ready", "self.o.ready"),            # credits come back for nothing
    ("(~self.o.valid | self.o.ready)", "1"),                    # words read over waiting ones
    ("write.data.tag.eq(tag)", "write.data.tag.eq(self.request.payload.tag)"),
    ("waiting + valid - read.en", "waiting + self.enable - read.en"),   # read before it is written
    ("tag_write.addr.eq(write.addr)", "tag_write.addr.eq(read.addr)"),
    ("tag_read.en.eq(read.en)", "tag_read.en.eq(self.o.ready)"),
    ("(credits != 0) & ~self.blocked", "(credits > 1) & ~self.blocked"),    # a place is never used
])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_reader(broken(memory_reader, right, wrong).MemoryReader, 4, LATENCIES[-1],
                     "tag_" in right, lemmas=False)
