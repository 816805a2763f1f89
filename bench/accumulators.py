"""What accumulators of 16 bits cost, into bench/results/accumulators.json.

    python -m bench.accumulators [NETWORK ...]

Each network is quantized with 24-bit accumulators and with 16-bit ones, wider where that cannot be.
"Fitting" are the layers whose sums need no more than 16 bits as they are; the others' channels that
do not fit got coarser weights. Networks and data are those of `bench.accuracy`.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from bench.accuracy import NETWORKS, ROOT, data_file
from quant import find_preset, import_onnx, quantize, with_settings
from quant.evaluate import evaluate, real_input
from ref.data import load_data
from ref.errors import run_command
from ref.model import AveragePool2d, Conv2d
from ref.run import logits

from .record import check_networks, record

RESULTS = ROOT / "bench" / "results" / "accumulators.json"
MEASURED = ("kws", "vww_relu6", "imagenet_128")
PRESETS = ("w8a8", "w4a8", "w4a4")
BITS = 16


def signal_over_noise(real: np.ndarray, found: np.ndarray) -> float:
    """Power of ``real`` over that of its difference from ``found``, in dB."""
    return 10 * float(np.log10((real ** 2).sum() / ((real - found) ** 2).sum()))


def measure(network: str, preset: str) -> dict:
    """Both models' accuracy (percent) and signal over noise of the scores, and the layers' bits."""
    path = NETWORKS[network][0]
    calib, test = load_data(data_file(network, "calib")), load_data(data_file(network, "test"))
    assert test.y is not None
    imported = import_onnx(path)
    real = evaluate(imported, real_input(imported, test)).reshape(len(test), -1)
    right = real.argmax(axis=1) == test.y
    result = {"network": network, "preset": preset, "samples": len(test),
              "float": round(100 * float(right.mean()), 2)}
    for bits in (24, BITS):
        settings = with_settings(find_preset(preset), accumulator_bits=bits,
                                 wider_accumulators=bits == BITS)
        model = quantize(imported, calib, settings)
        found = logits(model, test.x).reshape(len(test), -1) * model.output_tensor.scale
        still = found.argmax(axis=1) == test.y
        result[f"{bits} bits"] = {
            "rounding": settings.rounding, "accuracy": round(100 * float(still.mean()), 2),
            "gained": int((still & ~right).sum()), "lost": int((right & ~still).sum()),
            "snr_db": round(signal_over_noise(real, found), 2),
            "layers": {layer.name: layer.proof.bits for layer in model.layers
                       if isinstance(layer, Conv2d | AveragePool2d)},
            "narrowed_channels": model.metadata["narrowed_channels"],
            "wider_accumulators": model.metadata["wider_accumulators"]}
    layers = result["24 bits"]["layers"]
    result["fitting"] = [name for name, needed in layers.items() if needed <= BITS]
    return result


def main(arguments: list[str]) -> int:
    """Measure and write the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.accumulators", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(MEASURED))
    options = parser.parse_args(arguments)
    check_networks(options.networks, NETWORKS)
    for network in options.networks or MEASURED:
        for preset in PRESETS:
            found = measure(network, preset)
            print(network, preset, *(f"{bits}: {found[bits]['accuracy']} %, "
                                     f"{found[bits]['snr_db']} dB;" for bits in
                                     ("24 bits", "16 bits")),
                  f"{len(found['fitting'])} of {len(found['16 bits']['layers'])} layers fit as "
                  "they are", flush=True)
            record(RESULTS, found, ("network", "preset"))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
