"""Proof that windows hold the words that were fetched for them, at any pace of all sides.

Layers, requests, answers, the blocking of the memory and the consumer are free in every cycle. What
is assumed is what the engine's other parts do: columns of a row are requested in order, a layer
stays the same until its last window was taken and all rows requested were needed, and its numbers
go together as the compiler's do.

The specification walks over the layer's windows whenever one is taken, and counts rows: those that
were requested whole and are still needed. One requested word is chosen, any one. When a window is
taken of whose lane it is the word, it must appear `read_latency` cycles later and stay until the
next window's. Of each lane's memory one place is kept, any one (`Bench.watch`).
Everything has the sizes of the engine but the number of lanes and the bytes of a word.
"""

from dataclasses import dataclass
from types import ModuleType

import pytest
from amaranth.hdl import Cat, Const, Mux, Signal, Value
from amaranth.lib import data

from hw import window_memory
from hw.config import EngineConfig
from hw.memory import memory_latency
from hw.window_memory import PLACES_BITS, ROWS_BITS, WINDOW, read_latency

from .prove import Bench, Refuted, broken

#: From the innermost loop outwards: its counter, and the field with the index of its last turn.
LOOPS = (
    ("kernel_column", "kernel_column_last"),
    ("kernel_row", "kernel_row_last"),
    ("input_group", "input_group_last"),
    ("inner", "inner_last"),
    ("outer", "outer_last"),
    ("output_group", "output_group_last"),
)
Turns = dict[str, Value]
#: Questions into which the proof is cut.
PARTS = 12
#: Bits of a word in each memory, so few that there are several.
PART_BITS = 8


@dataclass
class Walk:
    """The windows of a layer, each told by the turn of each loop."""

    layer: data.View
    strips: int

    def at_last(self, turns: Turns) -> list[Value]:
        """For each loop, whether this is its last turn."""
        return [turns[name] == self.layer[last] for name, last in LOOPS]

    def is_last(self, turns: Turns) -> Value:
        """Whether no window follows."""
        return Cat(self.at_last(turns)).all()

    def following(self, turns: Turns) -> Turns:
        """The window after this one; after the last one all loops are at their first turn."""
        result, inner_end = {}, Value.cast(1)
        for (name, _), last in zip(LOOPS, self.at_last(turns), strict=True):
            turn = turns[name]
            result[name] = Mux(inner_end, Mux(last, 0, (turn + 1)[:len(turn)]), turn)
            inner_end = inner_end & last
        return result

    def row(self, turns: Turns) -> Value:
        """The window's row, from the first one still needed."""
        return Mux(self.layer.slides, turns["kernel_row"], 0)

    def passed(self, turns: Turns) -> Value:
        """Rows that are needed no more when the window has been read."""
        column_last, row_last, _, inner_last, *_ = self.at_last(turns)
        step = Mux(inner_last, self.layer.kernel_row_last + 1, self.layer.stride_rows)
        return Mux(column_last, Mux(self.layer.slides, Mux(row_last, step, 0), 1), 0)

    def tags(self, turns: Turns) -> Value:
        """What streams with the window."""
        column, row, group, inner, outer, output = self.at_last(turns)
        of_row = Mux(self.layer.slides, outer, inner)
        strip = Mux(self.layer.gathers, turns["outer"], 0)[:2] if self.strips > 1 else Const(0, 2)
        first = Cat(turns[name] == 0 for name, _ in LOOPS[:3]).all()
        return Cat(first, column & row & group, group, of_row, inner, inner & outer,
                   inner & outer & output, strip)


def chosen(choice: Value, turns: Turns, other: Turns) -> Turns:
    """``turns`` where ``choice`` holds, else ``other``."""
    return {name: Mux(choice, turn, other[name]) for name, turn in turns.items()}


def same(turns: Turns, other: Turns) -> Value:
    """Whether two windows are one."""
    return Cat(turn == other[name] for name, turn in turns.items()).all()


def goes_together(layer: data.View) -> list[Value]:
    """What is true of the compiler's numbers."""
    places = []
    for bits in range(PLACES_BITS + 1):
        rows = min(1 << ROWS_BITS, 1 << (PLACES_BITS - bits))
        places.append((layer.column_mask == (1 << bits) - 1) & (layer.row_places <= rows))
    return [
        Cat(places).any(),
        layer.kernel_column_last <= layer.column_mask,
        ~layer.slides | ((layer.kernel_row_last < layer.row_places)
                         & (layer.stride_rows <= layer.kernel_row_last + 1)
                         & (layer.input_group_last == 0)),
    ]


