"""Command line: simulate the accelerator on real inputs, compare every layer with the reference."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from boards import BOARDS, Board
from boards import board as find_board
from ref.atomic import check_folder, check_output, write_atomically
from ref.data import check_data, load_data
from ref.errors import UserError, run_command
from ref.file import load_model
from ref.mismatch import DESCRIPTION
from ref.npz import npz_bytes

from .fit import fit_program
from .report import counted
from .simulate import ENGINES, make_engine, simulate

#: Samples simulated when the user does not say.
DEFAULT_SAMPLES = 10
#: What ``--lanes`` means, here and in `hw.build`.
LANES_HELP = "multipliers of the array (default: as quick as fits the board)"


def known_board(name: str) -> Board:
    """The board called ``name``; `UserError` with the known names when there is none."""
    try:
        return find_board(name)
    except ValueError as error:
        raise UserError(str(error)) from None


def sim(network: str, data: str, *, samples: int = DEFAULT_SAMPLES, engine: str = "compiled",
        board: str = "icebreaker", console: Console | None = None,
        observe: Callable[[dict[str, np.ndarray]], None] = lambda maps: None,
        reproducer: str | None = None, stop_after: str | None = None, vcd: str | None = None,
        lanes: int | None = None) -> dict[str, Any]:
    """Simulate ``samples`` of a data file on the engine that fits ``network`` on ``board``.

    ``network`` is a NET.q.npz; ``engine`` one of `hw.simulate.ENGINES`; ``observe`` and
    ``reproducer`` as for `hw.simulate.simulate`; ``stop_after`` names the last layer to run; the
    waves of the last sample go into the file ``vcd`` (engine "amaranth"); ``lanes`` as for
    `hw.fit.fit_program`. Returns the dictionary of `hw.simulate.simulate` with ``engine`` and
    ``board``. Raises `UserError` for bad files, names or counts.
    """
    console = console or Console(stderr=True)
    if samples < 1:
        raise UserError(f"--samples must be at least 1, not {samples}")
    model = load_model(network)
    inputs = load_data(data).head(samples)
    check_data(inputs, model)
    if stop_after is not None:
        model = model.until(stop_after)
    program = fit_program(model, known_board(board), lanes)
    with console.status(f"preparing the {engine} engine"):
        simulated = make_engine(engine, program, board, vcd)

    def progress(indices: Iterable[int]) -> Iterator[int]:
        return iter(track(indices, "simulating", console=console, transient=True))

    result = simulate(model, program, inputs.x, simulated, progress, observe, reproducer)
    return {"engine": engine, "board": board, **result}


def print_result(result: dict[str, Any], console: Console) -> None:
    """The table of layers and one line of summary."""
    table = Table("layer", "cycles", "predicted", "MACs", "differing")
    for column in table.columns[1:]:
        column.justify = "right"
    for layer in result["layers"]:
        table.add_row(layer["name"], f"{layer['cycles']:,}", f"{layer['predicted_cycles']:,}",
                      f"{layer['macs']:,}", str(layer["mismatches"]))
    console.print(table)
    console.print(f"{counted(result['samples'], 'sample')}, "
                  f"{counted(result['mismatches'], 'mismatch', 'mismatches')}, "
                  f"{result['cycles_per_inference']:,} cycles per inference, "
                  f"{result['mac_utilisation']:.1%} of {result['mac_units']} MAC units busy")
    if result["first_mismatch"]:
        console.print(f"first mismatch: {result['first_mismatch']}", style="bold red")


def main(arguments: list[str]) -> int:
    """Parse arguments, simulate, print; exit code 1 on a mismatch."""
    parser = argparse.ArgumentParser(prog="python -m hw.sim", description=__doc__)
    parser.add_argument("network", metavar="NET.q.npz")
    parser.add_argument("--data", required=True, metavar="TEST.npz")
    parser.add_argument("--samples", type=int, default=DEFAULT_SAMPLES)
    parser.add_argument("--engine", choices=ENGINES, default="compiled")
    parser.add_argument("--board", default="icebreaker", metavar="NAME",
                        help=f"one of {', '.join(sorted(BOARDS))} (default: icebreaker)")
    parser.add_argument("--lanes", type=int, metavar="N", help=LANES_HELP)
    parser.add_argument("--stop-after", metavar="LAYER", help="run the network up to this layer")
    parser.add_argument("--vcd", metavar="FILE",
                        help="write the last sample's waves (--engine amaranth)")
    parser.add_argument("--dump", metavar="MAPS.npz",
                        help="write every feature map the engine computed, for ref.compare --dump")
    parser.add_argument("--reproducer", metavar="DIR", default="mismatch",
                        help="where what differs first is saved (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="write the result there, too")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    options = parser.parse_args(arguments)
    for path in (options.json, options.dump, options.vcd):
        if path:
            check_output(path)
    check_folder(options.reproducer, DESCRIPTION)
    maps: dict[str, list[np.ndarray]] = {}

    def collect(sample: dict[str, np.ndarray]) -> None:
        for name, values in sample.items() if options.dump else ():
            maps.setdefault(name, []).append(values.astype(np.int16))

    result = sim(options.network, options.data, samples=options.samples, engine=options.engine,
                 board=options.board, observe=collect, reproducer=options.reproducer,
                 stop_after=options.stop_after, vcd=options.vcd, lanes=options.lanes)
    if options.dump:
        write_atomically(options.dump, npz_bytes({name: np.concatenate(parts)
                                                  for name, parts in maps.items()}))
    if options.json:
        write_atomically(options.json, json.dumps(result, indent=1).encode())
    print_result(result, Console())
    if result["mismatches"]:
        print(f"a reproducer is in {options.reproducer}", file=sys.stderr)
    return 1 if result["mismatches"] else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
