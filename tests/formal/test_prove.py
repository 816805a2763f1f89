"""The prover itself: what is true is proved, what is false is refuted, by a trace one can read."""

import pytest
from amaranth.hdl import Const, Module, Signal
from amaranth.lib.memory import Memory

from .prove import SHALLOW, Bench, Refuted


def counters(wrong_at: int | None = None) -> Bench:
    """Two counters that step together, or one of them wrongly from a certain number on."""
    bench = Bench()
    one, two = Signal(8, name="one"), Signal(8, name="two")
    with bench.m.If(bench.free(1, "step")):
        bench.m.d.sync += [one.eq(one + 1), two.eq(two + 1)]
        if wrong_at is not None:
            with bench.m.If(one == wrong_at):
                bench.m.d.sync += two.eq(0)
    bench.check(one == two)
    return bench


def test_an_invariant_of_unbounded_time_is_proved():
    counters().prove()


def test_a_failure_is_found_and_shown_cycle_by_cycle():
    with pytest.raises(Refuted, match=r"(?m)^one .*0   1   2   3   4$"):
        counters(wrong_at=3).prove()


def test_a_failure_that_takes_long_is_found_too():
    with pytest.raises(Refuted):
        counters(wrong_at=SHALLOW + 3).prove()


@pytest.mark.parametrize("wrong_at", [None, 3, SHALLOW + 3])
def test_checks_are_proved_in_parts_too(wrong_at):
    bench = counters(wrong_at)
    one = bench.before(bench.free(4, "more"))
    bench.check(one < 16)
    bench.check(bench.before(one) < 16)
    if wrong_at is None:
        bench.prove(parts=2)
    else:
        with pytest.raises(Refuted):
            bench.prove(parts=2)


@pytest.mark.parametrize("lemmas", [False, True])
def test_a_wrong_lemma_counts_only_where_lemmas_do(lemmas):
    bench = counters()
    bench.lemma(bench.before(Const(1)) == 0)
    if lemmas:
        with pytest.raises(Refuted):
            bench.prove()
    else:
        bench.prove(lemmas=False)


@pytest.mark.parametrize("assumed", [False, True])
def test_only_runs_that_meet_the_assumptions_count(assumed):
    bench = Bench()
    value = bench.free(4, "value")
    seen = Signal(4)
    bench.m.d.sync += seen.eq(value)
    if assumed:
        bench.assume(value < 7)
    bench.check(seen < 7)
    if assumed:
        bench.prove()
    else:
        with pytest.raises(Refuted):
            bench.prove()


@pytest.mark.parametrize("values", [8, 5])
def test_a_constant_is_any_value_but_keeps_it(values):
    bench = Bench()
    value = bench.constant(3, "value")
    bench.check((bench.before(value) == value) | ~bench.before(Const(1)))
    bench.check(value < values)
    if values == 8:
        bench.prove()
    else:
        with pytest.raises(Refuted):
            bench.prove()


@pytest.mark.parametrize("offset", [77, 78])
def test_a_pipeline_with_a_multiplier_is_compared_with_its_formula(offset):
    bench = Bench()
    bench.m.submodules.dut = dut = Module()
    a, b = bench.free(24, "a"), bench.free(16, "b")
    first, second = Signal(24), Signal(16)
    product = Signal(41)
    dut.d.sync += [first.eq(a), second.eq(b), product.eq(first * second + 77)]
    bench.check(product == bench.before(a, 2) * bench.before(b, 2) + offset)
    if offset == 77:
        bench.prove_pipeline(2)
    else:
        with pytest.raises(Refuted):
            bench.prove_pipeline(2)


@pytest.mark.parametrize("distance", [0, 1])
def test_memories_whose_collision_is_undefined_return_anything(distance):
    bench = Bench()
    bench.m.submodules.ram = ram = Memory(shape=4, depth=4, init=[],
                                          attrs={"collision": "undefined"})
    write, read = ram.write_port(), ram.read_port()
    address = Signal(2)
    bench.m.d.sync += address.eq(address + 1)
    bench.m.d.comb += [write.en.eq(1), write.addr.eq(address), read.addr.eq(address - distance),
                       write.data.eq(bench.free(4, "data"))]
    warm = bench.before(Const(1), 3)
    bench.check(~warm | (read.data == bench.before(write.data, 1 + distance)))
    if distance:
        bench.prove()
    else:
        with pytest.raises(Refuted):
            bench.prove()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_of_a_watched_memory_one_word_is_kept(elsewhere):
    bench = Bench()
    watched = bench.watch(12)
    ram = Memory(shape=4, depth=1 << 12, init=[], attrs={"collision": "undefined"})
    write, read = ram.write_port(), ram.read_port()
    bench.add(ram)
    bench.m.d.comb += [write.en.eq(bench.free(1, "enable")), write.addr.eq(bench.free(12, "to")),
                       write.data.eq(bench.free(4, "data")), read.addr.eq(bench.free(12, "of"))]
    word, known = Signal(4), Signal()
    written = write.en & (write.addr == watched)
    with bench.m.If(written):
        bench.m.d.sync += [word.eq(write.data), known.eq(1)]
    reads = bench.before(known & (elsewhere | (read.addr == watched) & ~written))
    bench.check(~reads | (read.data == bench.before(word)))
    if elsewhere:
        with pytest.raises(Refuted):
            bench.prove()
    else:
        bench.prove()


def test_a_check_that_cannot_fail_is_a_mistake():
    bench = Bench()
    bench.check(bench.free(4, "value") < 16)
    with pytest.raises(RuntimeError, match="nothing was left to prove"):
        bench.prove()
