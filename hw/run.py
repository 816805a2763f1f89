"""Run a network on a board and compare every result with the reference.

    python -m hw.run --port P --data D.npz [--build DIR] [--samples N] [--json FILE]
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import serial

from ref.atomic import check_output, write_atomically
from ref.data import Data, check_data, class_labels, load_data
from ref.errors import UserError, run_command
from ref.file import load_model
from ref.layers import quantize_input
from ref.model import Model
from ref.run import run

from .compiler import compile_program
from .config import EngineConfig
from .host import Host
from .top import BAUD

#: The output directory of ``python -m hw.build`` without arguments.
DEFAULT_BUILD = Path("build/digits-icebreaker")
#: Seconds to wait for an answer: longer than `Sequencer.longest_run` at 24 MHz, the slowest clock.
ANSWER_TIMEOUT = 3.0


def evaluate(host: Host, model: Model, data: Data) -> dict[str, Any]:
    """Run all samples on the board behind ``host``, whose program is ``model``'s.

    The result holds JSON values only: ``samples``; ``metric`` ("top-1") and ``accuracy``, in
    percent, of the board (null without labels or without a vector of scores); ``mismatches``, the
    number of result integers that differ from ``ref.run``; ``first_mismatch``, null or a sentence;
    ``cycles_per_inference``, the largest. Raises `UserError` when the data do not fit the model, or
    as `Host.infer` does.
    """
    check_data(data, model)
    right = mismatches = most_cycles = 0
    first: str | None = None
    labels = class_labels(data, model)
    for index in range(len(data)):
        x = data.x[index:index + 1]
        result, cycles = host.infer(quantize_input(model, x)[0])
        expected = run(model, x)[0]
        wrong = np.argwhere(result != expected)
        if len(wrong) and first is None:
            channel, row, column = place = tuple(map(int, wrong[0]))
            first = (f"sample {index}, channel {channel}, row {row}, column {column}: "
                     f"{int(result[place])} instead of {int(expected[place])}")
        mismatches += len(wrong)
        most_cycles = max(most_cycles, cycles)
        if labels is not None:
            scores = result[:, 0, 0] * model.output_tensor.scale
            right += int(scores.argmax() == labels[index])
    return {
        "samples": len(data),
        "metric": "top-1",
        "accuracy": 100 * right / len(data) if labels is not None else None,
        "mismatches": mismatches,
        "first_mismatch": first,
        "cycles_per_inference": most_cycles,
    }


def read_report(build: Path) -> tuple[EngineConfig, float]:
    """Engine and clock (MHz) of a `hw.build` output directory; `UserError` if it is none."""
    path = build / "report.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return EngineConfig(**report["engine"]), float(report["clock_mhz"])
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; build first (python -m hw.build) or name its "
                        "output directory with --build") from None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path} is not a report of python -m hw.build; build again") from None


def open_port(name: str) -> serial.Serial:
    """The serial port ``name`` at the link's speed; `UserError` when it cannot be opened."""
    try:
        return serial.Serial(name, BAUD, timeout=ANSWER_TIMEOUT, write_timeout=ANSWER_TIMEOUT)
    except (serial.SerialException, ValueError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise UserError(f"cannot open port {name} ({reason}); check the cable, the name and your "
                        "permission to use it") from None


def main(arguments: list[str]) -> int:
    """The command line; gives 1 when a result differs from the reference, else 0."""
    parser = argparse.ArgumentParser(prog="python -m hw.run", description=__doc__.split("\n")[0])
    parser.add_argument("--port", required=True, help="the board's serial port, e.g. /dev/ttyUSB1")
    parser.add_argument("--data", required=True, metavar="D.npz", help="samples to run")
    parser.add_argument("--build", type=Path, default=DEFAULT_BUILD, metavar="DIR",
                        help="output directory of the build (default: %(default)s)")
    parser.add_argument("--samples", type=int, metavar="N", help="only the first N samples")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result there, too")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)

    if options.json is not None:
        check_output(options.json)
    config, clock_mhz = read_report(options.build)
    model = load_model(options.build / "network.q.npz")
    data = load_data(options.data).head(options.samples)
    check_data(data, model)
    program = compile_program(model, config)
    with open_port(options.port) as port:
        host = Host(port)
        host.load(program)
        print(f"load      {program.tape_size} bytes of program")
        result = evaluate(host, model, data)
    result["latency_ms"] = result["cycles_per_inference"] / (1000 * clock_mhz)

    accuracy = result["accuracy"]
    print(f"run       {result['samples']} samples  "
          + ("no labels" if accuracy is None else f"accuracy {accuracy:.2f} %"))
    print(f"latency   {result['cycles_per_inference']} cycles  {result['latency_ms']:.3f} ms @ "
          f"{clock_mhz:g} MHz")
    print(f"compare   {result['mismatches']} mismatches with the reference"
          + (f"; the first: {result['first_mismatch']}" if result["mismatches"] else ""))
    if options.json is not None:
        write_atomically(options.json, (json.dumps(result, indent=2) + "\n").encode())
    return 1 if result["mismatches"] else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
