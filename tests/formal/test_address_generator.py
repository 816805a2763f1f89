"""Proof that the address generator takes the descriptor's steps, at any pace of the consumer.

The specification is six nested loops. When one of them takes its next turn, because all inside it
have taken their last, the address, the column and the row take that loop's steps, and those inside
start again. It takes a step when a word is taken, so no word is lost, repeated or out of order.
Every field of the descriptor is any number of its full width, another one for each layer; the
consumer is free in every cycle. That the compiler's numbers then lead over the map and never beyond
it is tested with this walk in Python (`tests/hw/test_walk.py`).
"""

from dataclasses import dataclass
from types import ModuleType

import pytest
from amaranth.hdl import Cat, Const, Mux, Signal, Value
from amaranth.lib import data

from hw import address_generator
from hw.descriptor import ADDRESS_BITS, COORDINATE_BITS

from .prove import Bench, Refuted, broken

#: From the innermost loop outwards: its counter, and the fields that hold the index of its last
#: turn and its steps of address, column and row.
LOOPS = (
    ("word", "patch_column_last", "address_column", "column_column", None),
    ("patch_row", "patch_row_last", "address_row", "column_restart", 1),
    ("input_group", "input_group_last", "address_input_group", "column_restart", "row_restart"),
    ("inner", "inner_last", "address_inner", "column_inner", "row_restart"),
    ("outer", "outer_last", "address_outer", "column_outer", "row_outer"),
    ("output_group", "output_group_last", "address_output_group", "column_output_group",
     "row_output_group"),
)
POSITION = {"address": ADDRESS_BITS, "column": COORDINATE_BITS, "row": COORDINATE_BITS}


@dataclass
class Word:
    """A word of the walk: the turn of each loop, and where it is."""

    turns: dict[str, Value]
    position: dict[str, Value]

    def chosen(self, choice: Value, other: "Word") -> "Word":
        """This word where ``choice`` holds, else ``other``."""
        return Word({name: Mux(choice, turn, other.turns[name])
                     for name, turn in self.turns.items()},
                    {name: Mux(choice, value, other.position[name])
                     for name, value in self.position.items()})


class Walk:
    """The walk of a layer."""

    def __init__(self, layer: data.View) -> None:
        self.layer = layer

    def at_last(self, word: Word) -> list[Value]:
        """For each loop, whether this is its last turn."""
        lasts = [word.turns[name] == self.layer[last] for name, last, *_ in LOOPS]
        lasts[3] = Mux(self.layer.slides, word.turns["inner"] == 0, lasts[3])   # a strip of rows
        return lasts

    def is_last(self, word: Word) -> Value:
        """Whether no word follows."""
        return Cat(self.at_last(word)).all()

    def steps(self, word: Word) -> dict[str, Value]:
        """From the address, column and row of ``word`` to those of the word that follows."""
        chosen: dict[str, Value] = dict.fromkeys(POSITION, 0)
        for (*_, address, column, row), last in reversed(
                list(zip(LOOPS, self.at_last(word), strict=True))):
            row_step = self.layer[row] if isinstance(row, str) else row or 0
            for name, step in (("address", self.layer[address]), ("column", self.layer[column]),
                               ("row", row_step)):
                chosen[name] = Mux(last, chosen[name], step)
        return chosen

    def following(self, word: Word) -> Word:
        """The word after ``word``; after the last one all loops are at their first turn."""
        turns, inner_end = {}, Value.cast(1)
        for (name, *_), last in zip(LOOPS, self.at_last(word), strict=True):
            turn = word.turns[name]
            turns[name] = Mux(inner_end, Mux(last, 0, (turn + 1)[:len(turn)]), turn)
            inner_end = inner_end & last
        steps = self.steps(word)
        return Word(turns, {name: (word.position[name] + steps[name])[:bits]
                            for name, bits in POSITION.items()})


