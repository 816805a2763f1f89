"""Proof that the array makes every product of every window once, in order, and ends tiles then.

Windows, weights, their pace and the result buffer's are free. The specification counts the products
of a window. What is done about a product must reach each lane when the product does: whether it
starts a sum, is added, ends a tile. Multipliers pass their operands on, side by side, instead of
their product, and accumulators are left out; both are proved elsewhere. So a lane's product tells
whether the right byte met the right weight. Of lanes of both kinds the products themselves are.

A pipelined array announces a tile when its last product ends, a cycle before its sums are there.
Words come `read_latency` cycles after their window was taken and stay until the next one's.
A layer's fields change when no product is on its way.
"""

from dataclasses import replace
from itertools import pairwise
from types import ModuleType

import pytest
from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import data

from hw import mac_array
from hw.accumulator import Accumulator
from hw.config import EngineConfig
from hw.copies import GROUPS
from hw.mac_array import array_latency, product_latency
from hw.multiplier import MultiplierPair
from hw.term_product import AUSN_TERMS, LINEAR_TERMS
from hw.window_memory import read_latency
from hw.words import TAGS

from .prove import Bench, Refuted, broken

FIELDS = ("depthwise", "maximum", "in_strips", "gathers", "channel_last")


class Operands(MultiplierPair):
    """A pair of multipliers' ports and latency; a product is its operands side by side."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        value = Cat(self.x[0], self.w[0], self.x[1], self.w[1])
        self.stages = [Signal(len(value), name=f"stage{k}") for k in range(self.latency)]
        for stage in self.stages:
            m.d.sync += stage.eq(value)
            value = stage
        m.d.comb += Value.cast(self.o).eq(value)
        return m


class Lane(Accumulator):
    """An accumulator's ports; its total is any."""

    def elaborate(self, platform: object) -> Elaboratable:
        m = Module()
        m.d.comb += self.total.eq(platform.bench.free(len(self.total), "total"))
        return m


class ArrayBench(Bench):
    """A bench with an array whose multipliers and accumulators are within reach."""

    def __init__(self, module: ModuleType, config: EngineConfig) -> None:
        super().__init__()
        self.config = config
        self.pairs: list[Operands] = []
        self.lanes: list[Lane] = []
        with pytest.MonkeyPatch.context() as patch:
            for name, kind, made in (("MultiplierPair", Operands, self.pairs),
                                     ("Accumulator", Lane, self.lanes)):
                patch.setattr(module, name, recorded(kind, made))
            self.dut = module.MacArray(config)
            self.registers = self.add(self.dut)

    def places(self) -> list[tuple[int, int]]:
        """Pixel and channel of each of `lanes`, in order."""
        return [(p, c) for c in range(self.config.channels) for p in range(self.config.pixels)]

    def product(self, p: int, c: int, words: data.View, channel: Value, strip: Value,
                weights: data.View) -> Value:
        """The byte and the weight that lane (``p``, ``c``) is to multiply."""
        size = self.config.channels // self.config.strips
        first = Mux(self.dut.in_strips, c // size * size, strip * size)
        place = Mux(self.dut.depthwise, c, (first + channel)[:len(channel)])
        return Cat(words[p].as_value().word_select(place, 8), weights[c])


def recorded(kind: type, made: list) -> type:
    """``kind``, each instance of which is put into ``made``."""

    class Recorded(kind):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)
            made.append(self)

    return Recorded


def width(bench: ArrayBench) -> Value:
    """Channels of a word that are broadcast."""
    config = bench.config
    return Mux(bench.dut.in_strips | bench.dut.gathers, config.channels // config.strips,
               config.channels)


def within(bench: ArrayBench, channel: Value, strip: Value) -> Value:
    """Whether a strip's number and what is broadcast of a word can be."""
    return ((bench.dut.gathers | (strip == 0))
            & (bench.dut.depthwise | (channel < width(bench))))


def assume_fields(bench: ArrayBench) -> None:
    """What is true of the compiler's layers."""
    dut = bench.dut
    bench.assume(~(dut.gathers & (dut.in_strips | dut.depthwise)))
    bench.assume(dut.depthwise | (dut.channel_last < width(bench)))
    if bench.config.strips == 1:
        bench.assume(~(dut.in_strips | dut.gathers))


