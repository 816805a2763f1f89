"""Proof that bytes cross the serial line once and in order, unless one is not taken in time.

A transmitter's line is a receiver's; when bytes are offered and taken is free. The specification
knows each byte and for how many cycles it has been on the line. Half a bit into its stop bit it is
offered at the other end; or it is lost and `error` says so, if the one ahead is still there.
Bits last four cycles.
"""

from itertools import pairwise
from types import ModuleType

import pytest
from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, ResetSignal, Signal, Value

from hw import uart

from .prove import Bench, Refuted, broken

BITS = 10                               # of a byte on the line
IDLE, START, DATA, STOP = range(4)      # states of the receiver
SYNCHRONISER = 2                        # cycles from the line to the receiver


class Loop(Elaboratable):
    def __init__(self, module: ModuleType, divisor: int) -> None:
        self.transmitter = module.UartTransmitter(divisor)
        self.receiver = module.UartReceiver(divisor)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.transmitter = self.transmitter
        m.submodules.receiver = self.receiver
        m.d.comb += self.receiver.rx.eq(self.transmitter.tx)
        return m


def on_the_line(age: Value, byte: Value, divisor: int) -> Value:
    """The line when ``byte`` has been on it for ``age`` cycles; no byte is where that is 0."""
    bit = Array([BITS, *(cycle // divisor for cycle in range(BITS * divisor))])[age]
    return Array([0, *byte, 1, 1])[bit]


def prove_loop(module: ModuleType, divisor: int) -> None:
    bench = Bench()
    m = bench.m
    loop = Loop(module, divisor)
    registers = bench.add(loop)
    bench.assume(~ResetSignal())            # the synchroniser has none: the line goes on behind it
    i, o, error = loop.transmitter.i, loop.receiver.o, loop.receiver.error
    for port in (i.valid, i.payload, o.ready):
        m.d.comb += port.eq(bench.free(port.shape(), "input"))

    # The byte on the line; a byte is accepted whenever there is none.
    age, byte = Signal(range(BITS * divisor + 1)), Signal(8)
    bench.check(i.ready == (age == 0))
    with m.If(age != 0):
        m.d.sync += age.eq(Mux(age == BITS * divisor, 0, age + 1))
    with m.Elif(i.valid):
        m.d.sync += [age.eq(1), byte.eq(i.payload)]
    bench.check(loop.transmitter.tx == on_the_line(age, byte, divisor))

    # What the receiver has of it: it is late by its synchroniser.
    history = [(age, byte)]
    for _ in range(SYNCHRONISER):
        history.append(tuple(bench.before(value) for value in history[-1]))
    late, sent = history[-1]
    in_stop_bit = 1 + divisor // 2 + (BITS - 1) * divisor
    arrives = late == in_stop_bit
    offered, payload = Signal(), Signal(8)
    lost = arrives & offered & ~o.ready
    with m.If(o.ready):
        m.d.sync += offered.eq(0)
    with m.If(arrives & ~lost):
        m.d.sync += [offered.eq(1), payload.eq(sent)]
    bench.check(o.valid == offered)
    bench.check(~offered | (o.payload == payload))
    bench.check(error == lost)

    # Lemmas: both sides' registers follow from the age.
    ages = range(1, BITS * divisor + 1)
    bench.check(age <= BITS * divisor)
    bench.check(registers["transmitter.bits"]
                == Array([0, *(BITS - (k - 1) // divisor for k in ages)])[age])
    bench.check((age == 0) | (registers["transmitter.timer"]
                              == Array([0, *(divisor - 1 - (k - 1) % divisor for k in ages)])[age]))
    frame, gone = Cat(0, byte, 1), Array([BITS, *((k - 1) // divisor for k in ages)])[age]
    for bits in range(BITS + 1):
        bench.check((gone != bits)
                    | (registers["transmitter.line"]
                       == Cat(frame[bits:], Const((1 << bits) - 1, bits))))
    for stage, ((newer, newer_byte), (older, older_byte)) in enumerate(pairwise(history)):
        bench.check(registers[f"receiver.synchroniser.stage{stage}"]
                    == on_the_line(older, older_byte, divisor))
        bench.check(older <= BITS * divisor)
        bench.check((newer == Mux(older == BITS * divisor, 0, older + 1))
                    | (newer == 0) & (older == 0))
        bench.check((newer <= 1) | (newer_byte == older_byte))

    started = 2 + divisor // 2                  # the age from which on data bits are awaited
    phases = []                                 # of the receiver: state, timer, data bits received
    for k in range(BITS * divisor + 1):
        bits, cycle = divmod(k - started, divisor)
        phases.append((IDLE, None, None) if k < 2 or k > in_stop_bit
                      else (START, started - 1 - k, None) if k < started
                      else (STOP if bits == 8 else DATA, divisor - 1 - cycle, bits))
    bench.check(registers["receiver.fsm_state"] == Array([state for state, *_ in phases])[late])
    for k, (_, timer, bits) in enumerate(phases):
        if timer is not None:
            bench.check((late != k) | (registers["receiver.timer"] == timer))
        if bits is not None:
            bench.check((late != k) | ((registers["receiver.bits"] == 8 - bits)
                                       & (registers["receiver.byte"][8 - bits:] == sent[:bits])))
    bench.prove()


def test_bytes_cross_the_line():
    prove_loop(uart, 4)


@pytest.mark.parametrize(("right", "wrong"), [
    ("line.eq(Cat(0, self.i.payload, 1))", "line.eq(Cat(0, self.i.payload[::-1], 1))"),
])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_loop(broken(uart, right, wrong), 4)
