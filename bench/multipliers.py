"""Accuracy by the bits of requantization multipliers, into bench/results/multipliers.json.

    python -m bench.multipliers [NETWORK ...]

The preset ``mixed4`` with several widths of multipliers, with linear and AUSN weights too and with
accumulators of 24 bits, on all public test samples. Results of other networks stay in the file.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np

from quant import Settings, find_preset, import_onnx, quantize
from quant.evaluate import evaluate, real_input
from ref.data import load_data
from ref.distance import Distance
from ref.errors import run_command
from ref.model import AveragePool2d, Conv2d, Model
from ref.run import logits

from .accuracy import NETWORKS, ROOT, data_file
from .ausn_curve import paired, percent
from .record import check_networks, record

RESULTS = ROOT / "bench" / "results" / "multipliers.json"
#: What makes two results measurements of the same thing.
KEYS = ("network", "weight_code", "accumulator_bits", "multiplier_bits")
#: Widths of multipliers.
BITS = (1, 2, 3, 4, 5, 15)
#: Weights and widths of accumulators.
CASES = (("mixed", 16), ("mixed", 24), ("linear", 16), ("ausn", 16))
#: Networks measured unless others are named.
MEASURED = ("kws",)


def settings_of(weight_code: str, accumulator_bits: int, multiplier_bits: int) -> Settings:
    """The quantizer's settings of a measurement."""
    return replace(find_preset("mixed4"), weight_code=weight_code,
                   accumulator_bits=accumulator_bits, multiplier_bits=multiplier_bits)


def measure(network: str) -> list[dict[str, Any]]:
    """All measurements of a network; each is printed and recorded as it is made.

    ``gained`` and ``lost`` count the samples that only the integer or only the float network gets
    right, ``changed`` the labels that differ. ``proved_bits`` is the width of the widest sum,
    ``narrowed`` how many channels are coarser to fit; ``shifts`` are those of the network where
    multipliers are powers of two, with how many channels have each.
    """
    calib, test = load_data(data_file(network, "calib")), load_data(data_file(network, "test"))
    imported = import_onnx(NETWORKS[network][0])
    real = evaluate(imported, real_input(imported, test)).reshape(len(test), -1)
    assert test.y is not None
    float_right, results = real.argmax(axis=1) == test.y, []
    for (code, accumulator_bits), bits in product(CASES, BITS):
        model = quantize(imported, calib, settings_of(code, accumulator_bits, bits))
        found = logits(model, test.x)
        right = found.argmax(axis=1) == test.y
        distance = Distance()
        distance.add(real, found * model.output_tensor.scale)
        result = {
            "network": network, "weight_code": code, "accumulator_bits": accumulator_bits,
            "multiplier_bits": bits, "samples": len(test), "float": percent(float_right),
            "integer": percent(right), **paired(right, float_right),
            "changed": int((found.argmax(axis=1) != real.argmax(axis=1)).sum()),
            "snr_db": None if distance.snr_db is None else round(distance.snr_db, 2),
            "proved_bits": max(layer.proof.bits for layer in model.layers
                               if isinstance(layer, Conv2d | AveragePool2d)),
            "narrowed": sum(model.metadata["narrowed_channels"].values()),
            "shifts": shifts(model) if bits == 1 else {}}
        print(json.dumps(result), flush=True)
        record(RESULTS, result, KEYS, numpy=np.__version__)
        results.append(result)
    return results


def shifts(model: Model) -> dict[str, int]:
    """How many channels are shifted by how much, where all multipliers are powers of two."""
    found = np.concatenate([layer.requantization.shift
                            - np.log2(layer.requantization.multiplier).astype(int)
                            for layer in model.layers if isinstance(layer, Conv2d | AveragePool2d)])
    return {str(shift): int(count) for shift, count in zip(*np.unique(found, return_counts=True),
                                                           strict=True)}


def main(arguments: list[str]) -> int:
    """Measure and write the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.multipliers", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    options = parser.parse_args(arguments)
    check_networks(options.networks, NETWORKS)
    for network in options.networks or MEASURED:
        measure(network)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
