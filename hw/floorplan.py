"""Where multiplier blocks and block RAMs lie in wide arrays: those of an output channel together.

A channel's activations, windows, weights and multipliers speak to each other; only the byte that a
pointwise layer broadcasts, addresses and controls travel further. nextpnr sees single wires, and by
itself puts blocks so that many more of them cross each other than the device has room for.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from boards.block_ram import SHAPES, is_deep, parts
from boards.sites import Site, Sites

from . import memory, window_memory
from .config import EngineConfig
from .packing import OPERAND_BITS, PIXELS

#: Lanes from which on it helps.
LANES = 128
#: How much the distance of a block to its channels' multipliers counts, by the wires between them:
#: a window memory has 32 bits of words in and out, so has the tape's queue, a part of the
#: activation memory has some of them, one of the tape's fewer still.
WINDOWS, QUEUE, ACTIVATIONS, TAPE = 64, 64, 12, 4
#: Bits of the widest block RAM, into which Yosys cuts the queue.
BLOCK_BITS = SHAPES[0][0]
#: The engine in the top module, as it is named there after synthesis.
ENGINE = "core.accelerator"


class Block(NamedTuple):
    """What a cell's name begins with in the engine, its channels, how much its wires count."""

    name: str
    channels: range
    weight: int


def product_blocks(config: EngineConfig) -> int:
    """Blocks of a channel for the products of its pixels; two share one where weights are small.

    Of lanes of both kinds every other channel has so many, and the others none.
    """
    pixels = config.pixels - config.table_pixels
    return -(-pixels // 2) if config.weight_bits <= PIXELS.weight_bits else pixels


def floorplan(config: EngineConfig, sites: Sites | None) -> dict[str, str]:
    """The site of each cell, by the name that its name begins with; empty where it is no help.

    Multipliers of products fill sites in the middle of the device, channel by channel, and leave
    some for the requantizers. These and block RAMs lie as near to their channels as there is room.
    """
    channels, lanes = config.channels, config.requantizers
    if (sites is None or config.mac_units < LANES or config.weight_bits > PIXELS.weight_bits
            or config.biased_bits > OPERAND_BITS):
        return {}
    places = sites.multipliers()
    each = product_blocks(config)
    first = max((len(places) - each * config.block_channels - lanes) // 8 * 4, 0)
    share = channels // config.block_channels
    plan: dict[str, str] = {}
    homes: list[np.ndarray] = []
    for c in range(0, channels, share):
        own = places[first + each * (c // share) + lanes * c // channels:][:max(each, 1)]
        plan |= {f"array.multiplier{2 * k}_{c}.multiplier.": site.name
                 for k, site in enumerate(own[:each])}
        homes += share * [np.mean([(site.x, site.y) for site in own], axis=0)]
    left = [site for site in places if site.name not in plan.values()]
    plan |= placed([Block(f"writer.requantizer{lane}.scaling.", config.requantized(lane), 1)
                    for lane in range(lanes)], left, homes)
    plan |= placed(list(block_rams(config)), sites.block_rams(), homes)
    return {f"{ENGINE}.{name}": site for name, site in plan.items()}


def placed(blocks: list[Block], sites: list[Site], homes: list[np.ndarray]) -> dict[str, str]:
    """A site for each block, near to where its channels are at home."""
    distance = np.array([[block.weight * np.mean([
        abs(site.x - homes[c][0]) + abs(site.y - homes[c][1]) for c in block.channels])
        for site in sites] for block in blocks])
    return {block.name: sites[place].name
            for block, place in zip(blocks, assigned(distance), strict=True)}


def block_rams(config: EngineConfig) -> Iterator[Block]:
    """The block RAMs of windows, activations and weights."""
    for p in range(config.pixels):
        for low in range(0, 8 * config.channels, window_memory.PART_BITS):
            channels = range(low // 8, (low + window_memory.PART_BITS) // 8)
            yield Block(f"windows.lane{p}_{low}.", channels, WINDOWS)
    for number, low in enumerate(range(0, config.channels * config.weight_bits, BLOCK_BITS)):
        last = min(low + BLOCK_BITS, config.channels * config.weight_bits) - 1
        channels = range(low // config.weight_bits, last // config.weight_bits + 1)
        yield Block(f"tape_words.queue.0.{number}", channels, QUEUE)
    for name, bits, depth, weight in (
            ("activations", 8, config.activation_depth, ACTIVATIONS),
            ("tape", config.weight_bits, config.tape_depth, TAPE)):
        for low in range(0, config.channels * bits, memory.PART_BITS):
            for first, part in parts(min(memory.PART_BITS, config.channels * bits - low), depth):
                channels = range((low + part.start) // bits, -(-(low + part.stop) // bits))
                own = f"column{first}_{part.start}." if is_deep(depth) else ""
                yield Block(f"{name}.ram{low}.{own}", channels, weight)


def assigned(cost: np.ndarray) -> list[int]:
    """The column for each row of ``cost`` [rows, at least as many columns], of low total cost.

    Rows take columns in the order of their largest cost, then any two columns are exchanged that
    are better so, until there are none.
    """
    rows, columns = cost.shape
    cost = np.vstack([cost, np.zeros((columns - rows, columns))])
    place = np.full(columns, -1)
    free = np.ones(columns, bool)
    for row in np.argsort(-cost.max(axis=1), kind="stable"):
        place[row] = np.where(free, cost[row], np.inf).argmin()
        free[place[row]] = False
    improved = True
    while improved:
        improved = False
        for row in range(columns):
            now = cost[np.arange(columns), place]
            change = cost[row, place] + cost[:, place[row]] - now[row] - now
            other = int(change.argmin())
            if change[other] < -1e-6:
                place[[row, other]] = place[[other, row]]
                improved = True
    return place[:rows].tolist()


def placement_script(plan: dict[str, str]) -> str:
    """Yosys commands that give cells their sites, after synthesis; each must exist, once."""
    lines = []
    for name, site in plan.items():
        cells = f"top/c:{name}* top/t:DP16KD top/t:MULT18X18D %u %i"
        lines += [f"select -assert-count 1 {cells}", f'setattr -set BEL "{site}" {cells}']
    return "\n".join(lines)
