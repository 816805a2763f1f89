"""How well forms of uniformity predict quantization error, into bench/results/uniformity.json.

    python -m bench.uniformity [NETWORK ...]

For every activation and weight tensor of the networks: the relative squared error of integers with
one scale per tensor, on the first 64 calibration samples, and candidate forms of TAIT's value-range
uniformity. All but the last form look only at the channels' largest magnitudes. The error is taken
times the squared number of steps from 0 to the largest integer, since tensors with negative values
have half as many. Correlations are Pearson's of the logarithms and Spearman's of the ranks; -1 is a
perfect predictor. The scale is that of the largest value ("max") or the one that `quant.ranges`
finds and, for weights, the one of least squared error ("mse").
``--plot`` draws docs/uniformity.svg from the results file instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from quant import FloatNetwork, calibrate, import_onnx
from quant.charts import MINUS, Scatter, power_axis
from quant.evaluate import batches, evaluate_tensors, real_input
from quant.graph import FloatConv
from quant.ranges import CANDIDATES, tensor_range
from quant.transfer import reach
from ref.atomic import write_atomically
from ref.data import Data, load_data
from ref.errors import run_command

from .accuracy import NETWORKS, ROOT, data_file
from .record import check_networks

RESULTS = ROOT / "bench" / "results" / "uniformity.json"
FIGURE = ROOT / "docs" / "uniformity.svg"
MEASURED = ("kws", "vww", "vww_relu6", "imagenet_128", "imagenet_224")
SAMPLES = 64
BITS = (8, 4)
METHODS = ("max", "mse")
#: No channel's maximum counts as less than this share of the largest, for the logarithms.
SMALLEST = 1e-4

#: Forms, 0..1, of the channels' largest magnitudes r, relative to the largest of them, and of
#: their mean squares p in the same unit squared.
FORMS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "mean of maxima": lambda r, p: r.mean(),
    "geometric mean of maxima": lambda r, p: np.exp(np.log(r).mean()),
    "harmonic mean of maxima": lambda r, p: 1 / (1 / r).mean(),
    "median of maxima": lambda r, p: np.median(r),
    "smallest of maxima": lambda r, p: r.min(),
    "root mean square of maxima": lambda r, p: np.sqrt((r ** 2).mean()),
    "root mean square of values": lambda r, p: np.sqrt(p.mean()),
}
#: The form that `quant.balance.uniformity` is.
CHOSEN = "root mean square of values"
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #5c646c; } .power { font-size: 9px; }
.grid { stroke: #8885; } .weights { fill: #35748f; fill-opacity: .8; }
.activations { fill: #c1762b; fill-opacity: .8; }
@media (prefers-color-scheme: dark) { text { fill: #a0a8b0; } .weights { fill: #5da3c0; }
.activations { fill: #dd9a55; } }
</style>"""


def forms(largest: np.ndarray, square: np.ndarray) -> dict[str, float]:
    """Every form for a tensor's largest magnitudes and mean squares per channel, (C,) each."""
    whole = largest.max()
    relative = np.maximum(largest / whole, SMALLEST)
    return {name: float(f"{form(relative, square / whole ** 2):.4g}")
            for name, form in FORMS.items()}


def weights(network: FloatNetwork) -> Iterator[tuple[str, np.ndarray, dict[str, float]]]:
    """Name, values and ranges by ``bits method`` of every weight tensor."""
    for layer in network.layers:
        if isinstance(layer, FloatConv):
            largest = float(np.abs(layer.weight).max())
            ranges = {}
            for bits in BITS:
                ranges[f"{bits} max"] = largest
                steps = (1 << (bits - 1)) - 1
                ranges[f"{bits} mse"] = min(largest * CANDIDATES, key=lambda limit, steps=steps,
                                            weight=layer.weight: noise(weight, limit, steps, True))
            yield layer.name, layer.weight, ranges


def noise(values: np.ndarray, limit: float, steps: int, signed: bool) -> float:
    """Summed squared error of ``values`` as integers up to ``steps``, which stands for ``limit``.
    """
    step = limit / steps
    error = np.clip(np.rint(values / step), -steps if signed else 0, steps) * step - values
    return float((error ** 2).sum(dtype=np.float64))


def measure(network: str) -> list[dict[str, Any]]:
    """Forms and errors of all tensors of one network, but those of zeros."""
    imported = import_onnx(NETWORKS[network][0])
    data = load_data(data_file(network, "calib")).head(SAMPLES)
    found = []
    for name, weight, ranges in weights(imported):
        largest = np.abs(weight).max(axis=(1, 2, 3))
        square = float((weight ** 2).sum())
        found.append({
            "network": network, "kind": "weights", "name": name,
            "forms": forms(largest, (weight ** 2).mean(axis=(1, 2, 3))),
            "errors": {key: relative(noise(weight, limit, steps(key, True), True), square,
                                     steps(key, True)) for key, limit in ranges.items()}})
    return found + activations(network, imported, data)


