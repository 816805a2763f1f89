"""Run a network's program in a simulated engine and compare every layer with the reference."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ref.errors import UserError
from ref.layers import quantize_input
from ref.mismatch import Mismatch, find_mismatch, save_reproducer
from ref.model import Model
from ref.run import run_layers

from .cxxrtl import compiled_engine
from .netlist import netlist_engine
from .program import Program
from .pysim import AmaranthEngine
from .trace import Engine, Trace

ENGINES = ("amaranth", "compiled", "netlist")


def make_engine(kind: str, program: Program, board: str, vcd: str | Path | None = None) -> Engine:
    """A simulated engine: ``kind`` is one of `ENGINES`; ``board`` decides the netlist's cells.

    Only the engine "amaranth" can write the waves of its last run into the file ``vcd``.
    """
    if vcd is not None and kind != "amaranth":
        raise UserError(f"the engine {kind} writes no waves; use --engine amaranth with --vcd")
    if kind == "amaranth":
        return AmaranthEngine(program.config, vcd)
    if kind == "compiled":
        return compiled_engine(program.config)
    if kind == "netlist":
        return netlist_engine(program.config, board)
    raise UserError(f"engine must be one of {', '.join(ENGINES)}, not {kind}")


def simulate(model: Model, program: Program, x: np.ndarray, engine: Engine,
             progress: Any = iter,
             observe: Callable[[dict[str, np.ndarray]], None] = lambda maps: None,
             reproducer: str | Path | None = None) -> dict[str, Any]:
    """Run samples and compare each layer's tensor with `ref.run_layers`, integer for integer.

    ``x`` holds the data file's integers, one sample or more; ``progress`` wraps the iterable of
    samples; ``observe`` is given what the engine computed for each, (1, C, H, W) by tensor name.
    What is needed to meet the first mismatch again is written into the folder ``reproducer`` (see
    `ref.mismatch.save_reproducer`), if one is given. Returns ``samples``, ``mismatches`` (differing
    integers), ``first_mismatch`` (a sentence or None), ``cycles_per_inference``, ``macs``,
    ``mac_units``, ``mac_utilisation`` and ``layers`` (``name``, ``cycles``, ``predicted_cycles``,
    ``mismatches``).
    """
    engine.load(1, 0, program.tape)
    engine.load(0, 0, program.pads)
    mismatches = [0] * len(program.layers)
    first: Mismatch | None = None
    trace: Trace | None = None
    for index in progress(range(len(x))):
        sample = x[index:index + 1]
        expected = run_layers(model, sample)
        engine.load(0, program.input.address, program.input.pack(quantize_input(model, sample)[0]))
        trace = engine.run(2 * program.predicted_cycles + 10_000)
        given = {name: values[None] for name, values in trace.tensors(program.layers).items()}
        observe(given)
        for number, (name, values) in enumerate(given.items()):
            mismatches[number] += int((values != expected[name]).sum())
        if first is None and any(mismatches):
            first = find_mismatch(model, expected, given, "the engine", index)
            assert first is not None
            if reproducer is not None:
                save_reproducer(reproducer, model, first, expected, given, index)
    if trace is None:
        raise UserError("there is no sample to simulate; give --samples at least 1")
    cycles, layer_cycles = trace.cycles, trace.layer_cycles(program.layers)
    return {
        "samples": len(x), "mismatches": sum(mismatches), "first_mismatch": first and str(first),
        "cycles_per_inference": cycles, "macs": program.macs,
        "mac_units": program.config.mac_units,
        "mac_utilisation": program.macs / (cycles * program.config.mac_units),
        "layers": [{"name": layer.name, "cycles": took, "predicted_cycles": layer.predicted_cycles,
                    "macs": layer.macs, "mismatches": wrong}
                   for layer, took, wrong
                   in zip(program.layers, layer_cycles, mismatches, strict=True)],
    }
