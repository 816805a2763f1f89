"""Whole builds of three networks, into bench/results/builds.json.

    python -m bench.builds [NAME ...]

The digits network and the MLPerf Tiny keyword spotter on iCEBreaker, visual wake words on
ULX3S-85F. The last two come from ``../shared/data`` beside the repository. Seconds are of the run
that did the work: what the cache already holds is not made again, but its own seconds are reported.
"""

import argparse
import json
import platform
import sys
from pathlib import Path

from rich.console import Console

from bench.accuracy import NETWORKS, ROOT, data_file
from hw.build import Request, build
from hw.sim import known_board
from ref.atomic import write_atomically
from ref.errors import UserError, run_command

RESULTS = ROOT / "bench" / "results" / "builds.json"
#: Build name: (network of `bench.accuracy`, board, bar in cycles, bar in points of accuracy lost).
BUILDS = {
    "digits": ("digits", "icebreaker", None, 0.5),
    "kws": ("kws", "icebreaker", 1_200_000, 0.5),
    "vww": ("vww", "ulx3s_85f", 1_500_000, None),
}


def measure(name: str, console: Console) -> dict:
    """Build one network and return the report with the bars it was held against."""
    network, board, cycle_bar, accuracy_bar = BUILDS[name]
    report = build(Request(
        network=NETWORKS[network][0], calib=data_file(network, "calib"),
        test=data_file(network, "test"), board=known_board(board), preset="w8a8",
        out=Path(ROOT / "build" / f"{name}-{board}")), console)
    lost = report["accuracy"]["float"] - report["accuracy"]["integer"]
    report["bars"] = {
        "timing": report["timing_met"], "bit_exact": report["sim"]["mismatches"] == 0,
        "cycles": cycle_bar is None or report["cycles_per_inference"] <= cycle_bar,
        "accuracy": accuracy_bar is None or lost <= accuracy_bar,
    }
    report["bitstream"] = Path(report["bitstream"]).name     # without this machine's folders
    return {key: value for key, value in report.items() if key != "critical_path"}


def main(arguments: list[str]) -> int:
    """Measure and write the results; exit code 1 when a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.builds", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BUILDS))
    options = parser.parse_args(arguments)
    unknown = set(options.names) - set(BUILDS)
    if unknown:
        raise UserError(f"unknown build {min(unknown)!r}; choose among {', '.join(BUILDS)}")
    results = json.loads(RESULTS.read_text())["builds"] if RESULTS.exists() else {}
    for name in options.names or BUILDS:
        results[name] = measure(name, Console())
        text = json.dumps({"python": platform.python_version(), "builds": results}, indent=1)
        write_atomically(RESULTS, (text + "\n").encode())
    return 0 if all(all(result["bars"].values()) for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(run_command(main))
