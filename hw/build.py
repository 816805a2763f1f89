"""Command line: float ONNX or integer model in; bitstream, proof by simulation and report out."""

import argparse
import errno
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import quant
from boards import BOARDS, Board
from ref.atomic import write_atomically
from ref.compiler import find_compiler
from ref.data import Data, check_data, class_labels, load_data
from ref.errors import UserError, run_command
from ref.file import load_model, save_model
from ref.model import Model
from ref.oracles import run_float
from ref.run import logits

from .bitstream import Bitstream, build_bitstream
from .fit import fit_program
from .program import Program
from .report import render
from .sim import LANES_HELP, known_board
from .simulate import make_engine, simulate
from .tools import find_tools
from .top import uart_divisor

#: The network built when none is given.
BUNDLED = Path(__file__).parent.parent / "models" / "digits"
#: Real inputs simulated before anything is synthesized.
SIMULATED_SAMPLES = 10


@dataclass(frozen=True)
class Request:
    """What to build, with paths as the user gave them; what may be None was not given."""

    network: Path
    calib: Path | None
    test: Path | None
    board: Board
    preset: str | None
    out: Path
    lanes: int | None

    @property
    def quantized(self) -> bool:
        """The network is an integer model already."""
        return self.network.name.endswith(".npz")


def stem(network: Path) -> str:
    """A network's name in names of files: ``net`` of ``net.onnx`` and of ``net.q.npz``."""
    return network.name.split(".")[0]


