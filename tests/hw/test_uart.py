# amaranth: UnusedElaboratable=no
"""The UART: bytes survive the line, a clock that is off, and bad stop bits are noticed."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from hw.uart import UartReceiver, UartTransmitter

from .streams import get, held_until_ready, put, simulate


class Loopback(wiring.Component):
    """A transmitter whose line is the receiver's."""

    i: In(stream.Signature(8))
    o: Out(stream.Signature(8))
    error: Out(1)

    def __init__(self, divisor):
        self.divisor = divisor
        super().__init__()

    def elaborate(self, platform):
        m = Module()
        m.submodules.transmitter = transmitter = UartTransmitter(self.divisor)
        m.submodules.receiver = receiver = UartReceiver(self.divisor)
        connect(m, flipped(self.i), transmitter.i)
        connect(m, receiver.o, flipped(self.o))
        m.d.comb += [receiver.rx.eq(transmitter.tx), self.error.eq(receiver.error)]
        return m


@pytest.mark.parametrize("divisor", [4, 5, 12])
def test_loopback_at_full_speed(divisor):
    sent = [0x00, 0xFF, 0x55, 0xAA, 0x80, 0x01, *random.Random(divisor).choices(range(256), k=20)]
    dut = Loopback(divisor)
    elapsed = 0

    async def feed(ctx):
        nonlocal elapsed
        for byte in sent:
            await put(ctx, dut.i, byte)
            elapsed += 1

    async def check(ctx):
        assert [await get(ctx, dut.o) for _ in sent] == sent

    async def no_error(ctx):
        async for _, _, error in ctx.tick().sample(dut.error):
            assert not error

    # the documented throughput is part of the test: one byte per 10 * divisor + 1 cycles
    simulate(dut, feed, check, background=(no_error,),
             cycles=(len(sent) + 1) * (10 * divisor + 1))
    assert elapsed == len(sent)


def test_transmitter_line():
    """The bits themselves, so that receiver and transmitter cannot share one mistake."""
    dut = UartTransmitter(4)

    async def feed(ctx):
        await put(ctx, dut.i, 0b11010010)

    async def check(ctx):
        await ctx.tick().until(~dut.tx)
        line = []
        for _ in range(10):
            line.append(ctx.get(dut.tx))
            await ctx.tick().repeat(4)
        assert line == [0, 0, 1, 0, 0, 1, 0, 1, 1, 1]
        for _ in range(40):
            assert ctx.get(dut.tx), "the idle line is not high"
            await ctx.tick()

    simulate(dut, feed, check, cycles=100)


async def send_line(ctx, rx, bits, bit_cycles, phase=0.0):
    """Drive ``bits`` on a line whose bit time is a real number of cycles."""
    at = 0
    for number, bit in enumerate(bits, start=1):
        ctx.set(rx, bit)
        while at < phase + number * bit_cycles:
            await ctx.tick()
            at += 1


def frame(byte, stop=1):
    return [0, *(byte >> k & 1 for k in range(8)), stop]


@pytest.mark.parametrize("divisor", [4, 12, 25])
@pytest.mark.parametrize("error", [-0.02, 0.02])
@pytest.mark.parametrize("phase", [0.0, 0.5])
def test_receiver_tolerates_wrong_clock(divisor, error, phase):
    """Bytes back to back from a sender whose clock is off by 2 %."""
    sent = [0x00, 0xFF, 0xA5, 0x5A, 0x7F, 0x80, 0x01, 0xFE]
    dut = UartReceiver(divisor)
    bits = [bit for byte in sent for bit in frame(byte)]

    async def feed(ctx):
        await send_line(ctx, dut.rx, [*bits, 1], divisor * (1 + error), phase)

    async def check(ctx):
        assert [await get(ctx, dut.o) for _ in sent] == sent

    simulate(dut, feed, check, cycles=12 * divisor * len(sent))


def received(divisor, bits, ready=True):
    """Bytes and error pulses for a line of whole bit times."""
    dut = UartReceiver(divisor)
    taken, errors = [], 0

    async def feed(ctx):
        await send_line(ctx, dut.rx, bits, divisor)

    async def watch(ctx):
        nonlocal errors
        ctx.set(dut.o.ready, ready)
        async for _, _, valid, payload, error in ctx.tick().sample(
                dut.o.valid, dut.o.payload, dut.error):
            errors += error
            if valid and (ready or not taken):
                taken.append(payload)

    simulate(dut, feed, background=(watch, held_until_ready(dut.o)),
             cycles=(len(bits) + 2) * divisor)
    return taken, errors


def test_framing_error_loses_one_byte():
    bits = [*frame(0x31), *frame(0x32, stop=0), 1, *frame(0x33), 1, 1]
    assert received(4, bits) == ([0x31, 0x33], 1)


def test_break_counts_once():
    assert received(4, [*[0] * 45, 1, *frame(0x33), 1, 1]) == ([0x33], 1)


def test_byte_not_taken_is_kept_and_the_next_lost():
    assert received(4, [*frame(0x31), *frame(0x32), 1, 1], ready=False) == ([0x31], 1)


def test_spike_is_no_start_bit():
    dut = UartReceiver(12)

    async def feed(ctx):
        ctx.set(dut.rx, 0)
        await ctx.tick().repeat(3)
        ctx.set(dut.rx, 1)
        for _ in range(150):
            await ctx.tick()
            assert not ctx.get(dut.o.valid) and not ctx.get(dut.error)

    simulate(dut, feed, cycles=200)


def test_divisor_too_small():
    for component in (UartReceiver, UartTransmitter):
        with pytest.raises(ValueError, match="must be at least 4 clock cycles per bit, not 3"):
            component(3)
