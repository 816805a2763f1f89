"""The accuracy table of docs/results.md, from bench/results/accuracy.json.

    python -m bench.results_page
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ref.atomic import write_atomically
from ref.errors import UserError, run_command

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "accuracy.json"
PAGE = ROOT / "docs" / "results.md"


@dataclass(frozen=True)
class Row:
    """One line of the table: which result, under which name, and the best other tool's figure."""

    title: str
    network: str
    preset: str
    weight_scale: str = "channel"
    input_bits: int = 8
    peer: str = ""                          # measured on the same samples, where it is known

    @property
    def command(self) -> str:
        """What measures it again."""
        words = ["python -m bench.accuracy", self.network, f"--preset {self.preset}"]
        if self.weight_scale != "channel":
            words.append(f"--weight-scale {self.weight_scale}")
        if self.input_bits != 8:
            words.append(f"--input-bits {self.input_bits}")
        return " ".join(words)


ROWS = (
    Row("MobileNetV1-0.75-224", "imagenet_224", "w8a8", peer="LiteRT 76.3"),
    Row("... one weight scale per layer", "imagenet_224", "w8a8", "tensor", peer="LiteRT 0.3"),
    Row("...", "imagenet_224", "w6a8"),
    Row("...", "imagenet_224", "w4a8"),
    Row("... AUSN weights of 5 bits", "imagenet_224", "ausn5"),
    Row("MobileNetV1-0.25-128", "imagenet_128", "w8a8", peer="LiteRT 38.7"),
    Row("KWS DS-CNN (MLPerf Tiny)", "kws", "w8a8", peer="official int8 92.33"),
    Row("...", "kws", "w4a8"),
    Row("... 4-bit activations, too", "kws", "w4a4"),
    Row("... AUSN weights of 5 bits", "kws", "ausn5"),
    Row("... mixed 4-bit weights, AUSN activations of 4 bits, no multipliers behind sums", "kws",
        "mixed4"),
    Row("... mixed 4-bit weights", "kws", "mixed4a8"),
    Row("KWS DS-CNN L (ARM), input in two planes", "kws_arm_l", "w8a8", input_bits=12,
        peer="onnxruntime 89.1"),
    Row("... input of 8 bits", "kws_arm_l", "w8a8", peer="onnxruntime 89.1"),
    Row("VWW MobileNetV1-0.25 (MLPerf Tiny)", "vww", "w8a8", peer="official int8 74.95"),
    Row("... mixed 4-bit weights", "vww", "mixed4a8"),
    Row("VWW with ReLU6, one weight scale per layer", "vww_relu6", "w8a8", "tensor",
        peer="onnxruntime 72.4"),
    Row("CIFAR-10 MobileNetV2-style", "cifar10", "w8a8", peer="onnxruntime 83.0"),
    Row("...", "cifar10", "w4a8"),
    Row("ResNet-8 (MLPerf Tiny)", "resnet8", "w8a8", peer="official int8 74.6"),
    Row("SkyNet, mean IoU", "skynet", "w6a8", peer="published 0.7227"),
    Row("...", "skynet", "w5a8", peer="published 0.7122"),
    Row("MNIST", "mnist", "w8a8", peer="its int8 92.50"),
    Row("digits (bundled)", "digits", "w8a8"),
)


def table(results: list[dict[str, Any]]) -> str:
    """The table in Markdown. Raises `UserError` naming a line that was not measured."""
    lines = ["| network | preset | samples | float | integers | better / worse | other tools |",
             "|---|---|---|---|---|---|---|"]
    for row in ROWS:
        found = [one for one in results
                 if (one["network"], one["preset"], one["weight_scale"], one["input_bits"])
                 == (row.network, row.preset, row.weight_scale, row.input_bits)]
        if not found:
            raise UserError(f"{RESULTS.name} has no result of {row.network} at {row.preset}; "
                            f"run {row.command}")
        (one,) = found
        shown = "{:.4f}" if one["metric"] == "mean IoU" else "{:.2f}"
        lines.append(
            f"| {row.title} | {row.preset} | {one['samples']:,} | {shown.format(one['float'])} "
            f"| **{shown.format(one['integer'])}** | {one['gained']} / {one['lost']} "
            f"| {row.peer} |")
    return "\n".join(lines) + "\n"


def page(results: list[dict[str, Any]]) -> str:
    """The whole page."""
    commands = "\n".join(dict.fromkeys(row.command for row in ROWS))
    return f"""# Accuracy
One shot, no training, integers only: top-1 in percent (SkyNet: mean IoU) on all public test
samples. "Better / worse" counts the samples that only the integers or only the float network gets
right (a box: intersection over union of a half or more). Other tools' figures were measured on the
same samples, from the same float networks. Only the digits are part of this repository.

{table(results)}
Each line has its command; `python -m bench.results_page` makes this page of
[accuracy.json](../bench/results/accuracy.json).
```sh
{commands}
```
More measurements: [mixed precision, accumulators, calibration, AUSN](quantization.md),
[exports and imports](exchange.md), whole builds ([builds.json](../bench/results/builds.json)),
equality with other executors ([exactness.json](../bench/results/exactness.json)), time and memory
([quantize_speed.json](../bench/results/quantize_speed.json)).
"""


def main(arguments: list[str]) -> int:
    """Write the page; returns the exit code."""
    if arguments:
        raise UserError("python -m bench.results_page takes no arguments")
    write_atomically(PAGE, page(json.loads(RESULTS.read_text())["results"]).encode())
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
