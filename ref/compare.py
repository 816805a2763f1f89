"""Comparing a quantized model with its oracles and with the float network it was made from."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import check_folder, check_output, write_atomically
from .compare_report import comparison_page, print_comparison
from .data import Data, check_data, load_data
from .differences import Differences, Dump, IntegerGraph, SingleConvolutions
from .distance import Distance
from .errors import run_command
from .file import load_model
from .metrics import Metric, find_metric, in_top
from .mismatch import DESCRIPTION
from .model import Model
from .oracles import float_runner, float_values
from .run import run_layers

#: Samples and values of feature maps held at once: every map of a batch is in memory, some times
#: over.
BATCH, BATCH_VALUES = 32, 1 << 25

#: Classes among which the label counts as found, in the second measure of class scores.
TOP = 5

#: Samples onnx.reference is given unless asked for more: it is slow.
REFERENCE_SAMPLES = 4


def compare(model: Model, data: Data, float_path: str | Path | None = None,
            samples: int | None = None, dumps: Iterable[str | Path] = (),
            reproducer: str | Path | None = None, reference_samples: int = REFERENCE_SAMPLES
            ) -> dict[str, Any]:
    """Run ``model`` and its oracles on ``data`` and measure its distance from the float network.

    The result holds JSON values only:

    - ``samples``: how many were run (the first ``samples`` of the data, default all);
    - ``metric``: ``"top-1"`` (percent) or, for boxes, ``"mean IoU"`` (0..1); ``float`` and
      ``integer``: its values, null without labels that fit the network's result or (``float``)
      without ``float_path``; of equal scores the first wins;
    - ``top_5``: null, or for more than five classes ``float`` and ``integer`` likewise;
    - ``mismatches``: by executor the number of integers, over all feature maps, that differ from
      ``ref.run``; ``oracle_samples``: how many samples each ran. Executors are the integer ONNX
      graph in onnxruntime and (the first ``reference_samples``) in onnx.reference, every
      convolution by itself in onnxruntime's QLinearConv (see `ref.qlinearconv` for what it may do),
      and each of ``dumps``, .npz files of feature maps that other programs wrote;
    - ``skipped``: by layer, why QLinearConv cannot express it;
    - ``first_mismatch``: null, or the fields of `ref.mismatch.Mismatch` and its ``sentence``; what
      is needed to meet it again is written into the folder ``reproducer``, if one is given;
    - ``layers``: per layer whose output the float network computes under the same name ``name``,
      ``snr_db`` (null where it is not finite), ``cosine`` (null for a zero map) and ``max_error``
      (real units) over all samples.

    Raises `UserError` when the data do not fit the model or the float network does not run.
    """
    check_data(data, model)
    data = data.head(samples).reshaped(model.input.shape)
    differ = Differences(model, reproducer)
    graphs = {executor: IntegerGraph(model, executor) for executor in ("onnxruntime", "reference")}
    convolutions = SingleConvolutions(model)
    dumped = {str(path): Dump(model, path) for path in dumps}
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
    values_each = sum(math.prod(tensor.shape) for tensor in model.tensors.values())
    batch = max(1, min(BATCH, BATCH_VALUES // values_each))
    for start in range(0, len(data), batch):
        part = Data(data.x[start:start + batch], None, data.x_scale, data.x_zero_point)
        maps = run_layers(model, part.x)
        for executor, graph in graphs.items():
            limit = len(data) if executor == "onnxruntime" else reference_samples
            head = part.x[:max(0, limit - start)]
            if len(head):
                differ.add(f"integer-onnx/{executor}", graph.maps(head, maps), maps, start)
        if convolutions.layers:
            differ.add("qlinearconv/onnxruntime", convolutions.maps(part.x, maps), maps, start)
        for name, dump in dumped.items():
            differ.add(name, dump.maps(start, start + len(part)), maps, start)
        scores = {"integer": maps[model.output_tensor.name] * _column(model.output_tensor.scale)}
        if run_float is not None:
            real = run_float(part.real())
            scores["float"] = real[float_output].reshape(-1, *shape)
            for name, error in errors.items():
                error.add(real[name], maps[name] * _column(model.tensors[name].scale), name)
        if metric is not None:
            labels = metric.labels[start:start + batch]
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
        "skipped": convolutions.skipped,
        "first_mismatch": differ.first and {**asdict(differ.first), "sentence": str(differ.first)},
        "layers": [{"name": name} | error.measures() for name, error in errors.items()],
    }


def _mean(values: list[np.ndarray], metric: Metric | None) -> float | None:
    """The metric of the values of all batches, or None where there are none."""
    if metric is None or not values:
        return None
    return metric.whole * float(np.concatenate(values).mean())


def _column(scale: np.ndarray) -> np.ndarray:
    """A scale () or (C,) shaped to multiply (N, C, H, W)."""
    return scale.reshape(-1, 1, 1)


def main(arguments: list[str]) -> int:
    """The command line; gives 1 when an executor differs, else 0."""
    parser = argparse.ArgumentParser(prog="python -m ref.compare", description=__doc__)
    parser.add_argument("model", metavar="NET.q.npz", help="the quantized model")
    parser.add_argument("--float", metavar="NET.onnx", dest="float_path",
                        help="the float network it was made from")
    parser.add_argument("--data", metavar="TEST.npz", required=True, help="labelled samples")
    parser.add_argument("--samples", type=int, help="use only the first SAMPLES (default: all)")
    parser.add_argument("--reference-samples", type=int, default=REFERENCE_SAMPLES, metavar="N",
                        help="samples for onnx.reference, which is slow (default: %(default)s)")
    parser.add_argument("--dump", metavar="MAPS.npz", action="append", default=[],
                        help="compare with feature maps in a file, e.g. of hw.sim --dump")
    parser.add_argument("--reproducer", metavar="DIR", default="mismatch",
                        help="where what differs first is saved (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the result here as well")
    parser.add_argument("--html", metavar="FILE", help="write a page with the result")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    for path in (options.json, options.html):
        if path is not None:
            check_output(path)
    check_folder(options.reproducer, DESCRIPTION)
    model = load_model(options.model)
    result = compare(model, load_data(options.data), options.float_path, options.samples,
                     options.dump, options.reproducer, options.reference_samples)
    if options.json is not None:
        write_atomically(options.json, (json.dumps(result, indent=2) + "\n").encode())
    if options.html is not None:
        write_atomically(options.html, comparison_page(model.name, result).encode())
    print_comparison(result)
    if result["first_mismatch"] is not None:
        print(f"{result['first_mismatch']['sentence']}; a reproducer is in {options.reproducer}",
              file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
