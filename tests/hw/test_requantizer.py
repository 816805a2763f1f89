"""The requantizer: the reference's rounding and clipping, for every setting it is built with."""

import numpy as np
import pytest

from hw.requantizer import Requantizer, requantizer_latency
from ref.model import SHIFTS, Requantization
from ref.ops import requantize

from .streams import simulate

CYCLES = 250


def operands(rng, bits, shift, signed):
    """Sums, accumulators, biases, multipliers of sums from 0 on and below, and upper bounds of
    `CYCLES` results, and a lower bound."""
    limit = 1 << (bits - 1)
    total = rng.integers(-limit, limit, CYCLES)
    multiplier = rng.integers(0, 1 << 14, CYCLES) * 2 + 1
    corners = [(total_, multiplier_) for total_ in (-limit, -limit + 1, -1, 0, 1, limit - 1)
               for multiplier_ in (1, 3, 0x7FFF, 0x8000)]
    total[:len(corners)], multiplier[:len(corners)] = zip(*corners, strict=True)
    # Results near and inside the byte range, and exact ties with the multiplier of max pooling.
    near = slice(len(corners), CYCLES // 2)
    total[near] = np.clip(rng.integers(-300 << shift, 300 << shift, CYCLES)[near]
                          // multiplier[near], -limit, limit - 1)
    ties = slice(CYCLES // 2, CYCLES // 2 + 40)
    multiplier[ties] = 1 << 15
    # What is clipped at: the largest range, one value, and others.
    lowest = -128 if signed else 0
    lo = int(rng.choice([lowest, lowest + 255, int(rng.integers(lowest, lowest + 256))]))
    hi = rng.integers(lo, lowest + 256, CYCLES)
    hi[rng.random(CYCLES) < 0.5] = lowest + 255
    # The sum with the bias fits; either part need not.
    bias = rng.integers(-(1 << 23), 1 << 23, CYCLES)
    acc = (total - bias + limit) % (2 * limit) - limit
    negative = np.where(rng.random(CYCLES) < 0.5, multiplier, rng.integers(0, 1 << 15, CYCLES))
    return total, acc, bias, multiplier, negative, hi, lo


@pytest.mark.parametrize("bits, multiplier_slice, clips, pipelined", [
    (24, 16, True, True), (20, 8, True, False), (24, 4, True, False), (16, 4, True, True),
    (16, 16, True, True), (18, 16, False, True), (18, 16, False, False)])
def test_equals_reference(bits, multiplier_slice, clips, pipelined):
    shifts = SHIFTS if clips else SHIFTS[::2]
    dut = Requantizer(bits, multiplier_slice, clips=clips, leaky=clips, shifts=shifts,
                      pipelined=pipelined)
    latency = requantizer_latency(pipelined=pipelined)
    rng = np.random.default_rng([bits, multiplier_slice])

    async def check(ctx):
        for index, shift in enumerate(shifts):
            for signed in (0, 1):
                total, acc, bias, multiplier, negative, hi, lo = operands(rng, bits, shift, signed)
                if not clips:
                    lo, hi = -128 * signed, np.full(CYCLES, 255 - 128 * signed)
                    negative = multiplier
                rule = Requantization(np.zeros(CYCLES, np.int64), multiplier, shift,
                                      np.full(CYCLES, lo), hi, negative)
                expected = requantize(total[None], rule)[0] + 128 * signed
                ctx.set(dut.shift, index)
                ctx.set(dut.signed_output, signed)
                ctx.set(dut.lo, lo + 128 * signed if clips else 99)
                got = []
                for cycle in range(CYCLES + latency):
                    if cycle < CYCLES:
                        ctx.set(dut.acc[cycle & 1], int(acc[cycle]))
                        ctx.set(dut.acc[~cycle & 1], 99)
                        ctx.set(dut.upper, cycle & 1)
                    result = cycle - pipelined
                    if 0 <= result < CYCLES:
                        constants = {"bias": int(bias[result]),
                                     "multiplier": int(multiplier[result])}
                        if clips:
                            constants |= {"multiplier_negative": int(negative[result]),
                                          "hi": int(hi[result]) + 128 * signed}
                        ctx.set(dut.constants, constants)
                    _, _, value = await ctx.tick().sample(dut.o)
                    got.append(value)
                np.testing.assert_array_equal(got[latency:], expected, f"{shift} {signed}")

    simulate(dut, check, cycles=8 * (CYCLES + latency) + 10)
