"""Every word that a program reads or writes: its descriptors, walked through in Python.

The circuits take these walks: proved in `tests/formal/test_address_generator.py` and
`tests/formal/test_tape_reader.py`.
"""

import itertools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hw import compiler
from hw.descriptor import ADDRESS_BITS, COORDINATE_BITS, FIELDS, descriptor_words
from hw.window_memory import PLACES_BITS, ROWS_BITS

from ..ref import random_models
from . import test_strips
from .engines import CONFIGS, random_program

#: From the innermost loop outwards: index of the last turn, step of address, column and row.
READ_LOOPS = (
    ("patch_column_last", "address_column", "column_column", None),
    ("patch_row_last", "address_row", "column_restart", 1),
    ("input_group_last", "address_input_group", "column_restart", "row_restart"),
    ("inner_last", "address_inner", "column_inner", "row_restart"),
    ("outer_last", "address_outer", "column_outer", "row_outer"),
    ("output_group_last", "address_output_group", "column_output_group", "row_output_group"),
)
WRITE_LOOPS = (("inner_last", "result_inner"), ("outer_last", "result_outer"),
               ("output_group_last", "result_group"))


def stepped(first: int, counts: list[int], steps: list[int], bits: int) -> np.ndarray:
    """Where nested loops come by: loop k has ``counts[k]`` turns, the innermost is the first.

    When a loop takes its next turn, all inside it having taken their last, its step is added.
    """
    number = np.arange(1, int(np.prod(counts)))
    added = np.full(len(number), steps[-1])
    for level in reversed(range(len(counts) - 1)):
        within = number % int(np.prod(counts[:level + 1])) != 0
        added[within] = steps[level]
    return (first + np.concatenate([[0], np.cumsum(added)])) % (1 << bits)


def addresses_read(fields: dict[str, int]) -> np.ndarray:
    """Every address of a layer's map that is read, but for its padding."""
    counts = [fields[last] + 1 for last, *_ in READ_LOOPS]
    if fields["slides"]:
        counts[3] = 1
    address, column, row = (
        stepped(first, counts, [fields[step] if isinstance(step, str) else step or 0
                                for step in steps], bits)
        for first, bits, steps in (
            (fields["input_address"], ADDRESS_BITS, [loop[1] for loop in READ_LOOPS]),
            (fields["first_column"], COORDINATE_BITS, [loop[2] for loop in READ_LOOPS]),
            (fields["first_row"], COORDINATE_BITS, [loop[3] for loop in READ_LOOPS])))
    across, down = column < fields["width"], row < fields["height"]
    if fields["in_strips"]:
        before = row >= 1 << (COORDINATE_BITS - 1)
        beside = np.where(before, address + fields["strip_words"],
                          address - fields["strip_words"]) % (1 << ADDRESS_BITS)
        return np.where(down, address, beside)[across]
    return address[across & down]


def addresses_written(fields: dict[str, int], pixels: int) -> np.ndarray:
    """Every address that a layer's results go to, in order."""
    counts = [fields[last] + 1 for last, _ in WRITE_LOOPS]
    first = stepped(fields["output_address"], counts, [fields[step] for _, step in WRITE_LOOPS],
                    ADDRESS_BITS)
    number = np.arange(len(first))
    row_loop = number // counts[0] % counts[1] if fields["slides"] else number % counts[0]
    row_last = row_loop == (counts[1] if fields["slides"] else counts[0]) - 1
    pixel = np.arange(pixels)
    valid = pixel <= np.where(row_last, fields["pixel_last"], pixels - 1)[:, None]
    return (first[:, None] + pixel * fields["result_pixel"])[valid] % (1 << ADDRESS_BITS)


def words_of(placement: compiler.Placement) -> np.ndarray:
    return (placement.address + np.arange(placement.pixels)[:, None] * placement.pitch
            + np.arange(placement.groups)).ravel()


