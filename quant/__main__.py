"""Command line of the quantizer: ``python -m quant quantize|export``."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from ref.atomic import check_output, write_atomically
from ref.errors import run_command
from ref.file import load_model, save_model
from ref.model import Model
from ref.onnx_integer import integer_onnx

from .presets import PRESETS, WEIGHT_SCALES, find_preset, with_weight_scale
from .quantize import quantize


def main(arguments: list[str]) -> int:
    """Run one command; returns the exit code. Raises `UserError` for bad input."""
    parser = argparse.ArgumentParser(prog="python -m quant", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("quantize", help="float ONNX to an integer model")
    command.add_argument("network", metavar="NET.onnx")
    command.add_argument("--calib", required=True, metavar="CALIB.npz",
                         help="calibration data: x, and x_scale and x_zero_point where they apply")
    command.add_argument("--preset", default="w8a8", metavar="NAME", help=", ".join(PRESETS))
    command.add_argument("--weight-scale", choices=WEIGHT_SCALES,
                         help="one weight step per output channel (default) or per layer")
    command.add_argument("--transfer", type=transfer_exponent, metavar="T",
                         help="TAIT's exponent, 0..1, or search (default: 0.2; search with "
                              "--weight-scale tensor)")
    command = commands.add_parser("export", help="integer model to another format")
    command.add_argument("network", metavar="NET.q.npz")
    command.add_argument("-f", "--format", required=True, choices=["integer"],
                         help="integer: pure-integer ONNX, equal to the hardware bit for bit")
    for command in commands.choices.values():
        command.add_argument("-o", "--output", required=True, metavar="FILE")
        command.add_argument("--debug", action="store_true", help="show a traceback on errors")
    options = parser.parse_args(arguments)
    output = Path(options.output)
    check_output(output)
    if options.command == "export":
        write_atomically(output, integer_onnx(load_model(options.network)).SerializeToString(
            deterministic=True))
        return 0
    settings = find_preset(options.preset)
    if options.weight_scale or options.transfer is not None:
        settings = with_weight_scale(settings, options.weight_scale or settings.weight_scale,
                                     options.transfer)
    console = Console()
    start = time.perf_counter()
    with console.status("quantizing") as status:
        model = quantize(options.network, options.calib, settings,
                         progress=lambda stage: status.update(f"quantizing: {stage}"))
    save_model(model, output)
    print_summary(model, time.perf_counter() - start, console)
    console.print(f"wrote {output}", soft_wrap=True, highlight=False)
    return 0


def transfer_exponent(text: str) -> float | Literal["search"]:
    """The value of ``--transfer``; a usage error for anything but a number or "search"."""
    if text == "search":
        return "search"
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be a number or search, not {text}") from None


def print_summary(model: Model, seconds: float, console: Console) -> None:
    """A table of the layers: kind, result, weight, activation and accumulator bits."""
    table = Table(title=f"{model.name}: {model.metadata['preset']}, {len(model.layers)} layers, "
                        f"{seconds:.1f} s")
    for heading in ("layer", "kind", "result", "weight bits", "activation bits",
                    "accumulator bits"):
        table.add_column(heading, justify="right" if "bits" in heading else "left")
    for layer in model.layers:
        result = model.tensors[layer.output]
        proof = getattr(layer, "proof", None)
        table.add_row(layer.name, type(layer).__name__, "x".join(map(str, result.shape)),
                      str(getattr(layer, "weight_bits", "")), str(result.bits),
                      "" if proof is None else str(proof.bits))
    console.print(table)


if __name__ == "__main__":
    sys.exit(run_command(main))
