"""The calibration methods compared on real networks, into bench/results/calibration.json.

    python -m bench.calibration [NETWORK ...]

Each method finds the activations' ranges for 8 and for 4 bits, beside 8-bit weights. On the first
test samples: signal over noise of the result against the float network's, in dB, and accuracy.
Results of other networks stay in the file.
"""

from __future__ import annotations

import argparse
import json
import math
import sys

import numpy as np

from quant import find_preset, import_onnx, quantize, with_settings
from quant.calibrate import METHODS
from quant.evaluate import evaluate, real_input
from ref.atomic import write_atomically
from ref.data import load_data
from ref.errors import run_command
from ref.metrics import find_metric
from ref.run import run

from .accuracy import NETWORKS, ROOT, data_file
from .record import check_networks

RESULTS = ROOT / "bench" / "results" / "calibration.json"
BITS = (8, 4)
#: Test samples of a network, and calibration samples of the large ones (None: all).
SAMPLES: dict[str, tuple[int, int | None]] = {
    "kws_arm_l": (200, 100), "imagenet_224": (60, 32), "skynet": (24, None)}
FEW_SAMPLES = (400, None)


def measure(network: str) -> dict[str, dict[str, dict[str, float]]]:
    """By bits and method: ``snr_db``, ``accuracy`` and ``float``, that of the float network."""
    tested, calibrated = SAMPLES.get(network, FEW_SAMPLES)
    calib = load_data(data_file(network, "calib")).head(calibrated)
    test = load_data(data_file(network, "test")).head(tested)
    imported = import_onnx(NETWORKS[network][0])
    expected = evaluate(imported, real_input(imported, test))
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for bits in BITS:
        for method in METHODS:
            settings = with_settings(find_preset("w8a8"), activation_bits=bits, calibration=method)
            model = quantize(imported, calib, settings)
            found = run(model, test.x) * model.output_tensor.scale.reshape(-1, 1, 1)
            metric = find_metric(test, model)
            assert metric is not None
            noise = float(((found - expected) ** 2).sum())
            row = {"snr_db": round(10 * math.log10(float((expected ** 2).sum()) / noise), 2)}
            for name, result in (("accuracy", found), ("float", expected)):
                values = metric.values(metric.answers(result), metric.labels)
                row[name] = round(metric.whole * float(values.mean()), 4)
            rows.setdefault(str(bits), {})[method] = row
            print(network, bits, method, row, flush=True)
    return rows


def main(arguments: list[str]) -> int:
    """Measure and write the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.calibration", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    options = parser.parse_args(arguments)
    check_networks(options.networks, NETWORKS)
    for network in options.networks or NETWORKS:
        stored = json.loads(RESULTS.read_text())["networks"] if RESULTS.exists() else {}
        tested, calibrated = SAMPLES.get(network, FEW_SAMPLES)
        stored[network] = {"samples": tested, "calibration_samples": calibrated,
                           "activation_bits": measure(network)}
        write_atomically(RESULTS, (json.dumps({"numpy": np.__version__, "networks": stored},
                                              indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
