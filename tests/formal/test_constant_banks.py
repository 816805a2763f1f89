"""Proof that the constants shown are those of the channels asked for, of the set in use.

Words arrive in any cycle in which there is room for them; a set that has arrived is switched to at
any time from when that is allowed on. The specification keeps both sets as they came, word by word,
and which words hold what is asked for. Channels' constants are equal shares of their chunk's words.
"""

from types import ModuleType

import pytest
from amaranth.hdl import Cat, Const, Mux, Signal, Value

from hw import constant_banks
from hw.config import EngineConfig
from hw.copies import GROUPS

from .prove import Bench, Refuted, broken


def prove_banks(module: ModuleType, config: EngineConfig, *, lemmas: bool = True) -> None:
    bench = Bench()
    m = bench.m
    dut = module.ConstantBanks(config)
    registers = bench.add(dut)
    words, lanes, pipelined = config.constant_words, config.requantizers, config.pipelined
    chunks = config.channels // lanes
    parts, share = words // chunks, 8 * config.tape_bytes // lanes

    # Words arrive, as many as a set has; from then on it may be used.
    arriving, used = ([Signal(8 * config.tape_bytes, name=f"{name}{k}") for k in range(words)]
                      for name in ("arriving", "used"))
    count = Signal(range(words + 1))
    whole, take, known = Signal(), Signal(), Signal()
    constant = bench.free(8 * config.tape_bytes, "constant")
    m.d.comb += [
        dut.constant.eq(constant),
        dut.valid.eq(bench.free(1, "valid")),
        dut.switch.eq(bench.free(1, "switch")),
        dut.chunk.eq(bench.free(len(dut.chunk), "chunk")),
        whole.eq(count == words),
        # Nothing arrives in between, so this is the set that had arrived at ``switch``.
        take.eq(bench.before(dut.switch, 1 * pipelined)),
    ]
    bench.assume(~dut.valid | dut.ready)
    # In a pipelined engine a switch is under way for a cycle; in others the last word has to be in.
    allowed = whole & ~(take if pipelined else bench.before(dut.valid))
    bench.assume(~dut.switch | allowed)
    bench.check(dut.ready == ~whole)
    bench.check(~take | whole)
    with m.If(dut.valid):
        m.d.sync += count.eq(count + 1)
    for k, word in enumerate(arriving):
        with m.If(dut.valid & (count == k)):
            m.d.sync += word.eq(constant)
    with m.If(take):
        m.d.sync += [count.eq(0), known.eq(1),
                     *(word.eq(new) for word, new in zip(used, arriving, strict=True))]

    # What is shown.
    asked = bench.before(dut.chunk, 1 + pipelined)
    chunk_words = [Value.cast(0)] * parts
    for chunk in range(chunks):
        chunk_words = [Mux(asked == chunk, word, other) for word, other in zip(
            used[chunk * parts:(chunk + 1) * parts], chunk_words, strict=True)]
    expected = Cat(Cat(word.word_select(lane, share) for word in chunk_words)
                   [:8 * config.constant_bytes] for lane in range(lanes))
    shown = Signal(len(dut.o))
    m.d.comb += shown.eq(expected)
    bench.check(~bench.before(known, 1 * pipelined)
                | (dut.o == bench.before(shown, 1 * pipelined)))

    # Lemmas.
    bench.lemma(count <= words)
    bench.lemma(registers["whole"] == whole)
    chunk = registers.get("chunk", Value.cast(0))
    bench.lemma(registers["part"] < parts)
    bench.lemma(registers["part"] + chunk * parts == Mux(whole, 0, count))
    if chunks > 1:
        side = registers["used"]
        for k in range(words):
            ram = bench.memories[k % parts]
            row = k // parts
            here, there = (Mux(which, Value.cast(ram.rows[row + chunks]), Value.cast(ram.rows[row]))
                           for which in (side, ~side))
            bench.lemma(~known | (here == used[k]))
            bench.lemma((count <= k) | (there == arriving[k]))
        if pipelined:
            for ram in bench.memories:
                bench.lemma(ram.read.addr == Cat(asked, side))
    else:
        check_shifting(bench, dut, registers, arriving, used, count, take, known)
    bench.prove(lemmas=lemmas)


