"""Where multiplier blocks and block RAMs lie in wide arrays: those of an output channel together.

A channel's activations, windows, weights and multipliers speak to each other; only the byte that a
pointwise layer broadcasts, addresses and controls travel further. nextpnr sees single wires, and by
itself puts blocks so that many more of them cross each other than the device has room for.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from boards.block_ram import parts
from boards.sites import Sites

from . import memory, window_memory
from .config import EngineConfig
from .packing import OPERAND_BITS, PIXELS

#: Output channels from which on it helps.
CHANNELS = 32
#: How much the distance of a block to its channels' multipliers counts: a window memory has 32 bits
#: of words in and out, a part of the activation memory some of them, one of the tape's fewer still.
WINDOWS, ACTIVATIONS, TAPE = 64, 12, 3
#: The engine in the top module, as it is named there after synthesis.
ENGINE = "core.accelerator"


class Block(NamedTuple):
    """A block RAM: what its cell's name begins with, the channels it is for, its wires' weight."""

    name: str
    channels: range
    weight: int


def product_blocks(config: EngineConfig) -> int:
    """Blocks of a channel for the products of its pixels; two share one where weights are small."""
    pixels = config.pixels - config.table_pixels
    return -(-pixels // 2) if config.weight_bits <= PIXELS.weight_bits else pixels


def floorplan(config: EngineConfig, sites: Sites | None) -> dict[str, str]:
    """The site of each cell, by the name that its name begins with; empty where it is no help.

    Multipliers fill the sites of as many groups as they need, in the middle of the device, channel
    by channel: those for the products, then the requantizer's. Block RAMs lie as near to the
    multipliers of their channels as there is room.
    """
    if (sites is None or config.channels < CHANNELS or config.weight_bits > PIXELS.weight_bits
            or config.requantizers != config.channels or config.biased_bits > OPERAND_BITS):
        return {}
    plan, homes = {}, []
    places = sites.multipliers()
    each = product_blocks(config) + 1
    first = (len(places) - each * config.channels) // 8 * 4
    for c in range(config.channels):
        names = [f"array.multiplier{2 * k}_{c}.multiplier." for k in range(each - 1)]
        own = places[first + each * c:first + each * (c + 1)]
        plan |= {f"{ENGINE}.{name}": site.name for name, site in
                 zip([*names, f"writer.requantizer{c}.scaling."], own, strict=True)}
        homes.append(np.mean([(site.x, site.y) for site in own], axis=0))
    blocks = list(block_rams(config))
    rams = sites.block_rams()
    distance = np.array([[block.weight * np.mean([
        abs(ram.x - homes[c][0]) + abs(ram.y - homes[c][1]) for c in block.channels])
        for ram in rams] for block in blocks])
    return plan | {f"{ENGINE}.{block.name}": rams[place].name
                   for block, place in zip(blocks, assigned(distance), strict=True)}


def block_rams(config: EngineConfig) -> Iterator[Block]:
    """The block RAMs of windows, activations and weights that lie near to channels."""
    for p in range(config.pixels):
        for low in range(0, 8 * config.channels, window_memory.PART_BITS):
            channels = range(low // 8, (low + window_memory.PART_BITS) // 8)
            yield Block(f"windows.lane{p}_{low}.", channels, WINDOWS)
    for name, bits, depth, weight in (
            ("activations", 8, config.activation_depth, ACTIVATIONS),
            ("tape", config.weight_bits, config.tape_depth, TAPE)):
        for low in range(0, config.channels * bits, memory.PART_BITS):
            for first, part in parts(min(memory.PART_BITS, config.channels * bits - low), depth):
                channels = range((low + part.start) // bits, -(-(low + part.stop) // bits))
                yield Block(f"{name}.ram{low}.column{first}_{part.start}.", channels, weight)


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
