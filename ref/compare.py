"""Comparing a quantized model with its oracles and with the float network it was made from."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import check_output, write_atomically
from .data import Data, check_data, load_data
from .distance import Distance
from .errors import run_command
from .file import load_model
from .metrics import Metric, find_metric, in_top
from .model import Model
from .onnx_integer import integer_onnx, rounded_input
from .oracles import Runner, float_runner, float_values, integer_runner
from .run import run_layers

#: Samples held at once; every feature map of a batch is in memory.
BATCH = 32

#: Classes among which the label counts as found, in the second measure of class scores.
TOP = 5

#: Samples each oracle is given at most (None: all); onnx.reference is slow.
ORACLES: dict[str, int | None] = {"onnxruntime": None, "reference": 4}


def compare(model: Model, data: Data, float_path: str | Path | None = None,
            samples: int | None = None) -> dict[str, Any]:
    """Run ``model`` and its oracles on ``data`` and measure its distance from the float network.

    The result holds JSON values only:

    - ``samples``: how many were run (the first ``samples`` of the data, default all);
    - ``metric``: ``"top-1"`` (percent) or, for boxes, ``"mean IoU"`` (0..1); ``float`` and
      ``integer``: its values, null without labels that fit the network's result or (``float``)
      without ``float_path``; of equal scores the first wins;
    - ``top_5``: null, or for more than five classes ``float`` and ``integer`` likewise;
    - ``mismatches``: oracle name to the number of integers, over all feature maps, that differ from
      ``ref.run``; ``oracle_samples``: how many samples each oracle ran;
    - ``first_mismatch``: null, or a sentence naming oracle, layer, sample and position;
    - ``layers``: per layer whose output the float network computes under the same name ``name``,
      ``snr_db`` (null where it is not finite), ``cosine`` (null for a zero map) and ``max_error``
      (real units) over all samples.

    Raises `UserError` when the data do not fit the model or the float network does not run.
    """
    check_data(data, model)
    data = data.head(samples).reshaped(model.input.shape)
    differ = _Differences(model)
    float_output, float_names = float_values(float_path) if float_path is not None else ("", set())
    errors = {layer.output: Distance() for layer in model.layers if layer.output in float_names}
    run_float = None
    if float_path is not None:
        run_float = float_runner(float_path, dict.fromkeys([*errors, float_output]))
    metric = find_metric(data, model)
    values: dict[str, list[np.ndarray]] = {"float": [], "integer": []}
    shape = model.output_tensor.shape
    classes = metric is not None and metric.name == "top-1" and shape[0] > TOP
    top: dict[str, list[np.ndarray]] = {"float": [], "integer": []}
    for start in range(0, len(data), BATCH):
        part = Data(data.x[start:start + BATCH], None, data.x_scale, data.x_zero_point)
        maps = run_layers(model, part.x)
        for executor, limit in ORACLES.items():
            count = len(part) if limit is None else min(len(part), max(0, limit - start))
            if count:
                differ.add(executor, part.x[:count], maps, start)
        scores = {"integer": maps[model.output_tensor.name] * _column(model.output_tensor.scale)}
        if run_float is not None:
            real = run_float(part.real())
            scores["float"] = real[float_output].reshape(-1, *shape)
            for name, error in errors.items():
                error.add(real[name], maps[name] * _column(model.tensors[name].scale), name)
        if metric is not None:
            labels = metric.labels[start:start + BATCH]
            for kind, score in scores.items():
                values[kind].append(metric.values(metric.answers(score), labels))
                if classes:
                    top[kind].append(in_top(score, labels, TOP))
    return {
        "samples": len(data),
        "metric": metric.name if metric is not None else "top-1",
        **{kind: _mean(found, metric) for kind, found in values.items()},
        "top_5": {kind: _mean(found, metric) for kind, found in top.items()} if classes else None,
        "mismatches": differ.mismatches,
        "oracle_samples": differ.samples,
        "first_mismatch": differ.first,
        "layers": [{"name": name} | error.measures() for name, error in errors.items()],
    }


def print_comparison(result: dict[str, Any]) -> None:
    """Print a result of `compare` as tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table("network", f"{result['metric']} on {result['samples']} samples")
    for kind in ("float", "integer"):
        value = result[kind]
        table.add_row(kind, _shown(value, result["metric"]))
    for kind, value in (result["top_5"] or {}).items():
        table.add_row(f"{kind}, top-5", _shown(value, "top-5"))
    console.print(table)
    table = Table("oracle", "samples", "differing integers")
    for name, count in result["mismatches"].items():
        table.add_row(name, str(result["oracle_samples"][name]), str(count))
    console.print(table)
    if result["layers"]:
        table = Table("layer", "SNR (dB)", "cosine", "largest error")
        for layer in result["layers"]:
            table.add_row(layer["name"], *(_number(layer[key]) for key in
                                           ("snr_db", "cosine", "max_error")))
        console.print(table)


