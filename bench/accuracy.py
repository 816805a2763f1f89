"""Accuracy of quantized networks on all public test samples, into bench/results/accuracy.json.

    python -m bench.accuracy [NETWORK ...] [--preset NAME ...] [--weight-scale channel|tensor]
                             [--input-bits BITS]

Results of other networks and settings stay in the file.
Networks outside the repository come from ``../shared/data`` beside it, whose data are expanded into
``build/data`` once. Of equal class scores the first wins, for floats and for integers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

from quant import WEIGHT_SCALES, find_preset, import_onnx, quantize, with_settings
from quant.evaluate import evaluate, real_input
from ref.compare import TOP
from ref.data import load_data
from ref.errors import UserError, run_command
from ref.metrics import find_metric, in_top
from ref.run import run

from .record import check_networks, record

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"
DATA = ROOT / "build" / "data"
RESULTS = ROOT / "bench" / "results" / "accuracy.json"
#: Network name: (ONNX file, data set, or set/variant, that expands into the DATA folder; None:
#: beside the network).
NETWORKS: dict[str, tuple[Path, str | None]] = {
    "digits": (ROOT / "models" / "digits" / "digits.onnx", None),
    "kws": (SHARED / "kws_dscnn" / "model.onnx", "kws"),
    **{f"kws_arm_{size}": (SHARED / "kws_arm_dscnn" / f"model_{size}.onnx", "kws_arm")
       for size in "sml"},
    "vww": (SHARED / "vww_mobilenetv1_025_96" / "model.onnx", "vww"),
    "vww_relu6": (SHARED / "vww_mobilenetv1_025_96" / "model_tinymaix_relu6.onnx", "vww"),
    "cifar10": (SHARED / "cifar10_mnv2" / "model.onnx", "cifar10"),
    "resnet8": (SHARED / "cifar10_mnv2" / "mlperf_resnet8.onnx", "cifar10/resnet8"),
    "imagenet_128": (SHARED / "imagenet_mobilenetv1" / "model_025_128.onnx", "imagenet/128"),
    "imagenet_224": (SHARED / "imagenet_mobilenetv1" / "model_075_224.onnx", "imagenet/224"),
    "skynet": (SHARED / "skynet" / "model.onnx", "skynet"),
    "mnist": (SHARED / "mnist_dw_tiny" / "model.onnx", "mnist"),
}
#: What makes two results measurements of the same thing.
KEYS = ("network", "preset", "weight_scale", "input_bits")


def data_file(network: str, split: str) -> Path:
    """The ``calib`` or ``test`` file of a network; expands its data set when it is absent."""
    path, dataset = NETWORKS[network]
    if dataset is None:
        return path.parent / f"{split}.npz"
    expanded = DATA / f"{dataset.replace('/', '_')}_{split}.npz"
    if not expanded.exists():
        if not SHARED.is_dir():
            raise UserError(f"{network} needs the data folder {SHARED}, which does not exist; "
                            "name only networks of this repository (digits)")
        subprocess.run([sys.executable, SHARED / "expand.py", DATA, dataset.split("/")[0]],
                       check=True)
    return expanded


def measure(network: str, preset: str, weight_scale: str = "channel", input_bits: int = 8
            ) -> dict[str, str | int | float]:
    """Float and integer accuracy and how many samples change their answer.

    ``metric`` is "top-1" (percent) or "mean IoU" (0..1); class scores of more than five classes
    also have ``float_top5`` and ``integer_top5``. ``gained`` and ``lost`` are the samples that only
    the integer or only the float network gets right (a box: IoU of a half or more); ``changed``
    counts every class or box that differs.
    """
    calib, test = data_file(network, "calib"), load_data(data_file(network, "test"))
    path = NETWORKS[network][0]
    imported = import_onnx(path)
    expected = evaluate(imported, real_input(imported, test))
    settings = with_settings(find_preset(preset), weight_scale=weight_scale,
                             input_bits=input_bits)
    model = quantize(path, calib, settings)
    metric = find_metric(test, model)
    assert metric is not None
    found = run(model, test.x) * model.output_tensor.scale.reshape(-1, 1, 1)
    answers = [metric.answers(result) for result in (expected, found)]
    values = [metric.values(answer, metric.labels) for answer in answers]
    right, still_right = (value >= 0.5 for value in values)
    means = {name: round(metric.whole * float(value.mean()), 4 if metric.whole == 1 else 2)
             for name, value in zip(("float", "integer"), values, strict=True)}
    if metric.name == "top-1" and found.shape[1] > TOP:
        means |= {f"{name}_top5": round(100 * float(in_top(result, metric.labels, TOP).mean()), 2)
                  for name, result in (("float", expected), ("integer", found))}
    return {
        "network": network, "preset": preset, "weight_scale": weight_scale,
        "input_bits": input_bits, "samples": len(test), "metric": metric.name, **means,
        "gained": int((still_right & ~right).sum()), "lost": int((right & ~still_right).sum()),
        "changed": int((answers[0] != answers[1]).any(axis=1).sum()),
    }


def main(arguments: list[str]) -> int:
    """Measure and write the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.accuracy", description=__doc__)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=", ".join(NETWORKS))
    parser.add_argument("--preset", nargs="+", default=["w8a8"])
    parser.add_argument("--weight-scale", default="channel", choices=WEIGHT_SCALES)
    parser.add_argument("--input-bits", type=int, default=8, metavar="BITS")
    options = parser.parse_args(arguments)
    check_networks(options.networks, NETWORKS)
    for network in options.networks or NETWORKS:
        for preset in options.preset:
            result = measure(network, preset, options.weight_scale, options.input_bits)
            print(json.dumps(result), flush=True)
            record(RESULTS, result, KEYS, numpy=np.__version__)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
