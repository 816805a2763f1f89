"""Switching activity per multiply-accumulate: AUSN beside linear weights, on real data.

    python -m bench.ausn energy [FAMILY ...] [--design NAME]

The mapped netlists of `bench.ausn_area` are fed with the feature maps and trained weights of KWS,
quantized for each design, of every pointwise layer: each stream is one of some clips' four
neighbouring pixels and eight output channels drawn at random, through all 64 input channels. Every
sum is compared with the integers' own.

Energy is the sum over nets of toggles times weight (`bench.netlist_activity.weights`), and half for
each register's clock a cycle. There is no unit: designs are compared. ``settled`` is the same
without glitches, as if cells had no delay. Of multipliers by synthesis the method with the least
counts. Results go to bench/results/ausn_energy.json.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from hw.ausn.still import first_lacks
from hw.ausn.tile import group_lacks
from hw.tools import find_tool
from quant import find_preset, import_onnx, quantize
from ref.data import load_data
from ref.model import Conv2d
from ref.run import run_layers

from .accuracy import NETWORKS, data_file
from .ausn_area import netlist
from .ausn_designs import LANES, SHAPE, by_hand
from .netlist_activity import Netlist, weights
from .record import record

RESULTS = Path(__file__).parent / "results" / "ausn_energy.json"
#: Methods of synthesis on each family; lanes take the first.
METHODS = {"ice40": ("plain", "abc9", "booth"), "ecp5": ("narrow", "booth narrow")}
#: Designs by name and the presets whose weights they take.
DESIGNS = {"AUSN 5": "ausn5", "AUSN 5 still": "ausn5", "linear 8 still": "w8a8",
           "linear 8 direct": "w8a8",
           **{f"{kind} {bits}": f"w{bits}a8" for bits in (8, 6, 5, 4)
              for kind in ("linear", "Booth")}}
CLIPS, STREAMS = 16, 512
#: Cycles that fill all registers.
WARM_UP = 8
#: Of a register's clock, a cycle.
CLOCK = 0.5


@cache
def operands(preset: str) -> tuple[np.ndarray, np.ndarray]:
    """Activations (streams, steps, pixels) and integer weights (streams, steps, channels)."""
    model = quantize(import_onnx(NETWORKS["kws"][0]), load_data(data_file("kws", "calib")),
                     find_preset(preset))
    maps = run_layers(model, load_data(data_file("kws", "test")).x[:CLIPS])
    layers = [layer for layer in model.layers if isinstance(layer, Conv2d)
              and layer.groups == 1 and layer.weight.shape[1:] == (64, 1, 1)
              and maps[layer.inputs[0]].shape[2] > 1]
    random = np.random.default_rng(0)
    x, w = [], []
    for _ in range(STREAMS):
        layer = layers[random.integers(len(layers))]
        pixels = maps[layer.inputs[0]][random.integers(CLIPS)].reshape(64, -1)
        first = random.integers(pixels.shape[1] - SHAPE[0] + 1)
        channel = random.integers(layer.weight.shape[0] // SHAPE[1]) * SHAPE[1]
        x.append(pixels[:, first:first + SHAPE[0]])
        w.append(layer.weight[channel:channel + SHAPE[1], :, 0, 0].T)
    return np.array(x), np.array(w, np.int64)


def to_bits(values: np.ndarray, width: int) -> list[int]:
    """Integers (streams, n) as n * width bits, lowest first; each holds all streams'."""
    planes = (values[:, :, None] >> np.arange(width) & 1).astype(np.uint8).reshape(len(values), -1)
    packed = np.packbits(planes, axis=0, bitorder="little")
    return [int.from_bytes(column.tobytes(), "little") for column in packed.T]


def from_bits(bits: list[int], width: int) -> np.ndarray:
    """Unsigned integers (streams, n) from n * width bits, as of `to_bits`."""
    rows = [np.frombuffer(one.to_bytes(STREAMS // 8, "little"), np.uint8) for one in bits]
    planes = np.unpackbits(np.array(rows), axis=1, bitorder="little").astype(np.int64)
    return (planes.reshape(-1, width, STREAMS) << np.arange(width)[:, None]).sum(axis=1).T


def activity(design: str, family: str, method: str) -> dict[str, float]:
    """Measures of one netlist; `AssertionError` where a sum differs from the integers' own."""
    kind, bits = design.split()[0], int(design.split()[1])
    x, w = operands(DESIGNS[design])
    steps = x.shape[1]
    codes, lacks = w & (1 << bits) - 1, np.zeros(w.shape[::2], np.int64)
    if kind != "linear":
        plan = by_hand(kind, bits, family)
        numbers = {weight: code for code, weight in reversed(list(enumerate(plan.weights)))}
        codes = np.vectorize(numbers.__getitem__)(w)
        still = design.endswith("still")
        if not still:
            short = np.array([group_lacks(plan, (code,)) for code in range(len(plan.weights))])
            lacks = short[codes].sum(axis=1)
        elif not plan.chooses:
            lacks = np.vectorize(lambda code: first_lacks(plan, code))(codes[:, 0])
    expected = np.einsum("sip,sic->spc", x, w) - lacks[:, None, :]
    wanted = expected.reshape(STREAMS, -1) & (1 << 20) - 1

    top = netlist(design, family, method)
    circuit = Netlist(top, family, STREAMS)
    ones = circuit.ones
    compared, toggles, settled = False, {}, {}
    for step in range(-WARM_UP, steps + WARM_UP):       # counted is one whole sum
        now = step % steps
        circuit.tick({"x": to_bits(x[:, now], 8), "code": to_bits(codes[:, now], bits),
                      "valid": [ones], "first": [ones * (now == 0)],
                      "last": [ones * (now == steps - 1)], "rst": [0]})
        if step == -1:
            circuit.clear()
        if step == steps - 1:
            toggles, settled = dict(circuit.toggles), dict(circuit.settled)
        if step >= steps and circuit.get("done")[0] == ones:
            compared = True
            assert np.array_equal(from_bits(circuit.get("sums"), 20), wanted), (design, family)
    assert compared
    macs = steps * STREAMS * LANES
    clocks = CLOCK * len(circuit.registers) / LANES
    cost = weights(top)

    def energy(counted: dict[int, int]) -> float:
        return round(sum(counted.get(net, 0) * one for net, one in cost.items()) / macs + clocks, 2)

    return {"energy_per_mac": energy(toggles), "settled_per_mac": energy(settled),
            "clocks_per_mac": round(clocks, 2),
            "toggles_per_mac": round(sum(toggles.get(net, 0) for net in cost) / macs, 2)}


def measure(design: str, family: str) -> dict[str, Any]:
    """The entry of the results of one design."""
    methods = METHODS[family] if design.startswith("linear") else METHODS[family][:1]
    found = {method: activity(design, family, method) for method in methods}
    best = min(found, key=lambda method: found[method]["energy_per_mac"])
    return {"design": design, "family": family, "streams": STREAMS, "method": best, **found[best],
            "methods": {method: one["energy_per_mac"] for method, one in found.items()}}


def run(families: list[str], designs: list[str]) -> None:
    """Measure what is asked for, a line and an entry each."""
    for family in families or METHODS:
        for design in designs or DESIGNS:
            if family not in METHODS or design not in DESIGNS:
                continue
            entry = measure(design, family)
            print(f"{family:7}{design:15}{entry['energy_per_mac']:8.2f} settled "
                  f"{entry['settled_per_mac']:8.2f}  {entry['methods']}", flush=True)
            record(RESULTS, entry, ("family", "design"), yosys=find_tool("yosys").version)