def prove_array(module: ModuleType, config: EngineConfig, *, lemmas: bool = True) -> None:
    bench = ArrayBench(module, config)
    m, dut, registers = bench.m, bench.dut, bench.registers
    latency, late = product_latency(config), read_latency(config)
    i, weights = dut.i, dut.weights
    for port in (i.valid, i.payload, weights.valid, weights.payload, dut.may_finish):
        m.d.comb += port.eq(bench.free(port.shape(), "input"))
    assume_fields(bench)
    bench.assume(~dut.depthwise | i.payload.partial)
    bench.assume(dut.gathers | (i.payload.strip == 0))

    # The window whose products are made, and which of them is next.
    present, window = Signal(), Signal(TAGS)
    channel, last = Signal(5), Signal(5)
    taken, issued, finishing, ends = Signal(), Signal(), Signal(), Signal()
    m.d.comb += [
        taken.eq(i.valid & i.ready),
        issued.eq(weights.valid & weights.ready),
        ends.eq(channel == last),
        finishing.eq(issued & ends & window.last),
    ]
    with m.If(issued):
        m.d.sync += [channel.eq(channel + 1), window.first.eq(0), present.eq(~ends)]
    with m.If(taken):
        m.d.sync += [present.eq(1), window.eq(i.payload), channel.eq(0), last.eq(
            Mux(i.payload.partial, dut.channel_last, width(bench) - 1))]
    bench.check(weights.ready == (present & (dut.may_finish | ~(ends & window.last))))
    bench.check(i.ready == (~present | (issued & ends)))
    bench.check(dut.finishing == finishing)

    # The layer's fields; words stay until the next window's.
    busy = Cat(bench.before(present, ago) for ago in range(latency + 1)).any()
    for name in FIELDS:
        field = getattr(dut, name)
        held = Signal.like(field, name=f"held_{name}")
        m.d.sync += held.eq(field)
        m.d.comb += field.eq(Mux(present | busy, held, bench.free(field.shape(), name)))
    held_words = Signal.like(dut.words)
    m.d.sync += held_words.eq(dut.words)
    m.d.comb += dut.words.eq(Mux(bench.before(taken, late),
                                 bench.free(len(held_words.as_value()), "words"), held_words))

    # Each product's meaning reaches the lanes with it. Copies are not reset: what was under way
    # then is added some cycles later, to sums that nobody will see.
    copies = 1 + config.pipelined       # on the way from the pipeline's stages to a lane
    warm = [bench.before(Const(1), ago) for ago in range(copies + 2)]
    added = bench.before(issued, latency)
    starts = bench.before(issued & window.first, latency)
    announced = array_latency(config) - config.pipelined
    bench.check(dut.done == bench.before(finishing, announced))
    bench.check(~dut.done | (Value.cast(dut.tags) == bench.before(window.as_value(), announced)))
    for lane in bench.lanes:
        bench.check(~warm[copies] | (lane.accumulate == added))
        bench.check(~added | warm[copies])
        bench.check(~added | (lane.load == starts))

    # The sums are what the accumulators hold in the cycle after that of the last product's end.
    summed, ended = bench.before(finishing, array_latency(config)), Signal()
    with m.If(summed):
        m.d.sync += ended.eq(1)
    for lane, (p, c) in zip(bench.lanes, bench.places(), strict=True):
        total = lane.total
        if config.pipelined:
            total = Signal.like(lane.total, name="announced")
            with m.If(summed):
                m.d.sync += total.eq(lane.total)
            bench.check(~ended | (dut.sums[p][c] == total))
        else:
            bench.check(dut.sums[p][c] == total)

    # Lemmas.
    bench.lemma((registers["full"] == present) & (~present | warm[1]))
    for earlier, later in pairwise(warm):
        bench.lemma(~later | earlier)
    bench.lemma(~present | ((registers["channel"] == channel) & (channel <= last)))
    bench.lemma(~present | (registers["left"] == (last - channel)[:5]))
    bench.lemma(~present | (registers["final"] == ends))
    bench.lemma(~present | (registers["tags"] == window.as_value()))
    bench.lemma(~present | within(bench, last, window.strip))
    for stage in range(latency):
        earlier = bench.before(issued, stage + 1)
        control = registers[f"control{stage}"]
        bench.lemma(control[1] == earlier)
        bench.lemma(~bench.before(finishing, stage + 1) | earlier)
        bench.lemma(~earlier | warm[min(stage + 2, copies + 1)])
        bench.lemma(control[2] == bench.before(finishing, stage + 1))
        bench.lemma(~earlier | (control[0] == ~bench.before(issued & window.first, stage + 1)))
        bench.lemma(~earlier | (registers[f"tags{stage}"]
                                == bench.before(window.as_value(), stage + 1)))
    if config.pipelined:
        # The first registers that are called so are those of the array's controls: four on the way,
        # and one for each channel.
        near, far = batched_copies(registers, config)
        for copy in near:
            bench.lemma(~warm[1] | (copy == bench.before(registers[f"control{latency - 3}"])))
        for copy in far:
            bench.lemma(~warm[2] | (copy == registers[f"control{latency - 1}"]))
        ends_tile = [register for name, register in registers.items()
                     if name.startswith("register") and len(register) == 1]
        for register in ends_tile:
            bench.lemma(~warm[3] | (register == summed))
        bench.lemma(~(ended | summed) | warm[3])
    else:
        check_shifted(bench, issued, present, window, channel)
    bench.prove(lemmas=lemmas)


