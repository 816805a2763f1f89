"""Whole builds of networks, into bench/results/builds.json.

    python -m bench.builds [NAME ...]

The digits network and the MLPerf Tiny keyword spotter on iCEBreaker, the latter on lanes of both
kinds, too; visual wake words with weights of four bits on ULX3S-85F. All but the first come from
``../shared/data`` beside the repository. Seconds are of the run that did the work: what the cache
already holds is not made again, but its own seconds are reported.
"""

import argparse
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bench.accuracy import NETWORKS, ROOT, data_file
from hw.build import Request, build, clocked
from hw.sim import known_board
from ref.atomic import write_atomically
from ref.errors import UserError, run_command

RESULTS = ROOT / "bench" / "results" / "builds.json"


@dataclass(frozen=True)
class Build:
    """What to build, and the bars it is held against."""

    network: str                    # of `bench.accuracy`
    board: str
    preset: str
    cycles: int | None              # at most
    lost: float | None              # points of accuracy, at most
    clock_mhz: float | None = None  # other than the board's usual


BUILDS = {
    "digits": Build("digits", "icebreaker", "w8a8", None, 0.5),
    "kws": Build("kws", "icebreaker", "w8a8", 207_600, 0.5),
    "kws_mixed4": Build("kws", "icebreaker", "mixed4", 98_000, 1.7, clock_mhz=36),
    "vww": Build("vww", "ulx3s_85f", "w4a8", None, 1),
}


def measure(name: str, console: Console) -> dict:
    """Build one network and return the report with the bars it was held against."""
    wanted = BUILDS[name]
    board = known_board(wanted.board)
    if wanted.clock_mhz is not None:
        board = clocked(board, wanted.clock_mhz)
    report = build(Request(
        network=NETWORKS[wanted.network][0], calib=data_file(wanted.network, "calib"),
        test=data_file(wanted.network, "test"), board=board,
        preset=wanted.preset, out=Path(ROOT / "build" / f"{name}-{wanted.board}"), lanes=None),
        console)
    lost = report["accuracy"]["float"] - report["accuracy"]["integer"]
    report["bars"] = {
        "timing": report["timing_met"], "bit_exact": report["sim"]["mismatches"] == 0,
        "cycles": wanted.cycles is None or report["cycles_per_inference"] <= wanted.cycles,
        "accuracy": wanted.lost is None or lost <= wanted.lost,
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
    results: dict[str, dict] = {}
    for name in options.names or BUILDS:
        report = measure(name, Console())
        results = json.loads(RESULTS.read_text())["builds"] if RESULTS.exists() else {}
        results[name] = report
        text = json.dumps({"python": platform.python_version(), "builds": results}, indent=1)
        write_atomically(RESULTS, (text + "\n").encode())
    return 0 if all(all(result["bars"].values()) for result in results.values()) else 1


if __name__ == "__main__":
    sys.exit(run_command(main))
