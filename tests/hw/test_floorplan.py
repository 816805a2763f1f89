"""The floorplan: each site used once, blocks near to their channels, only where it helps."""

import re
from dataclasses import replace

import numpy as np
import pytest

from boards import board
from boards.device import ECP5_25F, ECP5_85F
from hw.config import EngineConfig
from hw.floorplan import assigned, block_rams, floorplan, placement_script
from hw.tools import find_tools
from hw.top import Top

WIDE = EngineConfig(channels=32, pixels=6, requantizers=32, tape_depth=4096, activation_depth=3072,
                    single_port=False, strips=4, accumulator_bits=16, bias_bits=2, weight_bits=4,
                    maximum=False, leaky=False, clips=False, pipelined=True)
SITES = ECP5_85F.sites


def test_every_site_once():
    plan = floorplan(WIDE, SITES)
    assert len(plan) == len(set(plan.values()))
    assert set(plan.values()) <= {site.name for site in (*SITES.multipliers(), *SITES.block_rams())}
    own = [f"core.accelerator.array.multiplier{2 * k}_0.multiplier." for k in range(3)]
    assert [plan[name] for name in (*own, "core.accelerator.writer.requantizer0.scaling.")] == [
        "X13/Y10/MULT18_0", "X14/Y10/MULT18_1", "X17/Y10/MULT18_4", "X18/Y10/MULT18_5"]


def test_requantizers_of_two_channels_take_the_sites_between():
    plan = floorplan(replace(WIDE, pixels=8, requantizers=16), SITES)
    assert len(plan) == len(set(plan.values()))
    assert sum("requantizer" in name for name in plan) == 16


def test_channels_without_blocks_are_at_home_with_their_neighbours():
    config = replace(WIDE, mixed=True)
    plan = floorplan(config, SITES)
    assert len(plan) == len(set(plan.values()))
    blocks = [name for name in plan if "array.multiplier" in name]
    assert len(blocks) == 16 * 3 and all(int(name.split("_")[1][:-1].split(".")[0]) % 2 == 0
                                         for name in blocks)


def test_a_small_device_full_of_both_kinds():
    """128 lanes on an ECP5-25F, whose 56 block RAMs and 28 multipliers are nearly all used."""
    config = replace(WIDE, channels=16, pixels=8, requantizers=16, tape_depth=2048,
                     activation_depth=1536, table_pixels=6, mixed=True)
    plan = floorplan(config, ECP5_25F.sites)
    multipliers, block_rams = (
        {site.name for site in sites}
        for sites in (ECP5_25F.sites.multipliers(), ECP5_25F.sites.block_rams()))
    assert (len(multipliers), len(block_rams)) == (28, 56)
    assert len(plan) == len(set(plan.values())) and set(plan.values()) <= multipliers | block_rams
    assert sum(name in multipliers for name in plan.values()) == 8 + 16
    bare = floorplan(replace(config, table_pixels=8), ECP5_25F.sites)     # no block for products
    assert sum(name in multipliers for name in bare.values()) == 16
    assert len(bare) == len(set(bare.values()))


def test_block_rams_lie_near_their_channels():
    plan = floorplan(WIDE, SITES)
    places = {site.name: site for site in (*SITES.multipliers(), *SITES.block_rams())}
    for block in block_rams(WIDE):
        here = places[plan[f"core.accelerator.{block.name}"]]
        homes = [places[plan[f"core.accelerator.array.multiplier0_{c}.multiplier."]]
                 for c in block.channels]
        distance = np.mean([abs(here.x - home.x) + abs(here.y - home.y) for home in homes])
        assert distance < {64: 35, 12: 55, 4: 100}[block.weight]


@pytest.mark.parametrize("changes", [
    {"channels": 16, "requantizers": 16}, {"weight_bits": 8}, {"bias_bits": 4}])
def test_elsewhere_they_are_free(changes):
    assert floorplan(replace(WIDE, **changes), SITES) == {}
    assert floorplan(WIDE, None) == {}
    assert placement_script({}) == ""


@pytest.mark.parametrize(("depth", "mixed"), [(512, False), (3072, False), (3072, True)])
def test_cells_are_where_the_names_say(depth, mixed):
    """Each name is that of one instance or memory of the design, below the top module."""
    chosen = board("ulx3s_85f")
    config = replace(WIDE, tape_depth=depth, activation_depth=depth, mixed=mixed)
    with find_tools("ecp5").active():
        text = chosen.platform().prepare(Top(chosen, config), "top", emit_src=False).files["top.il"]
    modules = {}
    for name, body in re.findall(r"^module (\S+)\n(.*?)^end$", text, re.M | re.S):
        cells = {cell: kind for kind, cell in re.findall(r"^  cell (\S+) (\S+)$", body, re.M)}
        memories = {cell: "memory" for cell in re.findall(r"^  memory .* (\S+)$", body, re.M)}
        modules[name] = cells | memories
    for name in floorplan(config, SITES):
        module = "\\top"
        for part in name.rstrip(".").split("."):
            if module == "memory":              # which is cut into parts that have numbers
                assert part.isdigit(), name
            else:
                module = modules[module][f"\\{part}"]
        inside = list(modules[module].values()) if module in modules else [module]
        assert inside.count("memory") == 1 or inside.count("\\MULT18X18D") == 1, name


def test_assignment_is_as_good_as_any_exchange_of_two():
    cost = np.random.default_rng(1).random((20, 30))
    place = assigned(cost)
    assert len(set(place)) == 20
    free = set(range(30)) - set(place)
    for row in range(20):
        assert all(cost[row, place[row]] <= cost[row, other] for other in free)
        for other in range(row):
            assert (cost[row, place[row]] + cost[other, place[other]]
                    <= cost[row, place[other]] + cost[other, place[row]] + 1e-9)