def prove_window_memory(module: ModuleType, config: EngineConfig, *, lemmas: bool = True) -> None:
    latency, lanes = memory_latency(config), range(config.pixels)
    parts = [slice(low, low + PART_BITS) for low in range(0, 8 * config.channels, PART_BITS)]
    bench = Bench()
    m = bench.m
    watched = bench.watch(PLACES_BITS)
    dut = module.WindowMemory(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PART_BITS", PART_BITS)
        registers = bench.add(dut)
    rams = [bench.memories[p * len(parts):][:len(parts)] for p in lanes]
    request, o, layer = dut.request, dut.o, dut.layer
    tag = request.payload.tag
    walk = Walk(layer, config.strips)

    # A layer is stable from its beginning until the next one's.
    held = Signal.like(layer)
    m.d.sync += held.eq(layer)
    m.d.comb += [
        dut.begin.eq(bench.free(1, "begin")),
        layer.as_value().eq(Mux(dut.begin, bench.free(len(held.as_value()), "layer"), held)),
        dut.blocked.eq(bench.free(1, "blocked")),
        dut.data.eq(bench.free(dut.data.shape(), "data")),
        o.ready.eq(bench.free(1, "ready")),
    ]
    for condition in goes_together(layer):
        bench.assume(condition)

    # The windows: which one is taken next.
    running, taken = Signal(), Signal()
    turns = {name: Signal.like(registers[name], name=f"next_{name}") for name, _ in LOOPS}
    following = walk.following(turns)
    m.d.comb += taken.eq(o.valid & o.ready)
    with m.If(dut.begin):
        m.d.sync += running.eq(1)
    with m.If(taken):
        m.d.sync += [running.eq(~walk.is_last(turns)),
                     *(turn.eq(following[name]) for name, turn in turns.items())]
    bench.check(~o.valid | (Value.cast(o.payload) == walk.tags(turns)))

    # Rows are requested word by word, whenever there is a place; one is free two cycles after the
    # window that was the last to need it has been taken.
    kept     = Signal(6)        # rows requested whole whose places are not free
    given_up = Signal(6)        # of them those that will be in the next cycle
    column   = Signal(8)        # of the word that is requested now or next
    row_end  = Signal()
    m.d.comb += [
        row_end.eq(column == layer.patch_column_last),
        request.valid.eq(bench.free(1, "valid") & running),
        request.payload.address.eq(bench.free(len(dut.address), "address")),
        tag.column.eq(column),
        tag.row_end.eq(row_end),
    ]
    if config.strips > 1:
        m.d.comb += Cat(tag.before, tag.after).eq(bench.free(2, "moves"))
    issued = Signal()
    m.d.comb += issued.eq(request.valid & request.ready)
    with m.If(issued):
        m.d.sync += column.eq(Mux(row_end, 0, column + 1))
    m.d.sync += [given_up.eq(Mux(taken, walk.passed(turns), 0)),
                 kept.eq(kept + (issued & row_end) - given_up)]
    bench.assume(~dut.begin | (~running & (kept == given_up) & (column == 0)))
    bench.check(request.ready == (~dut.blocked & ((column != 0) | (kept != layer.row_places))))
    bench.check(dut.enable == issued)
    bench.check(~issued | (dut.address == request.payload.address))
    bench.check(kept + (column != 0) <= held.row_places)

    # A word and its place on their way: stage k is k + 1 cycles after the request.
    stages, before = [], 0
    moves = Cat(tag.before, tag.after)
    under_way = [issued, issued & row_end, column, moves]
    for _ in range(latency + 1):
        under_way = [bench.before(value) for value in under_way]
        valid, end, stage_column, stage_moves = under_way
        before = before + end
        stages.append((valid, end, stage_column, stage_moves, (kept - before)[:6]))
    offered = (kept - given_up - sum(end for _, end, *_ in stages[:latency]))[:6]
    bench.check(o.valid == (running & (walk.row(turns) < offered)))     # all its words are there

    # The chosen word.
    choose, picked = bench.free(1, "choose"), Signal()
    once, needed, answered = Signal(), Signal(), Signal()
    ahead  = Signal(6)          # rows in front of its row whose places are not free
    own_column = Signal(8)
    word = Signal.like(dut.data)
    m.d.comb += picked.eq(issued & choose & ~once)
    with m.If(needed):
        m.d.sync += [ahead.eq(ahead - given_up), needed.eq(ahead >= given_up)]
    with m.If(picked):
        m.d.sync += [once.eq(1), needed.eq(1), ahead.eq(kept - given_up), own_column.eq(column)]
    picks = [bench.before(picked, ago) for ago in range(1, latency + 2)]
    arrives = picks[latency - 1]
    with m.If(arrives):
        m.d.sync += [answered.eq(1), word.eq(arrived(dut.data, layer, stages[latency - 1][3],
                                                     config))]
    matches = []
    for p in lanes:
        first = layer.lane_stride * p
        match = Signal(name=f"match{p}")
        m.d.comb += match.eq(
            taken & needed & (ahead == given_up + walk.row(turns))
            & (own_column == first + turns["kernel_column"])
            & (first + layer.kernel_column_last <= layer.patch_column_last))
        bench.check(~match | answered)
        matches.append(match)
        reads = bench.before(match, read_latency(config) - 1)
        seen = bench.before(taken, read_latency(config) - 1)
        for part, ram in zip(parts, rams[p], strict=True):
            show = Signal(name=f"show{p}_{part.start}")
            with m.If(seen):
                m.d.sync += show.eq(reads & (ram.read.addr == watched))
            bench.check(~show | (dut.words[p].as_value()[part] == word.as_value()[part]))
            bench.lemma(~show | answered)

    # Lemmas. What is on its way, and the counters of rows.
    for k, (valid, end, stage_column, stage_moves, _) in enumerate(stages[:latency]):
        bench.lemma(registers[f"valid{k}"] == valid)
        bench.lemma(~valid | (registers[f"place{k}"] == Cat(stage_column, end, stage_moves)))
    for valid, end, stage_column, _, rank in stages:
        bench.lemma(~end | valid)
        bench.lemma(~valid | (rank < kept) | ((rank == kept) & (stage_column < column)))
        bench.lemma(~valid | (rank >= given_up))
        bench.lemma(~valid | (stage_column <= held.patch_column_last))
        bench.lemma(~end | (stage_column == held.patch_column_last))
    bench.lemma(column <= held.patch_column_last)
    for condition in goes_together(held):
        bench.lemma(condition)
    bench.lemma(kept >= given_up)
    bench.lemma(registers["requested"] == kept)
    bench.lemma(registers["given_up"] == given_up)
    arriving, _, _, arriving_moves, _ = stages[latency - 1]
    if config.strips > 1:
        for byte in range(config.channels):
            bench.lemma(~arriving | (registers[f"copy{byte}"] == arriving_moves))
    waiting = registers["windows.waiting"]
    window, spare = (data.View(WINDOW, registers[f"windows.{name}"])
                     for name in ("o__payload", "spare"))
    inside = Signal(6)          # rows passed by windows in the buffer
    m.d.comb += inside.eq(Mux(o.valid, window.given_up, 0) + Mux(waiting, spare.given_up, 0))
    base = Signal(ROWS_BITS)    # number of the first row that is needed
    m.d.sync += base.eq(base + Mux(taken, walk.passed(turns), 0))
    bench.lemma(offered + stages[latency - 1][1] == registers["complete"] + inside)
    bench.lemma(registers["complete"] >= stages[latency - 1][1])
    bench.lemma(registers["base"] == (base + inside)[:ROWS_BITS])
    bench.lemma(registers["arriving"] == (base + offered)[:ROWS_BITS])

    # The windows that are ahead of the one taken next.
    coming, front = registers["$signal"], registers["$signal#1"]     # made in one line
    spare_turns, coming_turns = ({name: Signal.like(turn, name=f"{place}_{name}")
                                  for name, turn in turns.items()} for place in ("spare", "coming"))
    front_turns = {name: registers[name] for name in turns}
    advance = coming & (registers["complete"] > registers["window_row"]) & ~waiting
    with m.If(~waiting):
        m.d.sync += [turn.eq(coming_turns[name]) for name, turn in spare_turns.items()]
    with m.If(~coming | advance):
        m.d.sync += [turn.eq(front_turns[name]) for name, turn in coming_turns.items()]
    behind = chosen(waiting, walk.following(spare_turns), chosen(o.valid, following, turns))
    bench.lemma(~waiting | o.valid)
    bench.lemma(~waiting | same(spare_turns, following))
    bench.lemma(~coming | same(coming_turns, behind))
    bench.lemma(same(front_turns, chosen(coming, walk.following(coming_turns), behind)))
    bench.lemma(running == (o.valid | coming | front))
    bench.lemma(~front | coming | (~o.valid & (kept == 0)))     # it has just begun
    bench.lemma(~o.valid | ((waiting | coming | front) == ~walk.is_last(turns)))
    bench.lemma(~waiting | ((coming | front) == ~walk.is_last(spare_turns)))
    bench.lemma(~coming | (front == ~walk.is_last(coming_turns)))

    def place_of(row: Value, column: Value) -> Value:
        rows = row[:ROWS_BITS][::-1] << (PLACES_BITS - ROWS_BITS)
        return ((rows & ~held.column_mask) | column)[:PLACES_BITS]

    def described(window: data.View, turns: Turns, first: Value) -> Value:
        place = place_of(first + walk.row(turns), turns["kernel_column"])
        return Value.cast(window) == Cat(place, walk.passed(turns)[:ROWS_BITS + 1],
                                         walk.tags(turns))

    bench.lemma(~o.valid | described(window, turns, base))
    bench.lemma(~waiting | described(spare, spare_turns, base + window.given_up))
    bench.lemma(~waiting | (window.given_up + walk.row(spare_turns) < offered))
    bench.lemma(~coming | (
        (registers["window_row"] == walk.row(coming_turns))
        & (registers["window_column"] == coming_turns["kernel_column"])
        & (registers["window_passed"] == walk.passed(coming_turns))
        & (registers["tags"] == walk.tags(coming_turns))))
    for some, here in ((running, turns), (waiting, spare_turns), (coming, coming_turns),
                       (front, front_turns)):
        for name, last in LOOPS:
            bench.lemma(~some | (here[name] <= held[last]))
    bench.lemma(running | Cat(turn == 0 for turn in turns.values()).all())

    # The chosen word: on its way, then in its place.
    number = Signal(ROWS_BITS)
    with m.If(picked):
        m.d.sync += number.eq(base + kept - given_up)
    bench.lemma(~once | bench.started)
    bench.lemma(~needed | once)
    bench.lemma((once & ~answered) == Cat(picks[:latency]).any())
    bench.lemma(sum(picks) <= 1)
    bench.lemma(~(once & ~answered) | needed)
    bench.lemma(~answered | once)
    bench.lemma(~picks[latency] | answered)
    bench.lemma(~needed | (number == (base - given_up + ahead)[:ROWS_BITS]))
    bench.lemma(~needed | (ahead < kept) | ((ahead == kept) & (own_column < column)))
    for k, (valid, _, stage_column, _, rank) in enumerate(stages):
        bench.lemma(~picks[k] | (valid & (ahead == rank) & (own_column == stage_column)))
        bench.lemma(~picks[k] | needed)
        bench.lemma(~(valid & needed & ~Cat(picks[:k + 1]).any())
                    | (rank > ahead) | ((rank == ahead) & (stage_column > own_column)))
    valid, _, stage_column, _, rank = stages[latency - 1]
    for p in lanes:
        first = (held.lane_stride * p)[:8]
        own = (own_column - first)[:8]
        place = place_of(number, own)
        kept_here = own <= held.kernel_column_last
        in_place = answered & ~picks[latency] if config.pipelined else answered
        bench.lemma(registers[f"first{p}"] == first)
        bench.lemma(~valid | (registers[f"column{p}"] == (stage_column - first)[:8]))
        late, _, late_column, _, late_rank = stages[latency]
        late_own = (late_column - first)[:8]
        for part, ram in zip(parts, rams[p], strict=True):
            bits = word.as_value()[part]
            bench.lemma(~(needed & in_place & kept_here & (place == watched))
                        | (Value.cast(ram.rows[0]) == bits))
            if not config.pipelined:
                continue
            bench.lemma(ram.write.en == (late & (late_own <= held.kernel_column_last)))
            bench.lemma(~late | (ram.write.addr == place_of(base - given_up + late_rank, late_own)))
            bench.lemma(~picks[latency] | (Value.cast(ram.write.data) == bits))
            bench.lemma(~bench.started | (ram.read.en == bench.before(taken)))
            bench.lemma(~bench.before(matches[p]) | (
                needed & in_place & kept_here & (ram.read.addr == place)))
    bench.prove(lemmas=lemmas, parts=PARTS if lemmas else 1)


def arrived(word: data.View, layer: data.View, moves: Value, config: EngineConfig) -> Value:
    """The word as it is kept: each strip may get what is of the one before or after it."""
    if config.strips == 1:
        return word
    size = 8 * config.channels // config.strips
    pad = layer.strip_pad.replicate(size // 8)
    bits = Value.cast(word)
    return Mux(moves[0], Cat(pad, bits[:-size]), Mux(moves[1], Cat(bits[size:], pad), bits))


def config_of(pixels: int, strips: int, pipelined: bool) -> EngineConfig:
    """The smallest words that can hold so many strips."""
    channels = max(2, strips)
    return EngineConfig(channels=channels, pixels=pixels, requantizers=channels, tape_depth=1,
                        activation_depth=1, single_port=False, strips=strips, pipelined=pipelined)


@pytest.mark.parametrize(("pixels", "strips", "pipelined"), [
    (2, 1, False),
    pytest.param(2, 1, True, marks=pytest.mark.long),
    pytest.param(1, 4, True, marks=pytest.mark.long),
    pytest.param(1, 4, False, marks=pytest.mark.long),
])
def test_windows_hold_their_words(pixels, strips, pipelined):
    prove_window_memory(window_memory, config_of(pixels, strips, pipelined))


MUTANTS = (
    # Windows are offered before the last word of their row has come, or by other rules.
    ("(coming_valid & coming.row_end) - passed", "(self.enable & tag.row_end) - passed"),
    ("complete > window_row", "complete >= window_row"),
    ("window_row.eq(Mux(layer.slides, row, 0))", "window_row.eq(row)"),
    ("Mux(at_last[1], finished, 0)", "finished"),
    ("layer.kernel_row_last + 1, layer.stride_rows)", "layer.stride_rows, layer.stride_rows)"),
    ("tags.last.eq(wraps[2])", "tags.last.eq(wraps[1])"),
    ("at_last[:level + 1].all()", "at_last[:max(level, 1)].all()"),
    # Rows are requested when there is no place.
    ("requested != layer.row_places", "requested <= layer.row_places"),
    ("row_end) - given_up)", "row_end) - passed)"),
    # Words lie at a wrong place, or are read from one, too early or too late.
    ("own <= layer.kernel_column_last", "own < layer.kernel_column_last"),
    ("row[:ROWS_BITS][::-1]", "row[:ROWS_BITS]"),
    ("base.eq(base + passed)", "base.eq(base)"),
    ("arriving.eq(arriving + (valid & place.row_end))",
     "arriving.eq(arriving + (coming_valid & coming.row_end))"),
    ("reads = copied(m, platform, reads[0], len(parts))", "reads = reads"),
    ("write.data.eq(word.as_value()[part])", "write.data.eq(word.as_value())"),
    ("self.words[p].as_value()[part].eq(read.data)",
     "self.words[p].as_value()[bits - part.stop:bits - part.start].eq(read.data)"),
    ("word = late_word", "word = word"),
    ("multiple(layer.lane_stride, p)", "multiple(layer.lane_stride, 2 * p)"),
    # A strip gets what is of the other neighbour.
    ("Mux(from_before, before, Mux(from_after, after, here))",
     "Mux(from_before, after, Mux(from_after, before, here))"),
    ("Mux(layer.gathers, outer, 0)", "outer"),
)


@pytest.mark.parametrize(("right", "wrong"), [
    pytest.param(*mutant, marks=pytest.mark.long if number else ())
    for number, mutant in enumerate(MUTANTS)])
def test_a_broken_one_is_refuted(right, wrong):
    with pytest.raises(Refuted):
        prove_window_memory(broken(window_memory, right, wrong), config_of(2, 4, True),
                            lemmas=False)
