"""Run a network's program in a simulated engine and compare every layer with the reference."""

from typing import Any

import numpy as np

from ref.errors import UserError
from ref.model import AveragePool2d, Conv2d, Model
from ref.run import quantize_input, run_layers

from .cxxrtl import compiled_engine
from .netlist import netlist_engine
from .program import Program
from .pysim import AmaranthEngine
from .trace import Engine, Trace

ENGINES = ("amaranth", "compiled", "netlist")


def make_engine(kind: str, program: Program, board: str) -> Engine:
    """A simulated engine: ``kind`` is one of `ENGINES`; ``board`` decides the netlist's cells."""
    if kind == "amaranth":
        return AmaranthEngine(program.config)
    if kind == "compiled":
        return compiled_engine(program.config)
    if kind == "netlist":
        return netlist_engine(program.config, board)
    raise UserError(f"engine must be one of {', '.join(ENGINES)}, not {kind}")


def simulate(model: Model, program: Program, x: np.ndarray, engine: Engine,
             progress: Any = iter) -> dict[str, Any]:
    """Run samples and compare each layer's tensor with `ref.run_layers`, integer for integer.

    ``x`` holds the data file's integers, one sample or more; ``progress`` wraps the iterable of
    samples. Returns ``samples``, ``mismatches`` (differing integers), ``first_mismatch`` (a
    sentence or None), ``cycles_per_inference``, ``macs``, ``mac_units``, ``mac_utilisation`` and
    ``layers`` (``name``, ``cycles``, ``predicted_cycles``, ``mismatches``).
    """
    predicted = sum(layer.predicted_cycles for layer in program.layers)
    engine.load(1, 0, program.tape)
    engine.load(0, 0, program.pads)
    mismatches = [0] * len(program.layers)
    first: str | None = None
    trace: Trace | None = None
    for index in progress(range(len(x))):
        sample = x[index:index + 1]
        expected = run_layers(model, sample)
        engine.load(0, program.input.address, program.input.pack(quantize_input(model, sample)[0]))
        trace = engine.run(2 * predicted + 10_000)
        for number, layer in enumerate(program.layers):
            got, want = trace.tensor(number, layer.output), expected[layer.output.tensor][0]
            differing = np.argwhere(got != want)
            mismatches[number] += len(differing)
            if first is None and len(differing):
                first = describe_mismatch(model, expected, index, number, differing[0], got, want)
    if trace is None:
        raise UserError("there is no sample to simulate; give --samples at least 1")
    cycles = trace.cycles
    return {
        "samples": len(x), "mismatches": sum(mismatches), "first_mismatch": first,
        "cycles_per_inference": cycles, "macs": program.macs,
        "mac_units": program.config.mac_units,
        "mac_utilisation": program.macs / (cycles * program.config.mac_units),
        "layers": [{"name": layer.name, "cycles": took, "predicted_cycles": layer.predicted_cycles,
                    "macs": layer.macs, "mismatches": wrong}
                   for layer, took, wrong
                   in zip(program.layers, trace.layer_cycles(), mismatches, strict=True)],
    }


def describe_mismatch(model: Model, expected: dict[str, np.ndarray], sample: int, number: int,
                      where: np.ndarray, got: np.ndarray, want: np.ndarray) -> str:
    """Where the engine and the reference part first: layer, place, both integers."""
    layer = model.layers[number]
    channel, row, column = (int(index) for index in where)
    text = (f"sample {sample}, layer {layer.name} ({type(layer).__name__}), channel {channel}, "
            f"row {row}, column {column}: engine {int(got[channel, row, column])}, "
            f"reference {int(want[channel, row, column])}")
    if isinstance(layer, (Conv2d, AveragePool2d)):
        constants = layer.requantization
        text += (f" (bias {int(constants.bias[channel])}, multiplier "
                 f"{int(constants.multiplier[channel])}, shift {constants.shift})")
    return text
