# amaranth: UnusedElaboratable=no
"""AUSN activations against `ref.ops.requantize`; tests/formal proves them for every sum."""

import numpy as np
import pytest

from hw.ausn.activation import ActivationDecoder, AusnRequantizer
from ref.ausn import AusnCode
from ref.model import Requantization
from ref.ops import requantize

from .streams import simulate

SHIFTS = (4, 6, 9)
CODE = AusnCode(2, 2)


def expected(acc: np.ndarray, bias: int, shift: int) -> np.ndarray:
    """The reference's bytes."""
    rule = Requantization(bias=np.array([bias]), multiplier=np.array([1]), shift=shift,
                          lo=np.array([0]), hi=np.array([255]), code=CODE)
    return requantize(acc[:, None], rule)[:, 0]


def test_codes_are_those_of_the_reference():
    """Around every border between two levels, far outside, and at random."""
    random = np.random.default_rng(0)
    cases = []
    for index, shift in enumerate(SHIFTS):
        changes = np.flatnonzero(np.diff(CODE.bytes)) + 1
        borders = (changes[:, None] << shift - 1) + np.arange(-1, 2)
        sums = np.concatenate([borders.ravel(), [-(1 << 18), (1 << 18) - 1, -1, 0, 1],
                               random.integers(-1 << 10, 1 << 18, 50)])
        for bias in (0, -317):
            wanted = expected(sums - bias, bias, shift)
            cases += [(int(total) - bias, bias, index, int(byte))
                      for total, byte in zip(sums, wanted, strict=True)]
    dut = AusnRequantizer(CODE, 20, SHIFTS)
    levels = np.unique(CODE.bytes)
    found = []

    async def check(ctx):
        for number, (acc, bias, shift, _) in enumerate(cases):
            ctx.set(dut.acc[number % 2], acc)
            ctx.set(dut.acc[1 - number % 2], ~acc)
            ctx.set(dut.upper, number % 2)
            ctx.set(dut.bias, bias)
            ctx.set(dut.shift, shift)
            await ctx.tick()
            found.append(ctx.get(dut.o))
        for _ in range(dut.latency - 1):
            await ctx.tick()
            found.append(ctx.get(dut.o))

    simulate(dut, check, cycles=len(cases) + 10)
    assert levels[found[dut.latency - 1:]].tolist() == [byte for *_, byte in cases]


def test_levels_that_are_no_bytes_are_refused():
    with pytest.raises(ValueError, match="are no bytes"):
        AusnRequantizer(AusnCode(3, 3), 20, SHIFTS)
    with pytest.raises(ValueError, match="are no bytes"):
        ActivationDecoder(AusnCode(3, 3))
