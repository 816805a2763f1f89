"""Proof that the link loses, repeats and reorders nothing between the host and the memories.

What the host sends, when it takes bytes, when the engine takes words and answers, and how long a
run takes is free in every cycle. Whatever frames that makes, damaged ones included:
- an offer to the host, a word to be written and an address to be read are held until taken;
- words to be written are the bytes behind the header, no byte left out, from the header's address
  on;
- addresses to be read are those from the header's on, and a word is sent whole, once, before the
  next one is asked for.
Words are two bytes. CRCs need no mention: they only decide which frames are carried out.
"""

from types import ModuleType

import pytest
from amaranth.hdl import Array, Cat, Mux, Signal, Value

from hw import link
from hw.config import EngineConfig
from hw.frames import REQUEST, Command, info_payload

from .prove import Bench, Refuted, broken

pytestmark = pytest.mark.long

CHANNELS = 2
STATES = 16
CARRYING_OUT = ("Dispatch", "Write", "Complete", "Store", "Payload-CRC", "Verdict", "Run")
ANSWERING = ("Head", "Body", "Fetch", "Await", "Send", "Response-CRC")
PAYLOAD = 8          # bytes before it: mark, header, CRC
CONFIG = EngineConfig(channels=CHANNELS, pixels=1, requantizers=1, tape_depth=1 << 16,
                      activation_depth=1 << 16, single_port=False)