def check_shifting(bench: Bench, dut: object, registers: dict[str, Signal], arriving: list[Signal],
                   used: list[Signal], count: Value, take: Value, known: Value) -> None:
    """Lemmas: what of the arriving set is on its way, and what has shifted in."""
    config = dut.config
    words, lanes = len(arriving), config.requantizers
    share = 8 * config.tape_bytes // lanes
    stages = 1 + config.pipelined
    taken_over = bench.before(take)
    valid = [bench.before(dut.valid)]       # a cycle ago, and the one before that
    valid += [bench.before(valid[0])] * (stages - 1)
    under_way = sum(valid[1:], valid[0])
    bench.lemma(count >= under_way)
    bench.lemma(~take | ~valid[0])
    for ago, sent in enumerate(valid):
        newer = sum(valid[:ago], Value.cast(0))
        for k in range(words):
            bench.lemma(~sent | (count != k + 1 + newer)
                        | (registers[f"constant{ago}"] == arriving[k]))
    for lane in range(lanes):
        shares = Cat(word.word_select(lane, share) for word in arriving)
        shifted = registers[f"arriving{lane}"]
        for have in range(1, words + 1):
            bench.lemma((count != have + under_way)
                        | (shifted[(words - have) * share:] == shares[:have * share]))
        taken = Cat(word.word_select(lane, share) for word in used)
        if config.pipelined:
            bench.lemma(~taken_over | (shifted == taken))
            bench.lemma(~bench.before(known) | (registers[f"used{lane}"] == bench.before(taken)))
        else:
            bench.lemma(~known | (registers[f"used{lane}"] == taken))
    if not config.pipelined:
        return
    # Copies are not reset: what was under way then shifts in before the words that count.
    copies = [register for name, register in registers.items() if name.startswith("copy")]
    warm = [bench.before(Const(1))]
    warm += [bench.before(warm[0])]
    warm += [bench.before(warm[1])]
    for copy in copies[:min(GROUPS, lanes)]:
        bench.lemma(~warm[0] | (copy == Cat(valid[0], take)))
    for copy in copies[min(GROUPS, lanes):]:
        bench.lemma(~warm[1] | (copy == Cat(valid[1], taken_over)))
    bench.lemma((~warm[1] | warm[0]) & (~warm[2] | warm[1]))
    bench.lemma((~valid[0] | warm[0]) & (~valid[1] | warm[1]))
    bench.lemma((count == under_way) | warm[2])
    bench.lemma(~(take | taken_over | known) | warm[2])


def config_of(channels: int, requantizers: int, pipelined: bool) -> EngineConfig:
    """Constants of five bytes, in as few words as can be."""
    return EngineConfig(channels=channels, pixels=1, requantizers=requantizers, tape_depth=1,
                        activation_depth=1, single_port=False, leaky=False, clips=False,
                        pipelined=pipelined)


@pytest.mark.parametrize(("channels", "requantizers", "pipelined"), [
    (2, 2, False), (2, 1, False), (2, 1, True), (4, 2, True)])
def test_sets_follow_each_other(channels, requantizers, pipelined):
    prove_banks(constant_banks, config_of(channels, requantizers, pipelined))


@pytest.mark.parametrize(("right", "wrong"), [
    ("write.addr.eq(Cat(chunk, ~used))", "write.addr.eq(Cat(chunk, used))"),
    ("Cat(shown_chunk, used ^ switch)", "Cat(shown_chunk, used)"),
    ("whole.eq(chunk == self.chunks - 1)", "whole.eq(1)"),
    ("(part == number)", "(part != number)"),
])
@pytest.mark.parametrize("pipelined", [False, True])
def test_broken_memories_are_refuted(right, wrong, pipelined):
    with pytest.raises(Refuted):
        prove_banks(broken(constant_banks, right, wrong), config_of(2, 1, pipelined), lemmas=False)


@pytest.mark.parametrize(("right", "wrong"), [
    ("constant.word_select(channel, size)", "constant.word_select(0, size)"),
    ("used.eq(arriving)", "used.eq(arriving[size:])"),
])
def test_broken_registers_are_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_banks(broken(constant_banks, right, wrong), config_of(2, 2, False), lemmas=False)