def activations(name: str, network: FloatNetwork, data: Data) -> list[dict[str, Any]]:
    """Forms and errors of a network's activations."""
    calibration, real = calibrate(network, data), real_input(network, data)
    tensors = {tensor: (statistics, bool(statistics.lo.min() < 0))
               for tensor, statistics in calibration.tensors.items() if reach(statistics).max() > 0}
    ranges = {(tensor, f"{bits} {method}"): tensor_range(statistics, method,
                                                         steps(f"{bits}", signed))
              for tensor, (statistics, signed) in tensors.items()
              for bits in BITS for method in METHODS}
    sums = dict.fromkeys(ranges, 0.0)
    power = dict.fromkeys(tensors, 0.0)
    for start, stop in batches(network, len(real)):
        for tensor, value in evaluate_tensors(network, real[start:stop]):
            if tensor in tensors:
                signed = tensors[tensor][1]
                power[tensor] += float((value ** 2).sum(dtype=np.float64))
                for key in (f"{bits} {method}" for bits in BITS for method in METHODS):
                    sums[tensor, key] += noise(value, ranges[tensor, key], steps(key, signed),
                                               signed)
    return [{"network": name, "kind": "activations", "name": tensor,
             "forms": forms(reach(statistics), statistics.square),
             "errors": {key: relative(error, power[tensor], steps(key, signed))
                        for (other, key), error in sums.items() if other == tensor}}
            for tensor, (statistics, signed) in tensors.items()]


def steps(key: str, signed: bool) -> int:
    """The largest integer of so many bits; ``key`` begins with them."""
    return (1 << (int(key.split()[0]) - int(signed))) - 1


def relative(error: float, power: float, steps: int) -> float:
    """Error over power, times the squared number of steps."""
    return float(f"{error / power * steps ** 2:.4g}")


def correlations(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every form with every error: over all networks by kind of tensor, and of each network."""
    groups = [(kind, None) for kind in (None, "activations", "weights")]
    groups += [(None, network) for network in dict.fromkeys(one["network"] for one in tensors)]
    result = []
    for kind, network in groups:
        chosen = [one for one in tensors if kind in (None, one["kind"])
                  and network in (None, one["network"])]
        for key in chosen[0]["errors"]:
            errors = np.array([one["errors"][key] for one in chosen])
            for form in FORMS:
                values = np.array([one["forms"][form] for one in chosen])
                result.append({
                    "tensors": kind or "all", "network": network or "all", "count": len(chosen),
                    "bits": int(key.split()[0]), "range": key.split()[1], "form": form,
                    "pearson": correlation(np.log(values), np.log(errors)),
                    "spearman": correlation(ranks(values), ranks(errors))})
    return result


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's."""
    return round(float(np.corrcoef(one, other)[0, 1]), 3)


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value; equal ones share theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - counts / 2)[inverse]


def as_text(tensors: list[dict[str, Any]], found: list[dict[str, Any]]) -> str:
    """The results file: one line per correlation and per tensor, whose numbers are in one order."""
    keys = list(tensors[0]["errors"])
    rows = [[one["network"], one["kind"], one["name"], list(one["forms"].values()),
             [one["errors"][key] for key in keys]] for one in tensors]
    header = {"samples": SAMPLES, "forms": list(FORMS), "errors": keys}
    parts = [f' "{name}": {json.dumps(value)}' for name, value in header.items()]
    parts += [f' "{name}": [\n' + ",\n".join(f"  {json.dumps(line)}" for line in lines) + "\n ]"
              for name, lines in (("correlations", found), ("tensors", rows))]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def draw(stored: dict[str, Any]) -> str:
    """The figure: relative error over uniformity of all tensors at 8 bits, of least error."""
    form, error = stored["forms"].index(CHOSEN), stored["errors"].index("8 mse")
    points = [(kind, numbers[form], errors[error] / (255 if kind == "activations" else 127) ** 2)
              for _, kind, _, numbers, errors in stored["tensors"]]
    chart = Scatter(power_axis([value for _, value, _ in points], "uniformity: root mean square "
                               "over largest magnitude"),
                    power_axis([value for _, _, value in points], "relative squared error"),
                    "Relative squared error of 8-bit integers over uniformity")
    for kind, value, relative_error in points:
        chart.drawing.dot(chart.x(value), chart.y(relative_error), kind, 4.5)
    pearson = {one["tensors"]: one["pearson"] for one in stored["correlations"]
               if one["network"] == "all" and (one["bits"], one["range"]) == (8, "mse")
               and one["form"] == CHOSEN}
    for row, (kind, title) in enumerate((("activations", "activations"), ("weights", "weights"))):
        count = sum(one == kind for one, *_ in points)
        chart.drawing.dot(700, 30 + 22 * row, kind, 4.5)
        chart.drawing.text(712, 34 + 22 * row, f"{count} {title}, correlation "
                           f"{pearson[kind]:.2f}".replace("-", MINUS), "start")
    return str(chart.svg()).replace(">", f' xmlns="http://www.w3.org/2000/svg">{STYLE}', 1)


def main(arguments: list[str]) -> int:
    """Measure and write the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.uniformity", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(MEASURED))
    parser.add_argument("--plot", action="store_true", help="draw the stored results")
    options = parser.parse_args(arguments)
    if options.plot:
        write_atomically(FIGURE, (draw(json.loads(RESULTS.read_text())) + "\n").encode())
        return 0
    check_networks(options.networks, NETWORKS)
    tensors = []
    for network in options.networks or MEASURED:
        tensors += measure(network)
        print(f"{network}: {len(tensors)} tensors", flush=True)
    found = correlations(tensors)
    write_atomically(RESULTS, as_text(tensors, found).encode())
    for one in found:
        if one["network"] == "all" and one["range"] == "mse":
            print(f"{one['tensors']:12s} {one['bits']} bits  {one['form']:28s} "
                  f"Pearson {one['pearson']:.3f}  Spearman {one['spearman']:.3f}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
