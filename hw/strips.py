"""Maps in strips: words as wide as the engine's for layers of few channels.

A word of C bytes wastes most of its places on a map of eight channels. Such a map is cut into S
strips of rows, one below the other; a word then holds the same place of every strip, C / S channels
of each, and the lanes of each strip do the same work on their own rows with copies of the same
weights. A row before a strip is the last one of the strip before it: the word at the other end,
its bytes moved by a strip (`hw.window_memory`).

Strips are kept from the network's input up to some layer. The next one *gathers*: a pointwise layer
can broadcast the channels of one strip after the other to all lanes, and so reads strips but writes
a map without. In front of a layer of another kind a pointwise copy does that.
"""

from dataclasses import replace

import numpy as np

from .config import EngineConfig
from .descriptor import COORDINATE_BITS
from .step import Lowering, Step, pick


def layouts(lowering: Lowering, config: EngineConfig, row_limit: int) -> list[Lowering]:
    """The steps on whole maps, and with the first of them in strips in every way that is possible.

    Pointwise steps are on rows of at most ``row_limit`` pixels, as long as possible, so that tiles
    of pixels are full.
    """
    ways = [lowering]
    first: list[Step] = []
    cut = {name: lowering.steps[0].shape for name in lowering.steps[0].sources}
    rest = list(lowering.steps) if config.strips > 1 else []
    while rest:
        ways += finished(lowering, first, cut, rest, config.strips, row_limit)
        part = split(rest[0], config.strips)
        if part is None:
            break
        cut |= dict.fromkeys(rest[0].sources, rest[0].shape) | {rest[0].target: rest[0].result}
        first.append(part)
        rest.pop(0)
    else:
        ways += finished(lowering, first, cut, [], config.strips, row_limit) if first else []
    return [replace(way, steps=[step.flattened(row_limit) for step in way.steps]) for way in ways]


def finished(lowering: Lowering, first: list[Step], cut: dict[str, tuple[int, int, int]],
             rest: list[Step], strips: int, row_limit: int) -> list[Lowering]:
    """The steps ``first``, in strips, and then the ``rest`` on whole maps; nothing if impossible.

    ``cut`` has the whole shapes of the maps in strips. Steps that read them gather, or read a copy
    that a gathering step makes.
    """
    steps, maps = list(first), dict(lowering.maps)
    for step in rest:
        gathered = gather(step, strips, row_limit) if cut.keys() & {*step.sources} else step
        if gathered is None:
            for name in cut.keys() & {*step.sources}:
                if f"{name} whole" not in maps:
                    channels = np.arange(cut[name][0])
                    copy = gather(pick(step.name, name, f"{name} whole", cut[name], channels),
                                  strips, row_limit)
                    if copy is None:
                        return []
                    steps.append(copy)
                    maps[f"{name} whole"] = maps[name]
            gathered = replace(step, sources=tuple(
                f"{name} whole" if name in cut else name for name in step.sources))
        steps.append(gathered)
    way = Lowering(steps, maps)
    return [way] if in_one_form(way) else []


def in_one_form(lowering: Lowering) -> bool:
    """Whether every map is written and read in strips or not, and joined ones are not."""
    forms: dict[str, set[int]] = {}
    for step in lowering.steps:
        for name in step.sources:
            forms.setdefault(name, set()).add(step.strips)
        forms.setdefault(step.target, set()).add(1 if step.gathers else step.strips)
    for name, one in lowering.maps.items():
        if one.within is not None:
            forms.setdefault(name, set()).add(1)
            forms.setdefault(one.within, set()).add(1)
    return all(len(form) == 1 for form in forms.values())


def split(step: Step, strips: int) -> Step | None:
    """The step on one of ``strips`` strips of its map, all of them at once; None: not possible.

    Rows must divide evenly, windows must not reach beyond the neighbouring strips, padding must be
    one byte for all channels, and results must begin with the first word of a pixel.
    """
    _, height, width = step.shape
    outputs, lines, columns = step.result
    top, _, _, _ = step.window.pads
    (kernel_rows, _), (down, _) = step.window.kernel, step.window.stride
    if lines % strips or height != lines * down or step.group:
        return None
    rows = height // strips
    if (top > rows or (lines // strips - 1) * down + kernel_rows - top > 2 * rows
            or 2 * rows > 1 << (COORDINATE_BITS - 1)):       # rows before the map are negative
        return None
    if any(step.pad != step.pad[0]) and any(step.window.pads):
        return None
    return replace(step, shape=(step.shape[0], rows, width), strips=strips,
                   result=(outputs, lines // strips, columns))


def gather(step: Step, strips: int, row_limit: int) -> Step | None:
    """A pointwise step from a map in strips to one without, a strip as one row; None: another kind.
    """
    inputs, height, width = step.shape
    pixels = height * width // strips
    if not step.pointwise or step.depthwise or height % strips or pixels > row_limit:
        return None
    return replace(step, shape=(inputs, strips, pixels), result=(step.result[0], strips, pixels),
                   strips=strips, gathers=True)
