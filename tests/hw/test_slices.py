"""Slices of CXXRTL's values, specialized in hw/slices.h: equal to their bits, one by one."""

import random
import subprocess

import pytest

from hw.cxxrtl import SLICES, yosys_share
from hw.tools import find_tool
from ref.compiler import find_compiler

CHECK = """
#include <cstdio>
using namespace cxxrtl;

static uint32_t state = 1;
static uint32_t draw() { return (state = state * 1664525u + 1013904223u) >> 3 ^ state << 9; }

template <size_t Bits> value<Bits> any() {
    value<Bits> result;
    for (auto &chunk : result.data) chunk = draw();
    result.data[result.chunks - 1] &= result.msb_mask;
    return result;
}

template <size_t Bits, size_t Stop, size_t Start> void check() {
    for (int round = 0; round < 4; round++) {
        value<Bits> whole = any<Bits>(), before = whole;
        const value<Bits> constant = whole;
        const auto part = any<Stop - Start + 1>();
        const auto read = whole.template slice<Stop, Start>().val();
        const value<Stop - Start + 1> same = constant.template slice<Stop, Start>();
        whole.template slice<Stop, Start>() = part;
        bool right = !(read.data[read.chunks - 1] & ~read.msb_mask) && read == same;
        for (size_t n = 0; n <= Stop - Start; n++)
            right &= read.bit(n) == before.bit(Start + n);
        for (size_t n = 0; n < 32 * whole.chunks; n++)
            right &= whole.bit(n) == (n >= Start && n <= Stop ? part.bit(n - Start)
                                                              : before.bit(n));
        if (!right) printf("%zu bits, %zu to %zu\\n", Bits, Start, Stop);
    }
}
"""


def slices(count: int) -> set[tuple[int, int, int]]:
    """(bits, stop, start): the ends of chunks of 32 bits, and ``count`` others."""
    edges = [0, 1, 31, 32, 33, 63, 64, 95]
    chosen = {(bits, stop, start) for bits in (32, 64, 96) for start in edges for stop in edges
              if start <= stop < bits}
    rng = random.Random(1)
    for _ in range(count):
        bits = rng.randint(1, 200)
        start, stop = sorted(rng.choices(range(bits), k=2))
        chosen.add((bits, stop, start))
    return chosen


@pytest.mark.parametrize("fault", [None, ("pair >> shift", "pair >> (shift / 2)"),
                                   ("31 - Stop % 32", "30 - Stop % 32 % 31")])
def test_slices(fault, tmp_path):
    """No slice differs; and with a fault in the header some do."""
    header = SLICES.read_text()
    if fault:
        assert header.count(fault[0]) == 1
        header = header.replace(*fault)
    calls = "".join(f"check<{bits}, {stop}, {start}>();\n"
                    for bits, stop, start in sorted(slices(10 if fault else 60)))
    (tmp_path / "check.cc").write_text(header + CHECK + "int main() {\n" + calls + "}\n")
    share = yosys_share(find_tool("yosys"))
    subprocess.run([*find_compiler("c++").command, "-std=c++14", "-O0", "-w", "-o", "check",
                    f"-I{share}/include/backends/cxxrtl/runtime", "check.cc"],
                   cwd=tmp_path, check=True)
    output = subprocess.run(["./check"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert bool(output.stdout) == bool(fault)
