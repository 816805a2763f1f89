"""Proof that the constants shown are those of the channels asked for, of the set in use.

Words arrive in any cycle in which there is room for them; a set that has arrived is switched to at
any time from when that is allowed on. The specification keeps both sets as they came, word by word,
and which words hold what is asked for. Channels' constants are equal shares of their chunk's words.
Pipelined engines' sets in registers are left to simulation (`tests/hw/test_constant_banks.py`).
"""

from types import ModuleType

import pytest
from amaranth.hdl import Cat, Mux, Signal, Value

from hw import constant_banks
from hw.config import EngineConfig

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
    if not config.constants_in_registers:
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
    under_way = bench.before(dut.valid)
    bench.lemma(count >= under_way)
    bench.lemma(~take | ~under_way)
    for k in range(words):
        bench.lemma(~under_way | (count != k + 1) | (registers["constant0"] == arriving[k]))
    for lane in range(lanes):
        shares = Cat(word.word_select(lane, share) for word in arriving)
        shifted = registers[f"arriving{lane}"]
        for have in range(1, words + 1):
            bench.lemma((count != have + under_way)
                        | (shifted[(words - have) * share:] == shares[:have * share]))
        taken = Cat(word.word_select(lane, share) for word in used)
        bench.lemma(~known | (registers[f"used{lane}"] == taken))


def config_of(channels: int, requantizers: int, pipelined: bool) -> EngineConfig:
    """Constants of five bytes, in as few words as can be."""
    return EngineConfig(channels=channels, pixels=1, requantizers=requantizers, tape_depth=1,
                        activation_depth=1, single_port=False, leaky=False, clips=False,
                        pipelined=pipelined)


@pytest.mark.parametrize(("channels", "requantizers", "pipelined"), [
    (2, 2, False), (2, 1, False), (4, 1, True)])
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
        prove_banks(broken(constant_banks, right, wrong), config_of(4, 1, pipelined), lemmas=False)


@pytest.mark.parametrize(("right", "wrong"), [
    ("constant.word_select(lane, size)", "constant.word_select(0, size)"),
    ("used.eq(arriving)", "used.eq(arriving[size:])"),
])
def test_broken_registers_are_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_banks(broken(constant_banks, right, wrong), config_of(2, 2, False), lemmas=False)
