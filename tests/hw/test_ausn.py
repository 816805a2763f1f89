# amaranth: UnusedElaboratable=no
"""Shift-add tiles: plans, sums of many steps, trees. tests/formal/test_ausn.py proves products."""

import numpy as np
import pytest
from amaranth.hdl import Module, ResetInserter, Signal

from hw.ausn.held import HeldTile
from hw.ausn.plan import PLAIN_TERMS, Plan, ausn_plan, booth_plan, two_term_plan
from hw.ausn.still import StillTile, first_lacks
from hw.ausn.tile import Tile, group_lacks
from ref.ausn import AusnCode

from .streams import simulate

AUSN5 = AusnCode(2, 2)
SPLITS = tuple(AusnCode(e, s) for e, s in ((2, 2), (2, 1), (2, 0), (1, 2), (1, 1), (1, 0)))
FAMILIES = (None, "ecp5")


@pytest.mark.parametrize("family", FAMILIES)
def test_codes_mean_what_the_reference_says(family):
    plan = ausn_plan(SPLITS, family)
    for number, code in enumerate(SPLITS):
        codes = np.arange(2 << code.bits)
        mine = plan.weights[number << 5:][:len(codes)]
        assert mine == tuple(code.decode(codes)), code


@pytest.mark.parametrize("family", FAMILIES)
def test_codes_of_four_bits_and_fewer(family):
    for code in (AusnCode(2, 1), AusnCode(2, 0)):
        codes = np.arange(2 << code.bits)
        assert ausn_plan((code,), family).weights == tuple(code.decode(codes)), code


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("codes", [
    *((AusnCode(exponent, bits),) for exponent in (1, 2, 3) for bits in range(5)),
    (AusnCode(2, 5),), (AusnCode(2, 3), AUSN5, AusnCode(1, 2)), (AusnCode(3, 1), AusnCode(1, 3))],
    ids=lambda codes: " or ".join(f"{one.exponent}+{one.superposition}" for one in codes))
def test_any_codes_have_a_plan(codes, family):
    plan = ausn_plan(codes, family)
    size = 2 << max(one.bits for one in codes)
    for number, code in enumerate(codes):
        wanted = code.decode(np.arange(2 << code.bits)).tolist()
        assert list(plan.weights[number * size:][:len(wanted)]) == wanted
        assert not any(plan.weights[number * size + len(wanted):(number + 1) * size])


def test_a_weight_that_two_terms_do_not_make_is_named():
    with pytest.raises(ValueError, match="do not make 11"):
        two_term_plan((0, 11), PLAIN_TERMS[5])


@pytest.mark.parametrize("bits", [4, 5, 6, 8])
def test_booth_codes_are_twos_complement(bits):
    codes = range(1 << bits)
    assert booth_plan(bits).weights == tuple(
        code - (code >> bits - 1 << bits) for code in codes)


def test_taps_are_a_power_of_two():
    with pytest.raises(ValueError, match="not 3"):
        Tile(booth_plan(4), 1, 1, taps=3)


def sums_of(tile: Tile | StillTile | HeldTile, x: np.ndarray, codes: np.ndarray, ends: list[int],
            idle: set[int]) -> list[np.ndarray]:
    """What a tile announces: x (steps, taps, pixels), codes (steps, taps, channels).

    ``ends`` are the last steps of sums, ``idle`` the steps after which a cycle has no operands.
    """
    found = []

    async def check(ctx):
        async def tick():
            await ctx.tick()
            if ctx.get(tile.done):
                found.append(np.array([list(row) for row in ctx.get(tile.sums)]))

        for step in range(len(x)):
            ctx.set(tile.x, x[step].tolist())
            ctx.set(tile.code, codes[step].tolist())
            ctx.set(tile.valid, 1)
            ctx.set(tile.first, step == 0 or step - 1 in ends)
            ctx.set(tile.last, step in ends)
            await tick()
            if step in idle:
                ctx.set(tile.valid, 0)
                await tick()
        ctx.set(tile.valid, 0)
        for _ in range(tile.latency):
            await tick()

    simulate(tile, check, cycles=3 * len(x) + 50)
    return found


def expected_sums(plan: Plan, x: np.ndarray, codes: np.ndarray, ends: list[int]
                  ) -> list[np.ndarray]:
    """The integer dot products of each sum, less what the plan's lack."""
    weights = np.array(plan.weights)[codes]
    products = np.einsum("stp,stc->spc", x, weights)
    lacks = np.array([[group_lacks(plan, tuple(step[:, c].tolist()))
                       for c in range(codes.shape[2])] for step in codes])
    starts = [0, *(end + 1 for end in ends)]
    return [(products - lacks[:, None, :])[start:end + 1].sum(axis=0)
            for start, end in zip(starts, ends, strict=False)]


