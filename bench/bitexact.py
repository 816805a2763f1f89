"""Integers in which simulated engines differ from `ref`, into bench/results/bitexact.json.

    python -m bench.bitexact [NAME ...] [--processes N]

Every feature map of every sample is compared, and every layer's cycles with the predicted ones.
Progress is kept after each batch of samples: a run that was stopped goes on where it was, unless
the circuit or the program changed since (``design``). Names are those of `VOLUMES`, and "random".
Networks and data are those of `bench.accuracy`. Exit code 1 where an integer or a cycle differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from amaranth.back import rtlil

from boards import board
from hw.accelerator import Accelerator
from hw.compiler import compile_program
from hw.config import EngineConfig
from hw.fit import ICE40_ARRAY, LONGEST, fit_program
from hw.program import Program
from hw.simulate import make_engine, simulate
from hw.trace import Engine
from quant import quantize
from ref.data import load_data
from ref.errors import UserError, run_command
from ref.model import Model
from tests.hw.engines import random_program

from .accuracy import NETWORKS, data_file
from .record import check_networks, record

RESULTS = Path(__file__).resolve().parent / "results" / "bitexact.json"
#: Samples between two records.
BATCH = 50
#: The engine of networks that fit no board: as wide as the largest, memories as deep as can be.
UNBOUNDED = EngineConfig(channels=32, pixels=6, requantizers=32, tape_depth=LONGEST,
                         activation_depth=LONGEST, single_port=False, strips=4)
#: Engines of the random networks, of which there are as many for each, with two samples.
RANDOM_ENGINES = {
    "4 x 4": ICE40_ARRAY,
    "8 x 8, 4-bit weights": replace(UNBOUNDED, channels=8, pixels=8, requantizers=8, weight_bits=4),
    "32 x 6": UNBOUNDED,
}
RANDOM_NETWORKS = 300


@dataclass(frozen=True)
class Volume:
    """The first ``samples`` of a network's test data, on the engine that fits it on ``board``.

    ``board`` None: on `UNBOUNDED`.
    """

    network: str
    preset: str
    board: str | None
    samples: int
    engine: str = "compiled"


VOLUMES = {
    "kws": Volume("kws", "w8a8", "icebreaker", 1500),
    "kws on ECP5": Volume("kws", "w4a8", "ulx3s_85f", 1500),
    "kws on lanes of both kinds": Volume("kws", "mixed4", "icebreaker", 1500),
    "kws on ECP5, both kinds": Volume("kws", "mixed4a8", "ulx3s_25f", 1500),
    "kws on ECP5, tables": Volume("kws", "w4a8", "ulx3s_25f", 1500),
    "vww, both kinds": Volume("vww", "mixed4a8", "ulx3s_85f", 467),
    "vww": Volume("vww", "w4a8", "ulx3s_85f", 467),
    "mnist": Volume("mnist", "w8a8", "icebreaker", 2000),
    "resnet8": Volume("resnet8", "w8a8", "ulx3s_85f", 200),
    "imagenet_128": Volume("imagenet_128", "w8a8", None, 20),
    **{f"{network}, netlist for {family}": Volume(network, "w8a8", name, 20, "netlist")
       for network in ("digits", "mnist")
       for family, name in (("iCE40", "icebreaker"), ("ECP5", "ulx3s_25f"))},
}


@dataclass
class Setup:
    """What a process needs to simulate samples; its engine is made when first needed."""

    model: Model
    program: Program
    x: np.ndarray
    volume: Volume
    made: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The simulated engine, from the cache of compiled ones."""
        if self.made is None:
            self.made = make_engine(self.volume.engine, self.program, self.volume.board or "")
        return self.made


def prepare(volume: Volume) -> Setup:
    """Quantize, compile, and choose the engine."""
    model = quantize(NETWORKS[volume.network][0], data_file(volume.network, "calib"),
                     volume.preset)
    program = (fit_program(model, board(volume.board)) if volume.board
               else compile_program(model, UNBOUNDED))
    return Setup(model, program, load_data(data_file(volume.network, "test")).x, volume)


def design(program: Program) -> str:
    """A digest of the circuit and of what runs on it."""
    text = rtlil.convert(Accelerator(program.config), emit_src=False)
    return hashlib.sha256(text.encode() + program.tape.tobytes()).hexdigest()[:16]


def compare(model: Model, program: Program, x: np.ndarray, engine: Engine) -> dict[str, Any]:
    """Integers compared and differing, seconds in all and of the processor, cycles of one run."""
    integers = 0

    def count(maps: dict[str, np.ndarray]) -> None:
        nonlocal integers
        integers += sum(values.size for values in maps.values())

    start, busy = time.perf_counter(), time.process_time()
    result = simulate(model, program, x, engine, observe=count)
    return {"samples": len(x), "integers": integers, "mismatches": result["mismatches"],
            "first_mismatch": result["first_mismatch"], "cycles": result["cycles_per_inference"],
            "cycles_differ": sum(layer["cycles"] != layer["predicted_cycles"]
                                 for layer in result["layers"]),
            "seconds": time.perf_counter() - start, "processor_seconds": time.process_time() - busy}


