"""Images per second of `ref.run` beside onnxruntime's int8, into bench/results/run_speed.json.

    python -m bench.run_speed [NETWORK ...]

The peer is the same float network after onnxruntime's static quantization (`bench.peer_quantize`),
with two threads; ours are the compiled evaluator with two threads and numpy's, whose BLAS has two.
All take turns on the same 32 test samples in a process of their own; medians of the turns. In its
turn each waits, so that no thread of another still spins, runs once uncounted and once counted. A
ratio of 1 is as fast as the peer.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import onnxruntime

from quant import quantize
from ref.data import load_data
from ref.errors import run_command
from ref.run import run

from .accuracy import NETWORKS, ROOT, data_file
from .record import check_networks, record

RESULTS = ROOT / "bench" / "results" / "run_speed.json"
DEFAULT = ("kws", "imagenet_128", "imagenet_224")
THREADS, SAMPLES, TURNS, PAUSE = 2, 32, 7, 0.2


def measure(network: str) -> dict[str, Any]:
    """Images per second of all, the ratios and this process's peak memory."""
    path, calib = NETWORKS[network][0], data_file(network, "calib")
    model = quantize(path, calib)
    samples = load_data(data_file(network, "test")).head(SAMPLES)
    real = samples.real()
    with tempfile.TemporaryDirectory() as folder:
        peer = Path(folder) / "peer.onnx"
        subprocess.run([sys.executable, "-m", "bench.peer_quantize", path, calib, peer], cwd=ROOT,
                       check=True, stdout=subprocess.DEVNULL)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        session = onnxruntime.InferenceSession(peer, options)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    name = session.get_inputs()[0].name
    runs: dict[str, Callable[[], Any]] = {
        "onnxruntime": lambda: session.run(None, {name: real}),
        "compiled": lambda: run(model, samples.x, "compiled"),
        "numpy": lambda: run(model, samples.x, "numpy")}
    seconds: dict[str, list[float]] = {kind: [] for kind in runs}
    for _ in range(TURNS):
        for kind, once in runs.items():
            time.sleep(PAUSE)
            once()
            start = time.perf_counter()
            once()
            seconds[kind].append(time.perf_counter() - start)
    rates = {kind: SAMPLES / median(taken) for kind, taken in seconds.items()}
    peak = max(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return {"network": network, "threads": THREADS, "batch": SAMPLES,
            "load": round(os.getloadavg()[0], 1),
            **{f"{kind}_per_second": round(rate, 1) for kind, rate in rates.items()},
            **{f"{kind}_ratio": round(rates[kind] / rates["onnxruntime"], 3)
               for kind in ("compiled", "numpy")},
            "peak_mb": round(peak / 1024, 1)}


def main(arguments: list[str]) -> int:
    """Measure and write the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.run_speed", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--here", action="store_true",
                        help="measure in this process, whose threads are as they are, and print")
    options = parser.parse_args(arguments)
    check_networks(options.networks, NETWORKS)
    threads = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    for network in options.networks or DEFAULT:
        if options.here:
            print(json.dumps(measure(network)))
            continue
        output = subprocess.run([sys.executable, "-m", "bench.run_speed", "--here", network],
                                cwd=ROOT, env=os.environ | threads, check=True,
                                stdout=subprocess.PIPE, text=True).stdout
        print(output, end="", flush=True)
        record(RESULTS, json.loads(output), ("network",))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