@pytest.mark.parametrize("plan", [
    *(pytest.param(ausn_plan((code,), family), id=f"AUSN-{code.bits + 1}-{family}")
      for family in FAMILIES for code in (AUSN5, AusnCode(2, 1), AusnCode(2, 4))),
    *(pytest.param(booth_plan(bits), id=f"Booth-{bits}") for bits in (5, 8))])
@pytest.mark.parametrize("taps", [1, 2, 4])
def test_sums_follow_each_other_without_a_lost_cycle(plan, taps):
    random = np.random.default_rng(taps)
    ends = [0, 1, 6, 19]                # the first two sums have a single step
    x = random.integers(0, 256, (20, taps, 2))
    codes = random.integers(0, len(plan.choices), (20, taps, 2))
    x[2:4], codes[2:4] = 255, len(plan.choices) // 2 - 1
    found = sums_of(Tile(plan, 2, 2, taps), x, codes, ends, {0, 3, 4, 11})
    for one, other in zip(found, expected_sums(plan, x, codes, ends), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize(("tile", "plan"), [
    pytest.param(StillTile, ausn_plan((AUSN5,), None), id="AUSN-5"),
    pytest.param(StillTile, ausn_plan((AusnCode(2, 1),), None), id="AUSN-4"),
    pytest.param(HeldTile, ausn_plan((AUSN5,), "ecp5"), id="held-AUSN-5")])
def test_lanes_that_stand_still_for_zeros_lose_none(tile, plan):
    random = np.random.default_rng(0)
    ends = [0, 1, 6, 19, 39]
    x = random.integers(0, 256, (40, 1, 2)) * random.integers(0, 2, (40, 1, 2))
    x[[0, 2, 6, 19]] = 0                # also where sums start and end
    x[30:34] = 0
    codes = random.integers(0, len(plan.choices), (40, 1, 2))
    found = sums_of(tile(plan, 2, 2), x, codes, ends, {0, 3, 4, 11})
    products = np.einsum("stp,stc->spc", x, np.array(plan.weights)[codes])
    for start, end, one in zip([0, *(end + 1 for end in ends)], ends, found, strict=False):
        lacks = 0
        if tile is StillTile:
            lacks = [first_lacks(plan, code) for code in codes[start, 0]]
        assert np.array_equal(one, products[start:end + 1].sum(axis=0) - lacks)
    assert len(found) == len(ends)


@pytest.mark.parametrize(("tile", "plan"), [
    pytest.param(Tile, ausn_plan((AUSN5,), None), id="tile"),
    pytest.param(Tile, ausn_plan((AUSN5,), "ecp5"), id="tile-ecp5"),
    pytest.param(StillTile, ausn_plan((AUSN5,), None), id="still"),
    pytest.param(HeldTile, ausn_plan((AUSN5,), "ecp5"), id="held")])
def test_a_reset_forgets_the_sum_under_way(tile, plan):
    reset, dut = Signal(), tile(plan, 1, 1)
    m = Module()
    m.submodules.dut = ResetInserter(reset)(dut)
    code, found = plan.weights.index(7), []

    async def check(ctx):
        async def add(x, first, last, valid=1):
            ctx.set(dut.x, [[x]])
            for port, value in ((dut.valid, valid), (dut.first, first), (dut.last, last)):
                ctx.set(port, value)
            await ctx.tick()
            if ctx.get(dut.done):
                found.append(ctx.get(dut.sums[0][0]))

        ctx.set(dut.code, [[code]])
        await add(200, 1, 0)
        await add(100, 0, 0)
        ctx.set(reset, 1)
        await add(50, 0, 0)
        ctx.set(reset, 0)
        await add(3, 1, 0)
        await add(5, 0, 1)
        for _ in range(dut.latency):
            await add(9, 0, 0, valid=0)

    simulate(m, check, cycles=50)
    lacks = {Tile: group_lacks(plan, (code,)) * 2, HeldTile: 0}.get(tile, first_lacks(plan, code))
    assert found == [7 * (3 + 5) - lacks]


def test_booth_lanes_do_not_stand_still():
    for tile in (StillTile, HeldTile):
        with pytest.raises(ValueError, match="two terms"):
            tile(booth_plan(4), 1, 1)


def test_terms_of_zero_need_registers():
    with pytest.raises(ValueError, match="never zero"):
        HeldTile(ausn_plan((AusnCode(2, 1),), "ecp5"), 1, 1)


def test_adders_that_choose_hold_choices_in_lanes():
    with pytest.raises(ValueError, match="chosen by an adder"):
        StillTile(ausn_plan((AUSN5,), "ecp5"), 1, 1)
