"""The memory plan: whatever a step reads is still what was made for it, pixel by pixel."""

import numpy as np
import pytest

from hw.compiler import ROW_LIMIT, padding_words
from hw.lowering import lower
from hw.memory_plan import memory_words, place_maps
from hw.program import STORED_OFFSET, Placement
from hw.strips import layouts
from ref import MaxPool2d, Window

from .branching import copy, joined, network, summed
from .engines import CONFIGS, random_program


def words_of(place: Placement, first: int = 0, count: int | None = None) -> np.ndarray:
    """Addresses of ``count`` words of every pixel from the ``first`` on, (pixels, count)."""
    count = place.groups if count is None else count
    pixels = np.arange(place.pixels)[:, None] * place.pitch
    return place.address + pixels + first + np.arange(count)


def check_plan(model, config):
    """Go through the steps with a list of who wrote what: (map, pixel, word) at every address."""
    for lowering in layouts(lower(model, config), config, ROW_LIMIT):
        pads, _ = padding_words(lowering.steps, config)
        check_places(model, lowering, len(pads), place_maps(model, config, lowering, len(pads),
                                                            transposed=False))


def check_places(model, lowering, pads, places):
    def contents(name, first=0, count=None):
        """Who should be at each word of a map, named after the map it lies in, and the words."""
        outermost, group = lowering.whole(name)
        words = words_of(places[name], first, count)
        return [(outermost, pixel, group + first + word)
                for pixel in range(len(words)) for word in range(words.shape[1])], words.ravel()

    memory = dict(zip(*contents(model.input.tensor)[::-1], strict=True))
    steps = list(lowering.steps)
    for layer in model.layers:
        while steps and steps[0].name == layer.name:
            step = steps.pop(0)
            for source in step.sources:
                expected, words = contents(source)
                assert [memory[word] for word in words.tolist()] == expected
            place = places[step.target]
            groups = -(-step.result[0] * place.strips // place.channels)
            made, words = contents(step.target, step.group, groups)
            assert words.min() >= pads and words.max() < memory_words(places)
            memory |= dict(zip(words.tolist(), made, strict=True))
        expected, words = contents(layer.output)
        assert [memory[word] for word in words.tolist()] == expected
    assert not steps


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("seed", range(30))
def test_nothing_is_overwritten_before_its_last_reader(name, seed):
    model, _, _ = random_program(seed, CONFIGS[name], layers=6)
    check_plan(model, CONFIGS[name])


def test_a_sums_older_operand_waits():
    shape = (4, 3, 5)
    model = network(
        shape, copy("x", "a", shape), copy("a", "b", shape), copy("b", "c", shape),
        summed(["c", "a"], "d", shape, np.ones((2, 4))))
    check_plan(model, CONFIGS["c4p3"])


def test_a_concatenation_that_is_whole_before_its_turn_waits():
    shape = (4, 3, 5)
    model = network(
        (4, 6, 10), (MaxPool2d("a", ("x",), "a", Window((2, 2), (2, 2))), shape, False),
        copy("a", "b", shape), copy("a", "c", shape), copy("a", "unread", shape),
        joined(["b", "c"], "bc", (8, 3, 5)))
    check_plan(model, CONFIGS["c4p3"])


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_reading_a_map_within_another(signed, transposed):
    """Its own words of each pixel, whatever lies around them."""
    rng = np.random.default_rng(0)
    outer = Placement("outer", 0, (11, 3, 5), signed, 4, transposed)
    values = rng.integers(0, 256, outer.shape) - (STORED_OFFSET if signed else 0)
    memory = outer.pack(values)
    inner = Placement("inner", 1, (6, 3, 5), signed, 4, transposed, within=outer.groups)
    assert inner.words == outer.words - 1
    assert np.array_equal(inner.unpack(memory[1:]), values[4:10])
