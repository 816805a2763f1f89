"""Proof that no tile's sums are overwritten before they have left, and each word leaves in time.

The array is free to end tiles whenever ``may_finish`` allows, also every cycle in which it does. It
shows the sums `array_latency` cycles later, in that cycle or, where it is pipelined, announces them
a cycle earlier and holds them from the second cycle after that. Their values are free. One tile is
chosen, any one: its words must come at fixed distances, whatever tiles are before and behind it.
Requantizers pass the lowest byte of their accumulators; what else they do is proved elsewhere.
"""

from types import ModuleType

import pytest
from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value

from hw import result_writer
from hw.config import EngineConfig
from hw.mac_array import array_latency
from hw.requantizer import Requantizer, requantizer_latency

from .prove import Bench, Refuted, broken

pytestmark = pytest.mark.long


class LowestByte(Requantizer):
    """A requantizer's ports and latency, and none of its arithmetic."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        value = Mux(self.upper, self.acc[1], self.acc[0])[:8]
        for stage in range(requantizer_latency(pipelined=self.pipelined)):
            later = Signal(8, name=f"stage{stage}")
            m.d.sync += later.eq(value)
            value = later
        m.d.comb += self.o.eq(value)
        return m


def prove_writer(module: ModuleType, pixels: int, channels: int, requantizers: int, *,
                 pipelined: bool = False) -> None:
    config = EngineConfig(channels=channels, pixels=pixels, requantizers=requantizers,
                          tape_depth=1, activation_depth=1, single_port=False, accumulator_bits=16,
                          pipelined=pipelined)
    latency = array_latency(config)
    bench = Bench()
    m = bench.m
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Requantizer", LowestByte)
        dut = module.ResultWriter(config, latency)
        bench.add(dut)
    pixel_last = bench.constant(4, "pixel_last")
    bench.assume(pixel_last < pixels)
    m.d.comb += [
        dut.layer.pixel_last.eq(pixel_last),
        dut.finishing.eq(bench.free(1, "finishing")),
        dut.done.eq(bench.before(dut.finishing, latency - pipelined)),
        dut.tags.row_last.eq(bench.free(1, "row_last")),
    ]
    bench.assume(~dut.finishing | dut.may_finish)
    shown = bench.before(dut.done, 2 * pipelined)       # a tile's sums, in this cycle at least
    held = Signal.like(dut.sums)
    m.d.sync += held.eq(dut.sums)
    m.d.comb += dut.sums.eq(Mux(shown | (not pipelined), bench.free(len(held.as_value()), "sums"),
                                held))

    # The buffer is given back after exactly the cycles that it is used.
    drain = config.drain_cycles
    recent = [bench.before(dut.finishing, ago) for ago in range(1, drain)]
    bench.check(dut.may_finish == ~Cat(recent).any())

    # The chosen tile.
    chunks = channels // requantizers
    delays = [chunks * (pixel + 1) + pipelined + requantizer_latency(pipelined=pipelined) + 1
              for pixel in range(pixels)]
    choose, chosen = bench.free(1, "choose"), Signal()
    age = Signal(range(delays[-1] + 1))         # cycles since it was announced
    sums, last = Signal(dut.sums.shape()), Signal(4)
    with m.If(chosen & (age != 0)):
        m.d.sync += age.eq(age + 1)
        with m.If(age == delays[-1]):
            m.d.sync += age.eq(0)
    with m.If(dut.done & choose & ~chosen):
        m.d.sync += [chosen.eq(1), age.eq(1)]
        with m.If(dut.tags.row_last):
            m.d.sync += last.eq(pixel_last)
        with m.Else():
            m.d.sync += last.eq(pixels - 1)
    with m.If(age == 2 if pipelined else age == 0):
        m.d.sync += sums.eq(dut.sums)
    for pixel, delay in enumerate(delays):
        word = Cat(sums[pixel][channel][:8] for channel in range(channels))
        bench.check((age != delay) | (dut.write == (pixel <= last)))
        bench.check((age != delay) | (pixel > last) | (Value.cast(dut.data) == word))
    # Nothing else is written.
    bench.check(~dut.write | Cat(bench.before(dut.done, delay) for delay in delays).any())
    bench.prove()


@pytest.mark.parametrize(("pixels", "channels", "requantizers"), [(1, 2, 2), (2, 2, 1), (3, 2, 2)])
def test_every_tile_leaves_whole(pixels, channels, requantizers):
    prove_writer(result_writer, pixels, channels, requantizers)


@pytest.mark.parametrize(("pixels", "channels", "requantizers"), [(1, 2, 2), (2, 2, 1), (3, 2, 1)])
def test_every_tile_leaves_whole_where_sums_are_multiplexed(pixels, channels, requantizers):
    prove_writer(result_writer, pixels, channels, requantizers, pipelined=True)


@pytest.mark.parametrize(("right", "wrong"), [
    ("config.drain_cycles + pipeline - 1", "config.drain_cycles + pipeline - 2"),
    ("occupied <= pipeline + 1", "occupied <= pipeline + 2"),
    ("(pixel <= end)", "(pixel < end)"),
])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_writer(broken(result_writer, right, wrong), 3, 2, 1)


@pytest.mark.parametrize(("right", "wrong"), [
    ("busy, Cat(next_chunk, next_pixel))", "busy, Cat(chunk, pixel))"),
    ("range(config.pipelined + requantizer", "range(requantizer"),
    ("index >> exact_log2(half)", "0"),
])
def test_a_broken_one_that_multiplexes_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_writer(broken(result_writer, right, wrong), 3, 2, 1, pipelined=True)
