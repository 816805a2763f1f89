"""What a depthwise engine fused to a pointwise array could reach at best: bench/results/fused.json.

    python -m bench.fused [NAME ...]

Lanes are divided once and for all between a depthwise engine and an array for everything else. A
depthwise layer and the pointwise layer behind it run at the same time and take as long as the
slower one; any other layer runs on its own part of the lanes alone. Nothing else costs anything: no
odd sizes, no filling of pipelines, no memory. The best division is compared with the cycles of the
time-shared array of as many lanes, which are those of the simulated hardware.
"""

import argparse
import platform
import sys

import quant
from bench.accuracy import NETWORKS, ROOT, data_file
from bench.record import check_networks, record
from boards import board
from hw.fit import fit_program
from ref.errors import run_command
from ref.model import Conv2d, Model

RESULTS = ROOT / "bench" / "results" / "fused.json"
DEFAULT = ("kws", "vww")
LANES = (64, 192)


def work(layer: Conv2d, model: Model) -> int:
    """Products of a layer."""
    _, rows, columns = model.tensors[layer.output].shape
    return layer.weight.size * rows * columns


def is_depthwise(layer: Conv2d, model: Model) -> bool:
    """One input channel to each output channel."""
    return layer.weight.shape[1] == 1 and model.tensors[layer.inputs[0]].shape[0] > 1


def fused_cycles(model: Model, depthwise_lanes: int, other_lanes: int) -> float:
    """Cycles of the network's convolutions where neither part ever waits within a layer."""
    cycles, before = 0.0, 0.0       # ``before``: of a depthwise layer that the next one may overlap
    for layer in (layer for layer in model.layers if isinstance(layer, Conv2d)):
        if is_depthwise(layer, model):
            cycles += before
            before = work(layer, model) / depthwise_lanes
        else:
            cycles += max(before, work(layer, model) / other_lanes)
            before = 0.0
    return cycles + before


def measure(name: str, lanes: int) -> dict:
    """The best division of ``lanes`` and the time-shared array."""
    model = quant.quantize(NETWORKS[name][0], data_file(name, "calib"), "w4a8")
    program = fit_program(model, board("ulx3s_85f"), lanes)
    best, own = min((fused_cycles(model, own, lanes - own), own) for own in range(1, lanes))
    return {
        "network": name, "lanes": lanes, "depthwise_lanes": own, "fused_cycles_at_least": int(best),
        "fused_utilisation_at_most": round(program.macs / (best * lanes), 4),
        "time_shared_cycles": program.predicted_cycles,
        "time_shared_utilisation": round(program.macs / (program.predicted_cycles * lanes), 4),
    }


def main(arguments: list[str]) -> int:
    """Measure and record."""
    parser = argparse.ArgumentParser(prog="python -m bench.fused", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DEFAULT))
    names = parser.parse_args(arguments).names or DEFAULT
    check_networks(names, NETWORKS)
    for name in names:
        for lanes in LANES:
            entry = measure(name, lanes)
            record(RESULTS, entry, ("network", "lanes"), python=platform.python_version())
            print(entry)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