def batched_copies(registers: dict[str, Signal], config: EngineConfig
                   ) -> tuple[list[Signal], list[Signal]]:
    """Copies of the array's controls: those on the way, and for each channel one."""
    copies = [register for name, register in registers.items() if name.startswith("copy")]
    near = min(GROUPS, config.channels)
    return copies[:near], copies[near:near + config.channels]


def check_shifted(bench: ArrayBench, issued: Value, present: Value, window: data.View,
                  channel: Value) -> None:
    """The right operands, where words are shifted a byte with each product that broadcasts one."""
    dut, registers = bench.dut, bench.registers
    latency = product_latency(bench.config)
    made, known, fresh = bench.before(issued), bench.before(present), bench.before(dut.i.ready)
    words, place, of_strip, weights = (bench.before(value) for value in (
        dut.words, channel, window.strip, dut.weights.payload))
    wanted = [bench.product(p, c, words, place, of_strip, weights) for p, c in bench.places()]
    # From cycle to cycle: `latency` cycles after the issue it is the lane's product.
    issues, products = [made], [wanted]
    for _ in range(latency - 1):
        issues.append(bench.before(issues[-1]))
        products.append([bench.before(product) for product in products[-1]])
    for lane, product in zip(bench.lanes, products[-1], strict=True):
        bench.check(~issues[-1] | (lane.product.as_unsigned() == product))

    # Lemmas: the words as they are shifted by now; products on their way.
    taken, shifts, strip, weight = (registers[f"register{number}"]
                                     for number in ("", "#1", "#2", "#3"))
    started = bench.before(Const(1))
    bench.lemma(~made | known)
    bench.lemma(~present | (channel == Mux(fresh, 0, place + made)))
    bench.lemma(~present | (fresh == bench.before(dut.i.valid & dut.i.ready)))
    bench.lemma(~present | known | fresh)
    bench.lemma(~started | (taken == fresh))
    bench.lemma(~started | (shifts == made))
    bench.lemma(~known | (strip == of_strip))
    bench.lemma(~known | within(bench, place, of_strip))
    bench.lemma(~started | (weight == weights.as_value()))
    for p in range(bench.config.pixels):
        bits = len(words[p].as_value())
        now = registers["words"].word_select(p, bits)
        shifted = words[p].as_value() >> Mux(dut.depthwise, 0, place << 3)
        bench.lemma(~known | (now == shifted[:bits]))
    for number in range(len(wanted)):
        for k, stage in enumerate(bench.pairs[number // 2].stages):
            bench.lemma(~issues[k + 1] | (stage.word_select(number % 2, 16)
                                          == products[k + 1][number]))


def multiplied(lane: Lane, c: int, operands: Value) -> tuple[Value, Value]:
    """What a lane of an array of both kinds adds up, and what it should of its operands."""
    byte, code = operands[:8], operands[8:]
    codes = (AUSN_TERMS if c % 2 else LINEAR_TERMS).codes
    weight = Array(Const(one, signed(5)) for one in codes)[code]
    return lane.product + (lane.carry if lane.carries else 0), byte * weight


def prove_multiplexed(module: ModuleType, config: EngineConfig) -> None:
    """The right operands, where bytes are chosen of words that stay: whatever was before.

    Which product is next, and that there is such a byte, is proved by `prove_array`.
    """
    bench = ArrayBench(module, config)
    m, dut = bench.m, bench.dut
    latency, late = product_latency(config), read_latency(config) - 1
    for port in (dut.i.valid, dut.i.payload, dut.weights.valid, dut.weights.payload,
                 dut.may_finish, dut.words, *(getattr(dut, name) for name in FIELDS)):
        m.d.comb += port.eq(bench.free(port.shape(), "input"))
    assume_fields(bench)
    channel, tags = bench.registers["channel"], data.View(TAGS, bench.registers["tags"])
    bench.assume(~bench.registers["full"] | within(bench, channel, tags.strip))

    # The layer's fields are what they are now since the product was issued; before, they were any.
    fields = Cat(getattr(dut, name) for name in FIELDS)
    stable = Cat(bench.before(fields, ago) == fields for ago in range(1, latency + 1)).all()
    issued = bench.before(dut.weights.valid & dut.weights.ready, latency) & stable
    channel, strip, weights = (bench.before(value, late) for value in (
        channel, tags.strip, dut.weights.payload))
    for lane, (p, c) in zip(bench.lanes, bench.places(), strict=True):
        product = bench.before(bench.product(p, c, dut.words, channel, strip, weights),
                               latency - late)
        got, wanted = (multiplied(lane, c, product) if config.mixed
                       else (lane.product.as_unsigned(), product))
        bench.check(~issued | (got == wanted))
        if config.mixed:
            bench.assume(weights[c].as_unsigned() != 8)      # neither -8 nor the other zero
    bench.prove_pipeline(latency + 1)


def config_of(strips: int, pipelined: bool, pixels: int = 1) -> EngineConfig:
    """Words of four bytes."""
    return EngineConfig(channels=4, pixels=pixels, requantizers=4, tape_depth=1,
                        activation_depth=1, single_port=False, strips=strips, pipelined=pipelined)


def both_kinds(channels: int, strips: int) -> EngineConfig:
    """A pixel of each kind of linear products beside those of AUSN weights."""
    return replace(config_of(strips, True, pixels=2), channels=channels, requantizers=channels,
                   weight_bits=4, table_pixels=1, mixed=True)


@pytest.mark.parametrize("pipelined", [False, True])
@pytest.mark.parametrize("strips", [1, 4])
def test_products_are_made_once_and_in_order(strips, pipelined):
    prove_array(mac_array, config_of(strips, pipelined))


@pytest.mark.parametrize("strips", [1, 4])
def test_the_right_operands_are_chosen(strips):
    prove_multiplexed(mac_array, config_of(strips, True, pixels=2))


@pytest.mark.parametrize("channels, strips", [(4, 1), (8, 4)])
def test_lanes_of_both_kinds_make_the_right_products(channels, strips):
    prove_multiplexed(mac_array, both_kinds(channels, strips))


@pytest.mark.parametrize(("right", "wrong"), [
    ("AUSN_TERMS if coded else LINEAR_TERMS", "LINEAR_TERMS"),
    ("Cat(earlier[c], sign)", "Cat(weights[c], sign)"),
    ("lane.carry.eq(lacks[p, c])", "lane.carry.eq(0)"),
    ("choices.append(self.staged(m, choices[-1]))", "choices.append(choices[-1])"),
])
def test_wrong_products_are_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_multiplexed(broken(mac_array, right, wrong), both_kinds(4, 1))


MUTANTS = (
    ("(self.may_finish | ~(final & tags.last))", "(self.may_finish | ~final)"),
    ("~full | (issue & final)", "~full | issue"),
    ("may_issue & self.weights.valid", "may_issue"),
    ("final.eq(left == 1)", "final.eq(left == 0)"),
    ("tags.first.eq(0)", "tags.first.eq(tags.first)"),
    ("self.done.eq(controls[-1][2])", "self.done.eq(controls[-2][2])"),
    ("copied(m, platform, controls[-2], config", "copied(m, platform, controls[-1], config"),
    ("next_tags.eq(finish_tags)", "next_tags.eq(tags)"),
    ("with m.Elif(issued & ~self.depthwise)", "with m.Elif(issued)"),
    ("taken, issued = self.staged(m, self.i.ready)", "taken, issued = self.i.ready"),
    ("heads[number], common) if number else common", "common, common)"),
    ("range(operand_latency(config)):", "range(operand_latency(config) - 1):"),
)


@pytest.mark.parametrize(("right", "wrong"), [
    pytest.param(*mutant, marks=pytest.mark.long if number else ())
    for number, mutant in enumerate(MUTANTS)])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_array(broken(mac_array, right, wrong), config_of(4, False), lemmas=False)


@pytest.mark.parametrize(("right", "wrong"), [
    ("with m.If(finished)", "with m.If(finish)"),                   # sums are held too early
    ("spread(m, platform, controls[-3]", "spread(m, platform, controls[-2]"),
    ("spread(m, platform, controls[-3]", "copied(m, platform, controls[-3]"),
    ('"comb" if config.pipelined else "sync"', '"sync"'),           # tiles are announced too late
])
def test_a_broken_pipelined_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_array(broken(mac_array, right, wrong), config_of(4, True), lemmas=False)


@pytest.mark.parametrize(("right", "wrong"), [
    ("strip | own_indices[0][:len(channel)] >> exact_log2(size)", "strip"),
    ("words = self.staged(m, self.words)", "words = self.words"),
    ("spread(m, platform, Cat(channel, strip)", "copied(m, platform, Cat(channel, strip)"),
    ("spread(m, platform, Cat(self.depthwise, self.in_strips)",
     "spread(m, platform, self.staged(m, Cat(self.depthwise, self.in_strips))"),
    ("Mux(settings[c][0], own, broadcast)", "broadcast"),
])
def test_wrong_operands_are_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_multiplexed(broken(mac_array, right, wrong), config_of(4, True))