class _Differences:
    """Counts integers in which the oracles differ from ``ref.run``."""

    def __init__(self, model: Model) -> None:
        """Load the model into every oracle."""
        proto = integer_onnx(model)
        self.names = {name: name for name in model.tensors}
        self.names[model.input.tensor] = rounded_input(model)
        self.runners: dict[str, Runner] = {
            executor: integer_runner(proto, executor, self.names.values())
            for executor in ORACLES}
        self.mismatches: dict[str, int] = {}
        self.samples: dict[str, int] = {}
        self.first: str | None = None

    def add(self, executor: str, x: np.ndarray, maps: dict[str, np.ndarray], start: int) -> None:
        """Run an oracle on ``x``, the samples from ``start``, and compare all feature maps."""
        oracle = f"integer-onnx/{executor}"
        values = self.runners[executor](x)
        self.samples[oracle] = self.samples.get(oracle, 0) + len(x)
        self.mismatches.setdefault(oracle, 0)
        for name, expected in maps.items():
            given = values[self.names[name]].reshape(len(x), *expected.shape[1:])
            wrong = np.argwhere(given != expected[:len(x)])
            self.mismatches[oracle] += len(wrong)
            if len(wrong) and self.first is None:
                place = tuple(map(int, wrong[0]))
                self.first = (f"{oracle} differs first in {name!r}, sample {start + place[0]}, "
                              f"channel {place[1]}, row {place[2]}, column {place[3]}: "
                              f"{int(given[place])} instead of {int(expected[place])}")


def _mean(values: list[np.ndarray], metric: Metric | None) -> float | None:
    """The metric of the values of all batches, or None where there are none."""
    if metric is None or not values:
        return None
    return metric.whole * float(np.concatenate(values).mean())


def _shown(value: float | None, metric: str) -> str:
    """A value of a metric as text."""
    if value is None:
        return "not measured"
    return f"{value:.4f}" if metric == "mean IoU" else f"{value:.2f} %"


def _column(scale: np.ndarray) -> np.ndarray:
    """A scale () or (C,) shaped to multiply (N, C, H, W)."""
    return scale.reshape(-1, 1, 1)


def _number(value: float | None) -> str:
    """A table cell."""
    return "-" if value is None else f"{value:.4g}"


def main(arguments: list[str]) -> int:
    """The command line; gives 1 when an oracle differs, else 0."""
    parser = argparse.ArgumentParser(prog="python -m ref.compare", description=__doc__)
    parser.add_argument("model", metavar="NET.q.npz", help="the quantized model")
    parser.add_argument("--float", metavar="NET.onnx", dest="float_path",
                        help="the float network it was made from")
    parser.add_argument("--data", metavar="TEST.npz", required=True, help="labelled samples")
    parser.add_argument("--samples", type=int, help="use only the first SAMPLES (default: all)")
    parser.add_argument("--json", metavar="FILE", help="write the result here as well")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    if options.json is not None:
        check_output(options.json)
    model = load_model(options.model)
    result = compare(model, load_data(options.data), options.float_path, options.samples)
    if options.json is not None:
        write_atomically(options.json, (json.dumps(result, indent=2) + "\n").encode())
    print_comparison(result)
    if result["first_mismatch"] is not None:
        print(result["first_mismatch"], file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
