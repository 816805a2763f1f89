"""Time and memory of a quantization beside onnxruntime's, into bench/results/quantize_speed.json.

    python -m bench.quantize_speed [NETWORK ...] [--preset NAME ...]

Each program runs once in a process of its own, one after the other, with the same calibration
samples: ours from the network's file to the integer model's, and `bench.peer_quantize`. Ratios
below 1 say that ours needs less. CPU seconds tell what waiting for other programs, of which
``load`` were running before, hides in the seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.accuracy import NETWORKS, ROOT, data_file
from ref.errors import UserError, run_command

from .record import check_networks, record

RESULTS = ROOT / "bench" / "results" / "quantize_speed.json"
#: What is measured of a program, in seconds and MB.
MEASURES = ("seconds", "cpu_seconds", "peak_mb")


def measure(command: list[str]) -> dict[str, float]:
    """Run a program: `MEASURES` of it. Raises `UserError` when it fails."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"python {' '.join(command)} failed; run it to see why")
    values = time.perf_counter() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024
    return {name: round(value, 2) for name, value in zip(MEASURES, values, strict=True)}


def compare(network: str, preset: str) -> dict[str, object]:
    """Our measures, the peer's, and their ratios."""
    path, calib = str(NETWORKS[network][0]), str(data_file(network, "calib"))
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        ours = measure(["-m", "quant", "quantize", path, "--calib", calib, "--preset", preset,
                        "-o", str(Path(folder) / "net.q.npz")])
        peer = measure(["-m", "bench.peer_quantize", path, calib, str(Path(folder) / "peer.onnx")])
    return {"network": network, "preset": preset, "cores": len(os.sched_getaffinity(0)),
            "load": round(load, 1), "ours": ours, "onnxruntime": peer,
            "ratio": {name: round(ours[name] / peer[name], 2) for name in MEASURES}}


def main(arguments: list[str]) -> int:
    """Measure and write the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.quantize_speed", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--preset", nargs="+", default=["w8a8", "w6a8", "w4a8"])
    options = parser.parse_args(arguments)
    check_networks(options.networks, NETWORKS)
    for network in options.networks or ["imagenet_224"]:
        for preset in options.preset:
            entry = compare(network, preset)
            print(json.dumps(entry), flush=True)
            record(RESULTS, entry, ("network", "preset"))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
