"""Proof that the memory reader loses, repeats and reorders nothing, at any pace of both sides.

Requests, answers, the blocking of the memory and the consumer are free in every cycle. One request
is chosen, any one; the specification counts the words that are ahead of it and keeps the answer
that the memory gave to it. When no word is ahead, the word taken must be that answer with that
request's tag. As any request may be the chosen one, the n-th word is the n-th answer, for all n.
Credits, queue and delays have the sizes of the engine; words are a byte, tags a bit.
"""

import pytest
from amaranth.hdl import Cat, Mux, Signal, Value

from hw import memory_reader
from hw.memory_reader import MemoryReader

from .prove import Bench, Refuted, broken

pytestmark = pytest.mark.long


def prove_reader(reader: type[MemoryReader], depth: int) -> None:
    bench = Bench()
    m = bench.m
    dut = reader(channels=1, tag=1)
    dut.depth = depth
    bench.add(dut)
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
    with m.If(bench.before(picked, dut.memory_latency)):
        m.d.sync += [answered.eq(1), word.eq(dut.data)]
    bench.check(~(chosen & ~done & taken & (ahead == 0))
                | (answered & (Cat(o.payload.word, o.payload.tag) == Cat(word, tag))))

    # Lemmas that make the above inductive: where in the queue the chosen answer lies.
    (queue,) = bench.memories
    place = Signal.like(queue.write.addr)
    under_way = [bench.before(issued, 1), bench.before(issued, 2)]
    arrives = bench.before(picked, dut.memory_latency)
    first = chosen & ~done & answered & (ahead == 0) & o.valid
    with m.If(arrives):
        m.d.sync += place.eq(queue.write.addr)
    waiting = Signal.like(in_flight)
    m.d.comb += waiting.eq(in_flight - sum(under_way) - o.valid)
    bench.check(waiting <= dut.depth)
    bench.check((queue.write.addr - queue.read.addr)[:len(place)] == waiting[:len(place)])
    bench.check(~first | (Cat(o.payload.word, o.payload.tag) == Cat(word, tag)))
    bench.check(~(chosen & ~done & answered) | first | (
        (place == (queue.read.addr + ahead - o.valid)[:len(place)]) & (ahead - o.valid < waiting)
        & (Value.cast(queue.rows[place]) == Cat(word, tag))))
    bench.check((chosen & ~answered) == (bench.before(picked, 1) | arrives))
    bench.check(~bench.before(picked, 1) | (ahead == in_flight - 1))
    bench.check(~arrives | (ahead == in_flight - 1 - under_way[0]))
    bench.check(~arrives | (tag == queue.write.data.tag))

    # The output is a stream, it offers only what was asked for, and it offers that in time.
    held = bench.before(o.valid & ~o.ready)
    bench.check(~held | (o.valid & (Value.cast(o.payload) == bench.before(Value.cast(o.payload)))))
    bench.check(~o.valid | (in_flight != 0))
    late = Signal(range(8))
    m.d.sync += late.eq(Mux(o.valid | (in_flight == 0), 0, late + 1))
    bench.check(late < dut.memory_latency + dut.queue_latency)
    bench.prove()


def test_loses_repeats_and_reorders_nothing():
    prove_reader(MemoryReader, MemoryReader.depth)


@pytest.mark.parametrize(("right", "wrong"), [
    ("range(self.depth + 1), init=self.depth", "range(self.depth + 2), init=self.depth + 1"),
    ("self.o.valid & self.o.ready", "self.o.ready"),            # credits come back for nothing
    ("(~self.o.valid | self.o.ready)", "1"),                    # words read over waiting ones
    ("write.data.tag.eq(tag)", "write.data.tag.eq(self.request.payload.tag)"),
    ("waiting + valid - read.en", "waiting + self.enable - read.en"),   # read before it is written
    ("(credits != 0) & ~self.blocked", "(credits > 1) & ~self.blocked"),    # a place is never used
])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_reader(broken(memory_reader, right, wrong).MemoryReader, 4)