#: What this process simulates: of one that `measure` started, the only entry.
SETUPS: list[Setup] = []


def begin(setup: Setup) -> None:
    """In a new process: keep what it simulates."""
    SETUPS.append(setup)


def run_batch(first: int, last: int) -> dict[str, Any]:
    """:func:`compare` of the samples ``first`` to ``last - 1``."""
    setup, = SETUPS
    return compare(setup.model, setup.program, setup.x[first:last], setup.engine)


def add(entry: dict[str, Any], part: dict[str, Any]) -> None:
    """Add a batch to an entry of the results, whose seconds are of one sample."""
    samples = entry["samples"] + part["samples"]
    for name in ("seconds", "processor_seconds"):
        mean = (entry[name] * entry["samples"] + part[name]) / samples
        entry[name] = round(mean, 4)
    for name in ("integers", "mismatches", "cycles_differ"):
        entry[name] += part[name]
    entry["samples"] = samples
    entry["first_mismatch"] = entry["first_mismatch"] or part["first_mismatch"]


def stored(name: str, digest: str) -> dict[str, Any]:
    """What the results hold for this name and design, or an entry of no samples."""
    results = json.loads(RESULTS.read_text())["results"] if RESULTS.exists() else []
    for entry in results:
        if entry["name"] == name and entry["design"] == digest:
            return entry
    return {"name": name, "design": digest, "samples": 0, "integers": 0, "mismatches": 0,
            "first_mismatch": None, "cycles_differ": 0, "seconds": 0.0, "processor_seconds": 0.0}


def measure(name: str, processes: int) -> dict[str, Any]:
    """Simulate what is left of a volume; the entry of the results."""
    volume = VOLUMES[name]
    setup = prepare(volume)
    config = setup.program.config
    entry = stored(name, design(setup.program)) | {
        "network": volume.network, "preset": volume.preset, "engine": volume.engine,
        "board": volume.board, "array": f"{config.channels} x {config.pixels}",
        "wanted": volume.samples, "predicted_cycles": setup.program.predicted_cycles}
    size = BATCH if volume.engine == "compiled" else 1
    starts = range(entry["samples"], volume.samples, size)
    if starts:
        make_engine(volume.engine, setup.program, volume.board or "")      # compiled once, here
    with ProcessPoolExecutor(processes, get_context("spawn"), begin, (setup,)) as pool:
        for part in pool.map(run_batch, starts,
                             [min(start + size, volume.samples) for start in starts]):
            add(entry, part)
            record(RESULTS, entry, ("name",), numpy=np.__version__)
    return entry


def measure_random() -> dict[str, Any]:
    """Random networks of all kinds of layers, each on one of `RANDOM_ENGINES`; the entry."""
    digest = hashlib.sha256("".join(
        rtlil.convert(Accelerator(config), emit_src=False)
        for config in RANDOM_ENGINES.values()).encode()).hexdigest()[:16]
    entry = stored("random", digest) | {"engine": "compiled", "array": ", ".join(RANDOM_ENGINES),
                                        "wanted": 2 * RANDOM_NETWORKS}
    configs = list(RANDOM_ENGINES.values())
    engines: dict[int, Engine] = {}
    for seed in range(entry["samples"] // 2, RANDOM_NETWORKS):
        chosen = seed // (RANDOM_NETWORKS // len(configs))
        model, program, x = random_program(seed, configs[chosen])
        if chosen not in engines:
            engines[chosen] = make_engine("compiled", program, "")
        add(entry, compare(model, program, x, engines[chosen]))
        if seed % BATCH == BATCH - 1 or seed == RANDOM_NETWORKS - 1:
            record(RESULTS, entry | {"networks": seed + 1}, ("name",), numpy=np.__version__)
    return entry


def main(arguments: list[str]) -> int:
    """Measure and write the results; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.bitexact", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help=", ".join(f'"{name}"' for name in [*VOLUMES, "random"]))
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args(arguments)
    check_networks(options.names, [*VOLUMES, "random"])
    if options.processes < 1:
        raise UserError(f"--processes must be at least 1, not {options.processes}")
    differing = 0
    for name in options.names or [*VOLUMES, "random"]:
        entry = measure_random() if name == "random" else measure(name, options.processes)
        print(json.dumps(entry), flush=True)
        differing += entry["mismatches"] + entry["cycles_differ"]
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