class Progress:
    """One line per finished stage, a spinner while it runs, and the seconds each took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[Callable[[str], None]]:
        """Time a stage. The yielded function sets the text its line ends with."""
        start, text = time.monotonic(), ""

        def tell(line: str) -> None:
            nonlocal text
            text = line

        with self.console.status(f"{name} ..."):
            yield tell
        self.seconds[name] = round(time.monotonic() - start, 2)
        self.console.print(f"[bold]{name:<11}[/] {text} [dim]{self.seconds[name]:.1f} s[/]",
                           highlight=False, soft_wrap=True)


def build(request: Request, console: Console) -> dict[str, Any]:
    """Run all stages and write the results to ``request.out``; returns the report.

    The folder gets ``network.q.npz``, the bitstream, ``report.json`` and ``report.html``, all at
    the end; after an error it is as it was. What can be found wrong early is. Raises `UserError`,
    also when the simulation differs from the reference (naming the first layer that does).
    """
    with staging(request.out):
        pass
    find_tools(request.board.family)
    find_compiler("c++")
    progress = Progress(console)
    model = quantized(request, progress)
    inputs = {path: load_data(path) for path in (request.calib, request.test) if path}
    for data in inputs.values():
        check_data(data, model)
    test = inputs[request.test] if request.test else None
    accuracy = measured_accuracy(request, model, test, progress)

    with progress.stage("compile") as tell:
        program = fit_program(model, request.board, request.lanes)
        predicted = program.predicted_cycles
        tell(f"{predicted:,} cycles predicted on {program.config.mac_units} MAC units")
    real = request.test or request.calib
    simulation = simulated(request, model, program, inputs[real] if real else None, progress)
    bitstream = routed(request, program, progress)
    report = make_report(request, model, program, accuracy, simulation, bitstream, progress)
    return deliver(request, model, bitstream, report)


def quantized(request: Request, progress: Progress) -> Model:
    """The integer model: loaded, or quantized from the float network."""
    if request.quantized:
        if request.preset is not None:
            raise UserError(f"{request.network} is quantized already; leave out --preset, or give "
                            "the float network")
        with progress.stage("load") as tell:
            model = load_model(request.network)
            tell(f"{model.name}, {len(model.layers)} layers")
        return model
    preset = request.preset or "w8a8"
    if request.calib is None:
        raise UserError(f"{request.network} is a float network and needs calibration data; "
                        "give --calib CALIB.npz with about a hundred typical inputs")
    with progress.stage("quantize") as tell:
        model = quant.quantize(request.network, request.calib, preset)
        widest = max(layer.proof.bits for layer in model.layers if hasattr(layer, "proof"))
        tell(f"{model.name}, {len(model.layers)} layers, {preset}, "
             f"accumulators proved within {widest} bits")
    return model


def measured_accuracy(request: Request, model: Model, test: Data | None,
                      progress: Progress) -> dict[str, Any]:
    """Percent of right labels, float and integer, over the whole test file; None if unknown."""
    result: dict[str, Any] = {"float": None, "integer": None, "samples": 0}
    labels = None if test is None else class_labels(test, model)
    if test is None or labels is None:
        return result
    with progress.stage("accuracy") as tell:
        result["samples"] = len(test)
        result["integer"] = percent_right(logits(model, test.x), labels)
        if not request.quantized:
            (scores,) = run_float(
                request.network, test.reshaped(model.input.shape).real()).values()
            result["float"] = percent_right(scores.reshape(len(test), -1), labels)
        float_text = "" if result["float"] is None else f"float {result['float']:.2f} %, "
        tell(f"{float_text}integer {result['integer']:.2f} % of {len(test)} test samples")
    return result


def percent_right(scores: np.ndarray, labels: np.ndarray) -> float:
    """Share of samples (N, classes) whose first largest score has the right index."""
    return round(100 * float(np.mean(scores.argmax(1) == labels)), 3)


def simulated(request: Request, model: Model, program: Program, inputs: Data | None,
              progress: Progress) -> dict[str, Any]:
    """Compare the RTL with the reference on real inputs; `UserError` at the first difference.

    Without ``inputs`` on random ones.
    """
    with progress.stage("simulate") as tell:
        if inputs is None:
            rng = np.random.default_rng(0)
            x = rng.integers(-128, 128, (2, *model.sample_shape)).astype(model.input.dtype)
        else:
            x = inputs.head(SIMULATED_SAMPLES).x
        result = simulate(model, program, x,
                          make_engine("compiled", program, request.board.name))
        result["inputs"] = "random" if inputs is None else "real"
        if result["mismatches"]:
            raise UserError(f"the simulated hardware differs from the reference in "
                            f"{result['mismatches']} integers: {result['first_mismatch']};"
                            " this is a defect in Shiftwise: please report it with the network")
        tell(f"{result['samples']} {result['inputs']} inputs, every layer equal to the reference, "
             f"{result['cycles_per_inference']:,} cycles, "
             f"{result['mac_utilisation']:.1%} utilisation")
    return result


def routed(request: Request, program: Program, progress: Progress) -> Bitstream:
    """Synthesize, place, route and pack, each step announced as it starts."""
    with progress.stage("bitstream") as tell:
        bitstream = build_bitstream(
            request.board, program.config,
            lambda tool: progress.console.print(f"            {tool} ...", style="dim"))
        verdict = "met" if bitstream.timing_met else "NOT MET"
        tell(f"{bitstream.fmax_mhz:.1f} MHz reached, {bitstream.clock_mhz:.1f} needed: {verdict}")
    return bitstream


def make_report(request: Request, model: Model, program: Program, accuracy: dict[str, Any],
                simulation: dict[str, Any], bitstream: Bitstream,
                progress: Progress) -> dict[str, Any]:
    """Everything measured, as JSON values."""
    cycles = simulation["cycles_per_inference"]
    clock = bitstream.clock_mhz
    return {
        "board": request.board.name, "device": request.board.device.name, "network": model.name,
        "macs": program.macs, "mac_units": program.config.mac_units,
        "cycles_per_inference": cycles, "mac_utilisation": simulation["mac_utilisation"],
        "clock_mhz": clock, "fmax_mhz": round(bitstream.fmax_mhz, 2),
        "timing_met": bitstream.timing_met,
        "latency_ms": cycles / clock / 1e3, "inferences_per_s": clock * 1e6 / cycles,
        "resources": bitstream.resources,
        "bitstream": str(request.out.absolute()
                         / f"{stem(request.network)}{request.board.bitstream_suffix}"),
        "tools": [{"name": tool.name, "version": tool.version, "source": tool.source,
                   "seconds": bitstream.seconds[tool.name]} for tool in bitstream.tools],
        "stages": progress.seconds,
        "accuracy": accuracy,
        "sim": {key: simulation[key] for key in ("samples", "inputs", "mismatches")},
        "layers": simulation["layers"],
        "memory": {"tape_bytes": program.tape_size,
                   "activation_bytes": program.activation_words * program.config.word_bytes},
        "engine": asdict(program.config), "seed": bitstream.seed,
        "critical_path": bitstream.critical_path_ns,
        "preset": model.metadata.get("preset"),
    }


def deliver(request: Request, model: Model, bitstream: Bitstream,
            report: dict[str, Any]) -> dict[str, Any]:
    """Write all files beside their places first, then move them there; returns the report."""
    with staging(request.out) as made:
        save_model(model, made / "network.q.npz")
        write_atomically(made / Path(report["bitstream"]).name, bitstream.path.read_bytes())
        write_atomically(made / "report.json", json.dumps(report, indent=1).encode())
        write_atomically(made / "report.html", render(report).encode())
        for file in made.iterdir():
            os.replace(file, request.out / file.name)
    return report


@contextmanager
def staging(out: Path) -> Iterator[Path]:
    """A temporary folder inside ``out``, on the same disk, which is made when it does not exist.

    When the body leaves ``out`` empty or raises, folders made here are removed again. An `OSError`
    becomes a `UserError` that names ``out``.
    """
    missing = [path for path in (out, *out.parents) if not path.exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".shiftwise-", dir=out) as folder:
            yield Path(folder)
    except OSError as error:
        space = "free some space there or " if error.errno == errno.ENOSPC else ""
        raise UserError(f"cannot write to {out} ({(error.strerror or str(error)).lower()}); {space}"
                        "give --out another folder") from error
    finally:
        for path in missing:
            with suppress(OSError):
                path.rmdir()                # keeps a folder that has something in it


def clocked(board: Board, clock_mhz: float) -> Board:
    """The board at another clock.

    Raises `UserError`, naming the nearest clock that there is, where its PLL does not make this one
    or the host link has no rate for it.
    """
    def possible(mhz: float) -> bool:
        try:
            uart_divisor(board.platform(mhz).clock_mhz)
        except (ValueError, UserError):
            return False
        return True

    if not 1 <= clock_mhz <= 1000:
        raise UserError(f"a clock of {clock_mhz:g} MHz is none for {board.name}; its usual one is "
                        f"{board.clock_mhz:g} MHz (--clock)")
    if not possible(clock_mhz):
        steps = sorted((k / 4 for k in range(4, 1601)), key=lambda mhz: abs(mhz - clock_mhz))
        near = board.platform(next(mhz for mhz in steps if possible(mhz))).clock_mhz
        raise UserError(f"{board.name} cannot be clocked at {clock_mhz:g} MHz, which its PLL or "
                        "the host link's rate does not allow; the nearest clock is "
                        f"--clock {near:g}")
    return replace(board, clock_mhz=clock_mhz)


def parse(arguments: list[str]) -> Request:
    """The command line as a `Request`; defaults to the bundled network and its data."""
    parser = argparse.ArgumentParser(prog="python -m hw.build", description=__doc__)
    parser.add_argument("network", nargs="?", type=Path, metavar="NET.onnx | NET.q.npz",
                        help="default: the bundled digits network")
    parser.add_argument("--calib", type=Path, metavar="CALIB.npz", help="calibration inputs")
    parser.add_argument("--test", type=Path, metavar="TEST.npz", help="labelled inputs")
    parser.add_argument("--board", default="icebreaker", metavar="NAME",
                        help=f"one of {', '.join(sorted(BOARDS))} (default: icebreaker)")
    parser.add_argument("--preset", metavar="NAME", help=f"one of {', '.join(quant.PRESETS)} "
                        "(default: w8a8)")
    parser.add_argument("--lanes", type=int, metavar="N", help=LANES_HELP)
    parser.add_argument("--clock", type=float, metavar="MHZ",
                        help="what the board is to be clocked at (default: the board's usual)")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="default: build/NETWORK-BOARD")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    board = known_board(options.board)
    if options.clock is not None:
        board = clocked(board, options.clock)
    if options.network is None:
        options.network = BUNDLED / "digits.onnx"
        options.calib = options.calib or BUNDLED / "calib.npz"
        options.test = options.test or BUNDLED / "test.npz"
    if not options.network.exists():
        raise UserError(f"{options.network}: no such file; give a .onnx or a .q.npz")
    return Request(options.network, options.calib, options.test, board, options.preset,
                   options.out or Path("build") / f"{stem(options.network)}-{board.name}",
                   options.lanes)


def main(arguments: list[str]) -> int:
    """Build and summarize; exit code 1 when the clock is not met."""
    console = Console()
    request = parse(arguments)
    console.print(f"[bold]Shiftwise[/]: {request.network} on {request.board.title}",
                  highlight=False)
    report = build(request, console)
    console.print()
    for kind, count in report["resources"].items():
        console.print(f"  {kind:<11} {count['used']:>6,} of {count['available']:,}",
                      highlight=False)
    console.print(f"  latency     {report['latency_ms']:.3f} ms, "
                  f"{report['inferences_per_s']:.0f} inferences per second", highlight=False)
    for name in (Path(report["bitstream"]).name, "report.json", "report.html"):
        console.print(f"  {request.out / name}", highlight=False, soft_wrap=True)
    if not report["timing_met"]:
        print(f"error: the design reaches {report['fmax_mhz']} MHz and the board is clocked at "
              f"{report['clock_mhz']:.1f}; try again with a slower clock (--clock), another "
              "network or board", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
