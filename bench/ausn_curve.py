"""AUSN against linear integers: bits against accuracy and noise, into bench/results/ausn.json.

    python -m bench.ausn_curve [NETWORK ...] [--what weights|activations] [--plot-only]

Weights of 3 to 8 bits with a step per output channel and per layer, then activations of 3 to 7 bits
beside 8-bit weights, all else equal and as the presets have it, on all public test samples.
Results of other networks stay in the file; docs/ausn.svg is drawn from it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from typing import Any

import numpy as np

from quant import Settings, import_onnx, quantize, with_settings
from quant.evaluate import evaluate, real_input
from ref.atomic import write_atomically
from ref.data import load_data
from ref.distance import Distance
from ref.errors import run_command
from ref.model import Model
from ref.run import logits

from .accuracy import NETWORKS, ROOT, data_file
from .ausn_plot import draw
from .record import check_networks

RESULTS = ROOT / "bench" / "results" / "ausn.json"
PLOT = ROOT / "docs" / "ausn.svg"

#: What is coded.
KINDS = ("weights", "activations")
#: A measurement: what is coded, in which code, its bits, and the weight scale.
Point = tuple[str, str, int, str]

_WEIGHTS: list[Point] = [("weights", code, bits, scale) for scale in ("channel", "tensor")
                         for bits in range(3, 9) for code in ("linear", "ausn")]
_ACTIVATIONS: list[Point] = [("activations", code, bits, "channel") for bits in range(3, 8)
                             for code in ("linear", "ausn")]
#: The measurements of each network; linear ones of as few bits come before those compared with.
POINTS: dict[str, list[Point]] = {
    "kws": _WEIGHTS + _ACTIVATIONS, "imagenet_128": _WEIGHTS + _ACTIVATIONS,
    "imagenet_224": [("weights", "linear", 4, "channel"), ("weights", "linear", 5, "channel"),
                     ("weights", "ausn", 5, "channel")]}


def settings_of(point: Point) -> Settings:
    """The quantizer's settings of a measurement."""
    what, code, bits, scale = point
    if what == "activations":
        return Settings(activation_bits=bits, activation_code=code)
    return with_settings(Settings(), weight_bits=bits, weight_code=code, weight_scale=scale)


def measure(network: str, kinds: tuple[str, ...] = KINDS) -> list[dict[str, Any]]:
    """The measurements of a network of these kinds; each is printed as it is made.

    ``gained`` and ``lost`` count the samples that only the integer or only the float network gets
    right; ``against`` the same for AUSN over linear integers of as many bits or of one less.
    """
    calib, test = load_data(data_file(network, "calib")), load_data(data_file(network, "test"))
    imported = import_onnx(NETWORKS[network][0])
    real = evaluate(imported, real_input(imported, test)).reshape(len(test), -1)
    assert test.y is not None
    float_right, results = real.argmax(axis=1) == test.y, []
    right: dict[Point, np.ndarray] = {}
    for point in (one for one in POINTS[network] if one[0] in kinds):
        what, code, bits, scale = point
        model = quantize(imported, calib, settings_of(point))
        found = logits(model, test.x)
        right[point] = found.argmax(axis=1) == test.y
        distance = Distance()
        distance.add(real, found * model.output_tensor.scale)
        others = {fewer: right.get((what, "linear", fewer, scale)) for fewer in (bits - 1, bits)
                  if code == "ausn"}
        result = {
            "network": network, "what": what, "code": code, "bits": bits, "weight_scale": scale,
            "samples": len(test), "float": percent(float_right), "integer": percent(right[point]),
            **paired(right[point], float_right),
            "changed": int((found.argmax(axis=1) != real.argmax(axis=1)).sum()),
            "snr_db": None if distance.snr_db is None else round(distance.snr_db, 2),
            "splits": splits(model, what), **mean_errors(model),
            "against": {f"linear {fewer}": paired(right[point], other)
                        for fewer, other in others.items() if other is not None}}
        print(json.dumps(result), flush=True)
        results.append(result)
    return results


def percent(right: np.ndarray) -> float:
    """Share of True, in percent."""
    return round(100 * float(right.mean()), 2)


def paired(right: np.ndarray, other: np.ndarray) -> dict[str, int]:
    """How many samples only the one and only the other gets right."""
    return {"gained": int((right & ~other).sum()), "lost": int((other & ~right).sum())}


def splits(model: Model, what: str) -> dict[str, int]:
    """How many layers took each split, exponent + superposition bits."""
    rules = (layer if what == "weights" else getattr(layer, "requantization", layer)
             for layer in model.layers)
    codes = (getattr(rule, "weight_code" if what == "weights" else "code", None) for rule in rules)
    return dict(sorted(Counter(f"{code.exponent}+{code.superposition}" for code in codes
                               if code is not None).items()))


def mean_errors(model: Model) -> dict[str, float]:
    """Clipping and rounding error of the weights, relative to their squares, mean over layers."""
    errors = model.metadata["weight_errors"].values()
    return {kind: float(f"{np.mean([error[kind] for error in errors]):.3g}")
            for kind in ("clipping", "rounding")}


def main(arguments: list[str]) -> int:
    """Measure, write the results and draw them; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.ausn_curve", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(POINTS))
    parser.add_argument("--what", choices=KINDS, help="only these (default: both)")
    parser.add_argument("--plot-only", action="store_true", help="draw the stored results")
    options = parser.parse_args(arguments)
    check_networks(options.networks, POINTS)
    for network in [] if options.plot_only else options.networks or POINTS:
        kinds = (options.what,) if options.what else KINDS
        measured = measure(network, kinds)
        stored = json.loads(RESULTS.read_text())["results"] if RESULTS.exists() else []
        content = {"numpy": np.__version__, "results": [
            *(old for old in stored if old["network"] != network or old["what"] not in kinds),
            *measured]}
        write_atomically(RESULTS, (json.dumps(content, indent=1) + "\n").encode())
    write_atomically(PLOT, draw(json.loads(RESULTS.read_text())["results"]).encode())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
