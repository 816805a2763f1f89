"""Integers in which independent executors differ from `ref`, into bench/results/exactness.json.

    python -m bench.exactness [NETWORK ...] [--preset NAME]

Every feature map of every public test sample (SkyNet: the first 50) is compared, in the integer
ONNX export run by onnxruntime and by onnx.reference and, convolution by convolution, in
onnxruntime's QLinearConv. Networks and data are those of `bench.accuracy`; results of other
networks stay in the file. Exit code 1 where an integer differs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from quant import quantize
from ref.compare import compare
from ref.data import load_data
from ref.errors import run_command

from .accuracy import NETWORKS, data_file
from .record import check_networks, record

RESULTS = Path(__file__).resolve().parent / "results" / "exactness.json"
#: Samples of networks whose feature maps are large.
SAMPLES = {"skynet": 50}


def measure(network: str, preset: str) -> dict[str, Any]:
    """Samples and differing integers by executor, and the layers QLinearConv cannot express."""
    model = quantize(NETWORKS[network][0], data_file(network, "calib"), preset)
    data = load_data(data_file(network, "test")).head(SAMPLES.get(network))
    start = time.perf_counter()
    result = compare(model, data, reference_samples=len(data))
    return {"network": network, "preset": preset, "samples": result["oracle_samples"],
            "mismatches": result["mismatches"], "skipped": result["skipped"],
            "first_mismatch": result["first_mismatch"],
            "seconds": round(time.perf_counter() - start, 1)}


def main(arguments: list[str]) -> int:
    """Measure and write the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.exactness", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--preset", default="w8a8")
    options = parser.parse_args(arguments)
    check_networks(options.networks, NETWORKS)
    differing = 0
    for network in options.networks or NETWORKS:
        result = measure(network, options.preset)
        print(json.dumps(result), flush=True)
        differing += sum(result["mismatches"].values())
        record(RESULTS, result, ("network", "preset"), numpy=np.__version__,
               onnx=onnx.__version__, onnxruntime=onnxruntime.__version__)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
