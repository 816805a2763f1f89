"""Running ONNX graphs: the integer graph as an oracle, the float network as the measure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import UserError

if TYPE_CHECKING:
    import onnx

#: Who can run an integer graph.
EXECUTORS = ("onnxruntime", "reference")

#: Samples per call of a graph with a free batch size.
BATCH = 32


#: A graph ready to run: samples (N, ...) in, values by name out.
Runner = Callable[[np.ndarray], dict[str, np.ndarray]]


def run_integer_onnx(proto_or_path: onnx.ModelProto | str | Path, x: np.ndarray,
                     executor: str = "onnxruntime", outputs: Iterable[str] | None = None
                     ) -> dict[str, np.ndarray]:
    """Results of an integer graph for the integers ``x`` (N, ...); see `integer_runner`."""
    return integer_runner(proto_or_path, executor, outputs)(x)


def run_float(onnx_path: onnx.ModelProto | str | Path, real_x: np.ndarray,
              outputs: Iterable[str] | None = None) -> dict[str, np.ndarray]:
    """Results of a float network for real inputs (N, ...); see `float_runner`."""
    return float_runner(onnx_path, outputs)(real_x)


def integer_runner(proto_or_path: onnx.ModelProto | str | Path, executor: str = "onnxruntime",
                   outputs: Iterable[str] | None = None) -> Runner:
    """Load an integer graph for integers of a data file.

    ``outputs`` names the values wanted, inner ones included; by default the graph's own outputs.
    The samples may spell the graph's input shape with or without axes of 1. Raises `UserError`
    when the file is no ONNX graph and `ValueError` for an executor that is not in `EXECUTORS`.
    """
    if executor not in EXECUTORS:
        raise ValueError(f"unknown executor {executor!r}; use one of {EXECUTORS}")
    proto = _load(proto_or_path)
    run = _runner(proto, _expose(proto, outputs), executor)
    shape = [size.dim_value for size in graph_input(proto).type.tensor_type.shape.dim]
    return lambda x: run(x.reshape(-1, *shape[1:]))


def float_runner(onnx_path: onnx.ModelProto | str | Path, outputs: Iterable[str] | None = None
                 ) -> Runner:
    """Load a float network into onnxruntime for real inputs.

    ``outputs`` names the values wanted, inner ones included (unknown names raise `UserError`);
    by default the network's own outputs. A network with a fixed batch size is run in such batches.
    """
    from onnx import helper

    proto = _load(onnx_path)
    run = _runner(proto, _expose(proto, outputs), "onnxruntime")
    dtype = helper.tensor_dtype_to_np_dtype(graph_input(proto).type.tensor_type.elem_type)
    return lambda real_x: run(real_x.astype(dtype))


def float_values(onnx_path: onnx.ModelProto | str | Path) -> tuple[str, set[str]]:
    """Name of a network's first output, and the names of all values its nodes compute."""
    proto = _load(onnx_path)
    return proto.graph.output[0].name, {name for node in proto.graph.node for name in node.output}


def graph_input(proto: onnx.ModelProto) -> onnx.ValueInfoProto:
    """The one input of a graph that is not a stored constant; raises `UserError` otherwise."""
    stored = {constant.name for constant in proto.graph.initializer}
    free = [value for value in proto.graph.input if value.name not in stored]
    if len(free) != 1:
        raise UserError(f"the network has {len(free)} inputs; only networks with one can be run")
    return free[0]


def _load(source: onnx.ModelProto | str | Path) -> onnx.ModelProto:
    """A private copy of a graph, or the graph of a file."""
    import onnx
    from google.protobuf.message import DecodeError

    if isinstance(source, onnx.ModelProto):
        copy = onnx.ModelProto()
        copy.CopyFrom(source)
        return copy
    try:
        return onnx.load(source)
    except DecodeError as error:
        raise UserError(f"{source} is not an ONNX file; export the network again") from error


def _expose(proto: onnx.ModelProto, outputs: Iterable[str] | None) -> list[str]:
    """Make the named values outputs of the graph; their names in order."""
    from onnx import helper

    own = [value.name for value in proto.graph.output]
    if outputs is None:
        return own
    names = list(outputs)
    computed = {name for node in proto.graph.node for name in node.output}
    for name in names:
        if name not in computed:
            raise UserError(f"the network computes no value {name!r}; name one of its tensors")
        if name not in own:
            proto.graph.output.append(helper.make_empty_tensor_value_info(name))
    return names


def _runner(proto: onnx.ModelProto, names: list[str], executor: str) -> Runner:
    """A graph that runs batch by batch."""
    fed = graph_input(proto)
    axes = fed.type.tensor_type.shape.dim
    fixed = axes[0].dim_value if len(axes) else 0    # 0 as well where the size is symbolic
    call = _session(proto, names, executor)

    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for batch, count in _batches(x, fixed):
            for name, value in zip(names, call({fed.name: batch}), strict=True):
                parts[name].append(value[:count])
        return {name: np.concatenate(values) for name, values in parts.items()}

    return run


def _batches(x: np.ndarray, fixed: int) -> Iterator[tuple[np.ndarray, int]]:
    """Batches of ``fixed`` samples (0: any number) and how many of each are not filling."""
    size = fixed or BATCH
    for start in range(0, len(x), size):
        batch = x[start:start + size]
        count = len(batch)
        if fixed and count < fixed:
            batch = np.concatenate([batch, np.repeat(batch[-1:], fixed - count, axis=0)])
        yield batch, count


def _session(proto: onnx.ModelProto, names: list[str], executor: str) -> Any:
    """A function from a feed to the named values."""
    if executor == "reference":
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(proto)
        return lambda feed: evaluator.run(names, feed)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # 8-bit products must not saturate on processors without VNNI instructions.
    options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options,
                                               providers=["CPUExecutionProvider"])
    except Exception as error:    # onnxruntime's exceptions share no other base class
        raise UserError(f"onnxruntime cannot load the network ({error}); check the file") from error

    def call(feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return session.run(names, feed)
        except Exception as error:
            raise UserError(f"onnxruntime cannot run the network ({error}); check that the data "
                            "has the network's input shape") from error

    return call
