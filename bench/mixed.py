"""Mixed precision against one width for all, at equal bytes, into bench/results/mixed.json.

    python -m bench.mixed [NETWORK ...] [--bits N ...]

Each network is quantized with N-bit weights everywhere, and with a budget of N bits on average.
Networks and data are those of `bench.accuracy`; seconds are of this process alone.
"""

from __future__ import annotations

import argparse
import sys
import time

from bench.accumulators import signal_over_noise
from bench.accuracy import NETWORKS, ROOT, data_file
from quant import Settings, import_onnx, quantize, with_settings
from quant.evaluate import evaluate, real_input
from quant.mixed import weight_bytes
from ref.data import load_data
from ref.errors import run_command
from ref.model import Conv2d
from ref.run import logits

from .record import check_networks, record

RESULTS = ROOT / "bench" / "results" / "mixed.json"
MEASURED = ("kws", "vww_relu6", "imagenet_128")
BITS = (3, 4, 5)


def measure(network: str, bits: int) -> dict:
    """Accuracy (percent), signal over noise of the scores and bytes of both models."""
    calib, test = load_data(data_file(network, "calib")), load_data(data_file(network, "test"))
    assert test.y is not None
    imported = import_onnx(NETWORKS[network][0])
    real = evaluate(imported, real_input(imported, test)).reshape(len(test), -1)
    right = real.argmax(axis=1) == test.y
    result = {"network": network, "bits": bits, "samples": len(test),
              "float": round(100 * float(right.mean()), 2)}
    for name, settings in (("uniform", with_settings(Settings(), weight_bits=bits)),
                           ("mixed", Settings(budget=f"{bits}bits"))):
        start = time.process_time()
        model = quantize(imported, calib, settings)
        seconds = time.process_time() - start
        found = logits(model, test.x).reshape(len(test), -1) * model.output_tensor.scale
        still = found.argmax(axis=1) == test.y
        result[name] = {
            "bytes": weight_bytes(model)[0], "accuracy": round(100 * float(still.mean()), 2),
            "gained": int((still & ~right).sum()), "lost": int((right & ~still).sum()),
            "snr_db": round(signal_over_noise(real, found), 2), "seconds": round(seconds, 1),
            "weight_bits": {layer.name: layer.weight_bits for layer in model.layers
                            if isinstance(layer, Conv2d)}}
    return result


def main(arguments: list[str]) -> int:
    """Measure and write the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.mixed", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(MEASURED))
    parser.add_argument("--bits", type=int, nargs="+", default=BITS, metavar="N")
    options = parser.parse_args(arguments)
    check_networks(options.networks, NETWORKS)
    for network in options.networks or MEASURED:
        for bits in options.bits:
            found = measure(network, bits)
            print(network, bits, *(f"{name}: {found[name]['accuracy']} %, "
                                   f"{found[name]['snr_db']} dB, {found[name]['bytes']:.0f} bytes;"
                                   for name in ("uniform", "mixed")), flush=True)
            record(RESULTS, found, ("network", "bits"))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
