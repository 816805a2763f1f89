"""Area and clock of engines on ECP5, by placement seed, into bench/results/engine_area.json.

    python -m bench.engine_area [NAME ...] [--board BOARD] [--lanes N] [--preset PRESET]
                                [--accumulator-bits N] [--seeds N ...]

Each network is quantized, with w4a8 unless told otherwise, and fitted to the board, whole design
with the host link. Place and route are asked for 87.5 MHz, more than is expected, so that they do
their best. Latency is of one inference at the clock that was reached less 7 %. Accuracy is that of
the integers on all test samples.
"""

import argparse
import platform
import statistics
import sys
from dataclasses import replace

import quant
from bench.accuracy import NETWORKS, ROOT, data_file
from bench.record import check_networks, record
from boards import board
from hw.bitstream import build_bitstream
from hw.fit import fit_program
from ref.data import load_data
from ref.errors import run_command
from ref.run import logits

RESULTS = ROOT / "bench" / "results" / "engine_area.json"
DEFAULT = ("kws", "vww")
CLOCK_MHZ = 87.5
MARGIN = 0.07


def measure(name: str, board_name: str, preset: str, lanes: int | None, accumulator_bits: int,
            seeds: list[int]) -> dict:
    """Build for every seed; an array of ``lanes`` in place of the fitted one."""
    settings = replace(quant.find_preset(preset), accumulator_bits=accumulator_bits)
    model = quant.quantize(NETWORKS[name][0], data_file(name, "calib"), settings)
    test = load_data(data_file(name, "test"))
    right = logits(model, test.x).reshape(len(test), -1).argmax(axis=1) == test.y
    target = replace(board(board_name), clock_mhz=CLOCK_MHZ)
    program = fit_program(model, target, lanes)
    config = program.config
    builds = [build_bitstream(target, config, seeds=(seed,)) for seed in seeds]
    clocks = [round(build.fmax_mhz, 2) for build in builds]
    used = {kind: amount["used"] for kind, amount in builds[0].resources.items()}
    cycles = program.predicted_cycles
    return {
        "network": name, "board": board_name, "preset": preset,
        "accumulator_bits": accumulator_bits,
        "integer": round(100 * float(right.mean()), 2),
        "pixels": config.pixels, "channels": config.channels,
        "requantizers": config.requantizers, "mac_units": config.mac_units,
        "resources": used, "luts_per_mac_unit": round(used["LUT4"] / config.mac_units, 1),
        "cycles": cycles, "mac_utilisation": round(program.macs / (cycles * config.mac_units), 4),
        "seeds": seeds, "mhz_by_seed": clocks,
        "mhz_best": max(clocks), "mhz_median": statistics.median(clocks),
        "latency_ms": round(cycles / (max(clocks) * (1 - MARGIN)) / 1e3, 4),
    }


def main(arguments: list[str]) -> int:
    """Measure and record."""
    parser = argparse.ArgumentParser(prog="python -m bench.engine_area", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(DEFAULT))
    parser.add_argument("--board", default="ulx3s_85f")
    parser.add_argument("--lanes", type=int)
    parser.add_argument("--preset", default="w4a8")
    parser.add_argument("--accumulator-bits", type=int, default=24,
                        help="those of the quantizer, which proves them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    options = parser.parse_args(arguments)
    names = options.names or DEFAULT
    check_networks(names, NETWORKS)
    for name in names:
        entry = measure(name, options.board, options.preset, options.lanes,
                        options.accumulator_bits, options.seeds)
        record(RESULTS, entry, ("network", "board", "preset", "mac_units"),
               python=platform.python_version())
        print(entry)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
