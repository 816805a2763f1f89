"""The commands of ``python -m quant``: the arguments of each, and what it does with them."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from ref.atomic import check_output, write_atomically
from ref.data import load_data
from ref.errors import UserError
from ref.file import load_model, save_model

from .accuracy import accuracy_report
from .analysis_page import render
from .analyze import SAMPLES, analyze
from .exports import FORMATS, export
from .flags import add_flags, given_flags, settings_of
from .import_onnx import import_onnx
from .inspect import inspect
from .progress import progress_bars
from .prove import prove_report
from .quantize import quantize
from .tables import (
    print_accuracy,
    print_analysis,
    print_inspection,
    print_model,
    print_proofs,
)


@dataclass(frozen=True)
class Command:
    """One command: its line of help, its arguments, and its work, which gives the exit code."""

    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def _inspect_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", metavar="NET.onnx")
    _add_calibration(parser, required=False)
    _add_json(parser)


def _inspect(options: argparse.Namespace) -> int:
    _check_json(options)
    report = inspect(options.network, options.calib)
    _write_json(options, report)
    print_inspection(report, Console(markup=False))
    return 0


def _quantize_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", metavar="NET.onnx")
    _add_calibration(parser)
    parser.add_argument("--data", metavar="TEST.npz",
                        help="labelled samples x and y: report the accuracy on them")
    add_flags(parser)
    parser.add_argument("-o", "--output", required=True, metavar="NET.q.npz")


def _quantize(options: argparse.Namespace) -> int:
    output = Path(options.output)
    check_output(output, _inputs(options))
    settings = settings_of(options)
    data = None if options.data is None else load_data(options.data)
    console = Console(markup=False)
    start = time.perf_counter()
    with progress_bars(console) as tell:
        model = quantize(options.network, options.calib, settings, tell)
        seconds = time.perf_counter() - start
        if data is not None:
            accuracy = accuracy_report(model, data, import_onnx(options.network), tell)
    save_model(model, output)
    if data is not None:
        print_accuracy(accuracy, console)
    print_model(model, seconds, console)
    console.print(f"wrote {output}", soft_wrap=True, highlight=False)
    return 0


def _analyze_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", metavar="NET.onnx|NET.q.npz",
                        help="a float network to quantize, or an integer model with --float")
    _add_calibration(parser, required=False)
    parser.add_argument("--data", metavar="TEST.npz",
                        help="samples to analyze on, with labels y if any (default: CALIB.npz)")
    _add_float(parser)
    parser.add_argument("--samples", type=int, metavar="N",
                        help=f"samples whose every feature map is compared (default: {SAMPLES})")
    add_flags(parser)
    parser.add_argument("-o", "--output", metavar="DIR",
                        help="folder for analysis.html and analysis.json")


def _analyze(options: argparse.Namespace) -> int:
    quantized = options.network.endswith(".npz")
    _check_analysis(options, quantized)
    network = import_onnx(options.float_network if quantized else options.network)
    data = load_data(options.data or options.calib)
    data.head(options.samples)                  # a number that cannot be: known before the work
    console = Console(markup=False)
    with progress_bars(console) as tell:
        model = load_model(options.network) if quantized else quantize(
            network, options.calib, settings_of(options), tell)
        report = analyze(model, network, data, options.samples, tell)
    print_analysis(report, console)
    if options.output is not None:
        folder = Path(options.output)
        folder.mkdir(exist_ok=True)
        write_atomically(folder / "analysis.json", (json.dumps(report, indent=2) + "\n").encode())
        write_atomically(folder / "analysis.html", render(report).encode())
        console.print(f"wrote {folder / 'analysis.html'}", soft_wrap=True, highlight=False)
    return 0


def _check_analysis(options: argparse.Namespace, quantized: bool) -> None:
    """Refuse arguments of ``analyze`` that do not belong together, before the work."""
    if quantized and (options.float_network is None or options.data is None):
        raise UserError(f"{options.network} is quantized already; give --float NET.onnx, the "
                        "network it was made from, and --data TEST.npz")
    unused = [*given_flags(options), *(["--calib"] if options.calib is not None else [])]
    if quantized and unused:
        raise UserError(f"{options.network} is quantized already; leave out {unused[0]}, or give "
                        "the float network")
    if not quantized and (options.calib is None or options.float_network is not None):
        raise UserError(f"{options.network} is a float network; give --calib CALIB.npz to "
                        "quantize it with, and no --float")
    if options.output is not None and not Path(options.output).is_dir():
        check_output(options.output)
        if Path(options.output).exists():
            raise UserError(f"the output {options.output} is a file; name a folder")


def _prove_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", metavar="NET.q.npz")
    _add_json(parser)


def _prove(options: argparse.Namespace) -> int:
    _check_json(options)
    report = prove_report(load_model(options.network))
    _write_json(options, report)
    print_proofs(report, Console(markup=False))
    return 0 if all(layer["holds"] for layer in report["layers"]) else 1


def _eval_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", metavar="NET.q.npz")
    parser.add_argument("--data", required=True, metavar="TEST.npz",
                        help="labelled samples: x and y, x_scale and x_zero_point")
    _add_float(parser)
    parser.add_argument("--samples", type=int, metavar="N", help="only the first N (default: all)")
    _add_json(parser)


def _eval(options: argparse.Namespace) -> int:
    _check_json(options)
    network = None if options.float_network is None else import_onnx(options.float_network)
    console = Console(markup=False)
    with progress_bars(console) as tell:
        report = accuracy_report(load_model(options.network),
                                 load_data(options.data).head(options.samples), network, tell)
    _write_json(options, report)
    print_accuracy(report, console)
    return 0


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("network", metavar="NET.q.npz")
    parser.add_argument("-f", "--format", required=True, choices=FORMATS, help="; ".join(
        f"{name}: {write.__doc__}".rstrip(".") for name, write in FORMATS.items()))
    parser.add_argument("-o", "--output", required=True, metavar="FILE")


def _export(options: argparse.Namespace) -> int:
    check_output(options.output, _inputs(options))
    write_atomically(options.output, export(load_model(options.network), options.format))
    return 0


def _add_calibration(parser: argparse.ArgumentParser, required: bool = True) -> None:
    parser.add_argument("--calib", required=required, metavar="CALIB.npz",
                        help="calibration data: x, and x_scale and x_zero_point where they apply")


def _add_float(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--float", dest="float_network", metavar="NET.onnx",
                        help="the float network the model was made from, to compare with")


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="write the result here as well")


def _check_json(options: argparse.Namespace) -> None:
    """Find out before the work whether the result can be written."""
    if options.json is not None:
        check_output(options.json, _inputs(options))


def _inputs(options: argparse.Namespace) -> list[str]:
    """The files a command reads, which it must not replace."""
    names = ("network", "calib", "data", "float_network")
    return [path for name in names if (path := getattr(options, name, None)) is not None]


def _write_json(options: argparse.Namespace, result: dict[str, Any]) -> None:
    if options.json is not None:
        write_atomically(options.json, (json.dumps(result, indent=2) + "\n").encode())


COMMANDS = {
    "inspect": Command("what the import makes of a float ONNX network", _inspect_arguments,
                       _inspect),
    "quantize": Command("float ONNX to an integer model", _quantize_arguments, _quantize),
    "analyze": Command("where a quantized network's error comes from, as text, JSON and a page",
                       _analyze_arguments, _analyze),
    "prove": Command("prove every accumulator's width again, and reach its bound on an input",
                     _prove_arguments, _prove),
    "eval": Command("accuracy: float, only weights, only activations, and all in integers",
                    _eval_arguments, _eval),
    "export": Command("integer model to another format", _export_arguments, _export),
}