@pytest.fixture
def steps(monkeypatch):
    """The steps of the program that was assembled last: step, sources, target, descriptor."""
    made = []
    descriptor_fields, assemble = compiler.descriptor_fields, compiler.assemble

    def recorded(step, config, sources, target, pad_address, *, last_layer):
        fields = descriptor_fields(step, config, sources, target, pad_address,
                                   last_layer=last_layer)
        made.append((step, sources, target, fields))
        return fields

    def from_the_start(*args, **options):
        made.clear()
        return assemble(*args, **options)

    monkeypatch.setattr(compiler, "descriptor_fields", recorded)
    monkeypatch.setattr(compiler, "assemble", from_the_start)
    return made


def check_steps(steps, program, **change: int) -> None:
    """Reads: words of the sources alone. Writes: each word of a step's result, once.

    And the whole tape. With ``change`` added to fields of the descriptors.
    """
    config, tape_words = program.config, 0
    for step, sources, target, fields in steps:
        stored = {field: (fields[field] + change.get(field, 0)) % (1 << bits)
                  for field, (bits, _) in FIELDS.items()}
        weights = 1 if stored["hold"] else stored["product_last"] + 1
        tape_words += descriptor_words(config.tape_bytes) + (
            stored["output_group_last"] + 1) * (config.constant_words + weights)
        check_rows(stored)
        read = addresses_read(stored)
        within = np.concatenate([words_of(source) for source in sources])
        assert len(read) and np.isin(read, within).all(), step
        written = addresses_written(stored, config.pixels)
        assert len(written) == (fields["output_group_last"] + 1) * np.prod(step.result[1:]), step
        assert np.isin(written, words_of(target)).all(), step
        assert len(np.unique(written)) == len(written), step
        assert stored["pad_address"] < len(program.pads) <= min(written.min(), read.min())
        assert max(written.max(), read.max()) < program.activation_words
    assert tape_words == len(program.tape)


def check_rows(fields: dict[str, int]) -> None:
    """What the proof of the window memory assumes (`tests/formal/test_window_memory.py`).

    As many rows are requested as windows need, and the sizes of patches go together.
    """
    rows = fields["kernel_row_last"] + 1
    slides, mask, places = fields["slides"], fields["column_mask"], fields["row_places"]
    down = fields["inner_last"] * fields["stride_rows"] if slides else 0
    assert fields["patch_row_last"] + 1 == rows + down
    assert mask & (mask + 1) == 0 and fields["kernel_column_last"] <= mask
    assert 1 <= places <= 1 << ROWS_BITS and places * (mask + 1) <= 1 << PLACES_BITS
    if slides:
        assert rows <= places and fields["stride_rows"] <= rows and not fields["input_group_last"]


def check_random(steps, monkeypatch, seed: int, name: str, **change: int) -> None:
    """A random program of a configuration; where that has strips, with as many as possible."""
    options = {}
    with monkeypatch.context() as patch:
        if CONFIGS[name].strips > 1:
            options = {"kinds": test_strips.KINDS, "layers": 4, "size": 24, "channels": 9}
            fewer = itertools.count(0, -1)      # layouts with most strips come last: the quickest
            patch.setattr(compiler, "layer_cycles", lambda *_: next(fewer))
            patch.setattr(random_models, "_window", test_strips.even_window)
        _, program, _ = random_program(seed, CONFIGS[name], **options)
    check_steps(steps, program, **change)


@pytest.mark.parametrize("name", sorted(CONFIGS))
@given(seed=st.integers(0, 1 << 32))
@settings(max_examples=15, deadline=None, suppress_health_check=[
    HealthCheck.function_scoped_fixture])       # emptied for every program
def test_programs_stay_within_their_maps(steps, monkeypatch, seed, name):
    check_random(steps, monkeypatch, seed, name)


@pytest.mark.parametrize("field", [
    "input_address", "output_address", "address_column", "address_row", "address_input_group",
    "address_inner", "address_outer", "address_output_group", "column_restart", "row_restart",
    "row_outer", "width", "height", "strip_words", "result_inner", "result_outer", "result_group",
    "pixel_last", "product_last", "patch_row_last", "column_mask", "row_places", "stride_rows"])
def test_a_wrong_number_is_noticed(steps, monkeypatch, field):
    with pytest.raises(AssertionError):
        for seed, name in itertools.product(range(20), sorted(CONFIGS)):
            check_random(steps, monkeypatch, seed, name, **{field: 1})