def prove_link(module: ModuleType) -> None:
    bench = Bench()
    m = bench.m
    dut = module.Link(CONFIG, timeout=2)
    registers = bench.add(dut)
    for port in (dut.i.valid, dut.i.payload, dut.o.ready, dut.load.ready, dut.read.ready,
                 dut.data.valid, dut.data.payload, dut.busy, dut.error, dut.cycles):
        m.d.comb += port.eq(bench.free(port.shape(), "input"))

    def taken(port):
        return port.valid & port.ready

    def held(port) -> Value:
        waits = bench.before(port.valid & ~port.ready)
        payload = Value.cast(port.payload)
        return ~waits | (port.valid & (payload == bench.before(payload)))

    # The engine: a run begins when it is told to, its outcome stays; a word comes when asked for.
    bench.assume(~dut.busy | bench.before(dut.busy | dut.start))
    outcome = Cat(dut.error, dut.cycles)
    bench.assume(dut.busy | bench.before(dut.busy) | (outcome == bench.before(outcome)))
    asked = Signal(2)
    m.d.sync += asked.eq(asked + taken(dut.read) - taken(dut.data))
    bench.assume(~dut.data.valid | (asked != 0))
    bench.assume(held(dut.data))

    for port in (dut.o, dut.load, dut.read):
        bench.check(held(port))

    # The request: its mark, its header, two bytes of CRC, then payload.
    header = Signal.like(registers["header"], name="own_header")
    place  = Signal(range(PAYLOAD + 1))         # of the next byte; all of the payload's alike
    received, since = Signal(8 * CHANNELS), Signal(range(CHANNELS + 2))
    with m.If(taken(dut.i)):
        m.d.sync += received.eq(Cat(received[8:], dut.i.payload))
        with m.If(place != PAYLOAD):
            m.d.sync += place.eq(place + 1)
        with m.If((place == 0) & (dut.i.payload != REQUEST)):
            m.d.sync += place.eq(0)
        with m.If((place > 0) & (place < PAYLOAD - 2)):
            m.d.sync += header.eq(Cat(header[8:], dut.i.payload))
        m.d.sync += since.eq(Mux(since > CHANNELS, since, since + 1))
        with m.If(place == PAYLOAD - 1):
            m.d.sync += since.eq(0)
    with m.If(dut.o.valid):                     # the answer: the next byte is a mark again
        m.d.sync += place.eq(0)

    # Writing: the bytes since the word before, or since the header.
    command, address = header[:8], header[8:24]
    with m.If(taken(dut.load)):
        m.d.sync += since.eq(0)
    with m.If(taken(dut.load) | taken(dut.read)):
        m.d.sync += address.eq(address + 1)
    bench.check(~dut.load.valid | (place == PAYLOAD) & (since == CHANNELS)
                & (dut.load.payload.data == received) & (dut.load.payload.address == address)
                & (dut.load.payload.space == (command == Command.WRITE_TAPE)))
    bench.check(~dut.read.valid | (dut.read.payload == address))

    # Reading: one word at a time; its last byte is sent in the cycle in which it is taken.
    sent = Signal(8 * CHANNELS)
    with m.If(taken(dut.o)):
        m.d.sync += sent.eq(Cat(sent[8:], dut.o.payload))
    bench.check(asked <= 1)
    bench.check(~dut.read.valid | (asked == 0))
    bench.check(~taken(dut.data) | (taken(dut.o)
                                    & (dut.data.payload == Cat(sent[8:], dut.o.payload))))

    # Lemmas: what has come or been sent in each state.
    state, index, left = (registers[name] for name in ("fsm_state", "index", "left"))
    codes = {state.decoder(code).split("/")[0]: code for code in range(STATES)}

    def within(*names: str) -> Value:
        return Cat(state == codes[name] for name in names).any()

    bench.check(within(*codes))
    bench.check(~within("Idle") | (place == 0))
    bench.check(~within("Header") | (place == index + 1) & (index < PAYLOAD - 1))
    bench.check(~within(*CARRYING_OUT) | (place == PAYLOAD))
    bench.check(~within("Fetch", "Await", "Send") | (left != 0))
    bench.check(~within("Payload-CRC", "Verdict") | (left == 0))
    bench.check(~within("Run") | (command == Command.RUN))
    answers = Cat(command == own for own in (Command.INFO, Command.RUN, Command.READ_ACTIVATIONS))
    bench.check(~within(*ANSWERING) | (left == 0) | answers.any())
    same = registers["header"] == header
    bench.check(same | ~(within(*CARRYING_OUT) | within(*ANSWERING) & (left != 0)))
    for count in range(1, 6):
        bench.check(~within("Header") | (index < count)
                    | (registers["header"][-8 * count:] == header[-8 * count:]))
    reads, halfway = command == Command.READ_ACTIVATIONS, left[0]
    bench.check(~within("Dispatch") | (since == 0))
    bench.check(~within("Write") | (since == halfway))
    word, shifts = registers["word"], registers["shifts"]
    coming = Mux(shifts, Cat(word[8:], registers["newest"]), word)
    bench.check(~(within("Write") & halfway) | (coming[8:] == received[8:]))
    bench.check(~within("Complete", "Store") | (since == CHANNELS) & ~halfway
                & (coming == received))
    bench.check(~within("Store") | ~shifts)
    bench.check(within("Run") | ~dut.busy)
    bench.check(asked == (within("Await") | reads & (within("Send") | within("Body") & halfway)))
    bench.check(~within("Fetch", "Await") | reads & ~halfway)
    bench.check(~(within("Head") & reads) | ~halfway)
    bench.check(~(reads & within("Send")) | dut.data.valid)
    info = info_payload(CONFIG)
    told = Array(info[-k % len(info)] for k in range(len(info)))[left[:3]]
    cycles = Array(dut.cycles.word_select(-k % 4, 8) for k in range(4))[left[:2]]
    bench.check(~within("Send") | (registers["unsent"] == Mux(
        reads, Mux(halfway, dut.data.payload[8:], dut.data.payload[:8]),
        Mux(command == Command.INFO, told, cycles))))
    bench.check(~(reads & within("Send", "Body") & halfway)
                | dut.data.valid & (sent[8:] == dut.data.payload[:8]))
    bench.prove()


def test_loses_repeats_and_reorders_nothing():
    prove_link(link)


@pytest.mark.parametrize(("right", "wrong"), [
    ("word.eq(Cat(word[8:], newest))", "word.eq(Cat(newest, word[:-8]))"),
    ('m.next = "Complete"', 'm.next = "Store"'),
])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_link(broken(link, right, wrong))