def prove_generator(module: ModuleType, strips: int, *, ahead: bool = False) -> None:
    bench = Bench()
    m = bench.m
    dut = module.AddressGenerator(strips, ahead=ahead)
    registers = bench.add(dut)
    o, layer = dut.o, dut.layer
    m.d.comb += [o.ready.eq(bench.free(1, "ready")), dut.begin.eq(bench.free(1, "begin"))]

    # The word that is offered now or next; a layer's descriptor is stable until its last is taken.
    walk, running = Walk(layer), Signal()
    word = Word({name: Signal.like(registers[name], name=f"turn_{name}") for name, *_ in LOOPS},
                {name: Signal(bits, name=f"walk_{name}") for name, bits in POSITION.items()})
    held = Signal(len(layer.as_value()))
    m.d.sync += held.eq(layer)
    m.d.comb += layer.as_value().eq(Mux(running, held, bench.free(len(held), "layer")))
    bench.assume(~dut.begin | ~running)
    if ahead:
        bench.assume(layer.patch_column_last != 0)
    second = walk.following(word)
    with m.If(dut.begin):
        m.d.sync += [running.eq(1), *(word.position[name].eq(layer[field]) for name, field in (
            ("address", "input_address"), ("column", "first_column"), ("row", "first_row")))]
    with m.If(o.valid & o.ready):
        m.d.sync += running.eq(~walk.is_last(word))
        for register, value in (*zip(word.turns.values(), second.turns.values(), strict=True),
                                *zip(word.position.values(), second.position.values(),
                                     strict=True)):
            m.d.sync += register.eq(value)

    # What is offered: the word there, padding outside the map, or the neighbouring strip's word.
    address, column, row = word.position.values()
    across, down = column < layer.width, row < layer.height
    before, after = Signal(), Signal()
    if strips > 1:
        beside = layer.in_strips & across & ~down
        m.d.comb += [before.eq(beside & (row.as_signed() < 0)),
                     after.eq(beside & (row.as_signed() >= 0))]
    wanted = Signal(ADDRESS_BITS)
    m.d.comb += wanted.eq(
        Mux(before, address + layer.strip_words, Mux(after, address - layer.strip_words,
            Mux(across & down, address, layer.pad_address))))
    row_end = walk.at_last(word)[0]
    bench.check(~o.valid | (Value.cast(o.payload)
                            == Cat(wanted, word.turns["word"], row_end, before, after)))
    starting = [bench.before(dut.begin, ago) for ago in range(1, dut.latency)]
    bench.check(o.valid == (running & ~Cat(starting).any()))

    # Lemmas: the two stages behind the output hold the words that follow, as long as there are any.
    valid, front = registers["valid"], registers["running"]
    bench.check(~running | o.valid | valid | front)
    bench.check(~o.valid | (valid == ~walk.is_last(word)))
    bench.check(running | ~(o.valid | valid | front))
    bench.check((front & ~valid) == starting[0])
    bench.check(~starting[0] | (running & ~o.valid))
    bench.check(~starting[1] | (running & valid & ~o.valid))
    behind = second.chosen(o.valid, word)
    bench.check(~valid | (front == ~walk.is_last(behind)))
    if not ahead:
        bench.check(~front | (registers["inner_last"] == Mux(layer.slides, 0, layer.inner_last)))
    bench.check(~valid | (registers["place"]
                          == Cat(behind.turns["word"], walk.at_last(behind)[0], Const(0, 2))))
    steps = walk.steps(behind)
    for name in POSITION:
        bench.check(~(valid | front) | (registers[name] == behind.position[name]))
        bench.check(~(valid & front) | (registers[f"{name}_step"] == steps[name]))
    last = walk.following(behind).chosen(valid, behind)
    for name, turn in last.turns.items():
        bench.check(registers[name] == turn)
    if ahead:
        wanted = Cat(walk.at_last(last))
        for level, got in enumerate(registers["at_last"]):
            bench.check(~front | (got == wanted[level])
                        | (level > 0) & (last.turns["word"] == 0))
        bench.check(front | ~registers["at_last"][0])
        bench.check(last.turns["word"] <= Mux(front, layer.patch_column_last, 0))
        bench.check(front & ~layer.slides | (last.turns["inner"] == 0))
    bench.prove()


@pytest.mark.parametrize("strips", [1, 4])
def test_takes_the_steps_of_its_loops(strips):
    prove_generator(address_generator, strips)


def test_takes_the_steps_of_loops_whose_ends_are_known_ahead():
    prove_generator(address_generator, 1, ahead=True)


MUTANTS = (
    ("advance.eq(~self.o.valid | self.o.ready)", "advance.eq(1)"),
    ("Mux(layer.slides, 0, layer.inner_last)", "layer.inner_last"),
    ("[0, 1, layer.row_restart, layer.row_restart,", "[0, 1, layer.row_restart, layer.row_outer,"),
    ("at_last[:level + 1].all()", "at_last[:max(level, 1)].all()"),
    ("(row < layer.height)", "(row <= layer.height)"),
    ("before = row[-1]", "before = row[-2]"),
)


@pytest.mark.parametrize(("right", "wrong"), [
    pytest.param(*mutant, marks=pytest.mark.long if number else ())
    for number, mutant in enumerate(MUTANTS)])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_generator(broken(address_generator, right, wrong), 4)


@pytest.mark.parametrize(("right", "wrong"), [
    ("word + 1 == layer.patch_column_last", "word == layer.patch_column_last"),
    pytest.param("layer.slides << 2", "layer.slides << 1", marks=pytest.mark.long),
])
def test_a_broken_one_that_looks_ahead_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_generator(broken(address_generator, right, wrong), 1, ahead=True)
