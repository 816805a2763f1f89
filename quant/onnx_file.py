"""An ONNX file read, checked and reduced to its needed nodes with constants folded."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from ref.errors import UserError

from .qoperators import without_qoperators
from .stored import StoredConstant, fold_quantizer

#: Oldest operator set whose meaning the import knows.
OLDEST_OPSET = 11
#: Operators the import understands when they act on data (`quant.import_onnx`).
OPERATORS = frozenset({
    "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Conv",
    "DequantizeLinear", "Div", "Dropout", "Flatten", "Gemm", "GlobalAveragePool",
    "GlobalMaxPool", "Identity", "LeakyRelu", "LogSoftmax", "MatMul", "Max", "MaxPool", "Min",
    "Mul", "PRelu", "Pad", "QuantizeLinear", "ReduceMax", "ReduceMean", "Relu", "Reshape",
    "Slice", "Softmax", "SpaceToDepth", "Squeeze", "Sub", "Transpose", "Unsqueeze"})
_ACTIVATION = ("train with ReLU, ReLU6 or leaky ReLU in its place, or, at the end of the network, "
               "cut it off and leave it to the host")
_STATE = "cut the network before it, since only networks without state are supported"
_NORMALIZATION = "train with BatchNormalization in its place, which fuses into convolutions"
_UPSAMPLING = "end the network before it and enlarge its map on the host"
#: What to do instead, where a list of the supported operators is no help.
REMEDIES = {
    **dict.fromkeys(("Celu", "Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "Mish", "Selu",
                     "Sigmoid", "Softplus", "Swish", "Tanh"), _ACTIVATION),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), _STATE),
    **dict.fromkeys(("GroupNormalization", "InstanceNormalization", "LayerNormalization", "LRN"),
                    _NORMALIZATION),
    **dict.fromkeys(("ConvTranspose", "DepthToSpace", "Resize", "Upsample"), _UPSAMPLING),
    "NonMaxSuppression": "cut the network before it and select boxes on the host",
}
#: Those that may take more than one input from data.
JOINING = ("Add", "Concat")
#: Operators between real values and integers.
QUANTIZING = ("DequantizeLinear", "QuantizeLinear")
#: Operators that only move the elements of a constant.
MOVING = ("Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze")
#: Operators that give other results each time; they are no constants even without inputs.
RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomUniform")
#: Types of a network's real input.
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


@dataclass(frozen=True, eq=False)
class OnnxGraph:
    """The nodes that act on data in execution order, and the constants they may read."""

    name: str
    opset: int
    input: str
    batch: int                              # its fixed size in the file, else 1
    input_shape: tuple[int, ...]            # without the batch
    output: str
    nodes: tuple[NodeProto, ...]
    constants: dict[str, np.ndarray]
    stored: dict[str, StoredConstant]       # those of the constants that came quantized


def where(node: NodeProto) -> str:
    """How an error names a node: its operator and its name, or its output where it has none."""
    return f"{node.op_type} {node.name or node.output[0]!r}"


def attributes(node: NodeProto) -> dict:
    """A node's attributes as Python values; text as str."""
    values = {attribute.name: onnx.helper.get_attribute_value(attribute)
              for attribute in node.attribute}
    return {name: value.decode() if isinstance(value, bytes) else value
            for name, value in values.items()}


def read_graph(path: str | Path) -> OnnxGraph:
    """Read an ONNX network of one input and one output, for a batch of one sample.

    QOperator networks come as QDQ ones (see `quant.qoperators`).

    Raises `UserError` for a file that is no ONNX network, is damaged, or has more inputs or
    outputs, subgraphs, operators out of reach or dynamic sizes; `OSError` when it cannot be read.
    """
    model = without_qoperators(_load(path))
    graph = model.graph
    opset = _opset(model, path)
    constants = {tensor.name: _array(tensor, path) for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1:
        raise UserError(f"{path} has {len(inputs)} inputs "
                        f"({', '.join(value.name for value in inputs) or 'none'}); export a "
                        "network with exactly one")
    if len(graph.output) != 1:
        raise UserError(f"{path} has {len(graph.output)} outputs "
                        f"({', '.join(value.name for value in graph.output) or 'none'}); export a "
                        "network with exactly one")
    shape = _input_shape(inputs[0])
    shapes = _infer_shapes(model, inputs[0], path)
    nodes = _needed(graph.node, graph.output[0].name)
    kept, stored = list[NodeProto](), dict[str, StoredConstant]()
    for node in nodes:
        if not _fold(node, constants, stored, shapes, model):
            kept.append(node)
    _check_operators(kept)
    _check_joins(kept, inputs[0].name)
    batch = max(1, inputs[0].type.tensor_type.shape.dim[0].dim_value)
    return OnnxGraph(Path(path).stem, opset, inputs[0].name, batch, shape, graph.output[0].name,
                     tuple(kept), constants, stored)


def _load(path: str | Path) -> ModelProto:
    """The parsed file; truncated, empty and foreign files are refused."""
    size = os.stat(path).st_size
    try:
        model = onnx.load(str(path))
    except (DecodeError, ValueError, onnx.checker.ValidationError) as error:
        raise UserError(f"{path} is not an ONNX network or is damaged ({size} bytes); export it "
                        "again") from error
    if model.ir_version == 0 or not model.graph.node:
        raise UserError(f"{path} is not an ONNX network or is damaged ({size} bytes); export it "
                        "again")
    return model


def _opset(model: ModelProto, path: str | Path) -> int:
    """Version of the standard operator set."""
    version = max((entry.version for entry in model.opset_import
                   if entry.domain in ("", "ai.onnx")), default=0)
    if version < OLDEST_OPSET:
        raise UserError(f"{path} uses ONNX operator set {version}; export it with operator set "
                        f"{OLDEST_OPSET} or later")
    return version


def _array(tensor: TensorProto, path: str | Path) -> np.ndarray:
    """A stored constant as an array."""
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged: its constant {tensor.name!r} does not have the size "
                        "its shape asks for; export it again") from error


def _input_shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """The input's shape without the batch; every other axis must be known."""
    kind = value.type.tensor_type
    if kind.elem_type not in FLOATS:
        name = TensorProto.DataType.Name(kind.elem_type).lower()
        raise UserError(f"input {value.name!r} is {name}, not float; export the network with a "
                        "float input")
    sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    if not 2 <= len(sizes) <= 4:
        raise UserError(f"input {value.name!r} has {len(sizes)} axes; a network takes (batch, "
                        "channels, height, width) or (batch, features)")
    for axis, (size, dim) in enumerate(zip(sizes, kind.shape.dim, strict=True)):
        if axis and size < 1:
            raise UserError(f"axis {axis} of input {value.name!r} has dynamic size "
                            f"{dim.dim_param or '?'}; export the network with fixed sizes, only "
                            "the batch may be dynamic")
    return tuple(sizes[1:])


def _infer_shapes(model: ModelProto, value: onnx.ValueInfoProto, path: str | Path
                  ) -> dict[str, tuple[int, ...]]:
    """Shapes of the tensors that are fully known for a batch of one sample."""
    for node in model.graph.node:
        _check_domain(node)
    model = ModelProto.FromString(model.SerializeToString())
    graph_input = next(entry for entry in model.graph.input if entry.name == value.name)
    graph_input.type.tensor_type.shape.dim[0].dim_value = 1
    for entry in model.graph.output:      # a stale batch there would contradict the batch of one
        entry.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    try:
        inferred = shape_inference.infer_shapes(model, check_type=True, data_prop=True,
                                                strict_mode=True)
    except Exception as error:            # the library raises bare C++ exceptions of several kinds
        reason = " ".join(str(error).split())
        raise UserError(f"{path} has tensors that do not fit together: {reason}; export it "
                        "again") from error
    shapes = {}
    for entry in [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]:
        dims = entry.type.tensor_type.shape.dim
        if all(dim.HasField("dim_value") for dim in dims):
            shapes[entry.name] = tuple(dim.dim_value for dim in dims)
    return shapes


def _check_domain(node: NodeProto) -> None:
    """Refuse operators outside the standard set and subgraphs."""
    if node.domain not in ("", "ai.onnx"):
        raise UserError(f"{where(node)} is of domain {node.domain!r}, outside the standard "
                        "operators; export the network with standard operators only")
    for attribute in node.attribute:
        if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
            raise UserError(f"{where(node)} holds a subgraph ({attribute.name}), which hardware "
                            "cannot run; export the network without control flow")


def _check_operators(nodes: list[NodeProto]) -> None:
    """Refuse operators that act on data and are not in `OPERATORS`, all in one sentence."""
    refused = [node for node in nodes if node.op_type not in OPERATORS]
    if refused:
        what = "is an unsupported operator" if len(refused) == 1 else "are unsupported operators"
        general = (f"replace {'it' if len(refused) == 1 else 'them'} by supported ones "
                   f"({', '.join(sorted(OPERATORS))}) or cut the network there")
        remedies = dict.fromkeys(REMEDIES.get(node.op_type, general) for node in refused)
        raise UserError(f"{', '.join(map(where, refused))} {what}; {'; '.join(remedies)}")


def _needed(nodes: list[NodeProto], output: str) -> list[NodeProto]:
    """The nodes that ``output`` depends on, in their order."""
    wanted, needed = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.output):
            needed.append(node)
            wanted |= set(node.input)
    return needed[::-1]


def _fold(node: NodeProto, constants: dict[str, np.ndarray], stored: dict[str, StoredConstant],
          shapes: dict[str, tuple[int, ...]], model: ModelProto) -> bool:
    """Add the node's results to ``constants`` when they do not depend on data."""
    if node.op_type == "Shape" and node.input[0] in shapes:
        values = attributes(node)
        shape = shapes[node.input[0]][values.get("start", 0):values.get("end")]
        constants[node.output[0]] = np.array(shape, np.int64)
        return True
    if node.op_type == "CastLike" and node.input[0] in constants:
        constants[node.output[0]] = np.asarray(constants[node.input[0]], np.float32)
        return True
    if node.op_type in RANDOM or any(name and name not in constants for name in node.input):
        return False
    if node.op_type in QUANTIZING:
        fold_quantizer(node, constants, stored, where(node))
        return True
    feeds = {name: constants[name] for name in node.input if name}
    constants.update(_computed(node, feeds, model))
    if node.op_type in MOVING and node.input[0] in stored:
        stored[node.output[0]] = stored[node.input[0]].map(lambda part: _computed(
            node, feeds | {node.input[0]: part}, model)[node.output[0]])
    return True


def _computed(node: NodeProto, feeds: dict[str, np.ndarray], model: ModelProto
              ) -> dict[str, np.ndarray]:
    """The results of a node, by name, for inputs that are all constants."""
    graph = onnx.helper.make_graph(
        [node], "constant", [onnx.helper.make_tensor_value_info(
            name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in feeds.items()],
        [onnx.helper.make_empty_tensor_value_info(name) for name in node.output if name])
    single = onnx.helper.make_model(graph, opset_imports=model.opset_import,
                                    ir_version=model.ir_version)
    try:
        results = ReferenceEvaluator(single).run(None, feeds)
    except Exception as error:            # whatever the operator's own implementation raises
        raise UserError(f"{where(node)} cannot be computed from its constants "
                        f"({type(error).__name__}); fold it before export") from error
    named = [name for name in node.output if name]
    return {name: np.asarray(value) for name, value in zip(named, results, strict=True)}


def _check_joins(nodes: list[NodeProto], source: str) -> None:
    """Refuse operators other than `JOINING` that take more than one input from data."""
    made = {source} | {name for node in nodes for name in node.output}
    for node in nodes:
        data = [name for name in node.input if name in made]
        if len(data) > 1 and node.op_type not in JOINING:
            raise UserError(f"{where(node)} joins {len(data)} branches ({', '.join(data)}); only "
                            f"{' and '.join(JOINING)} can join branches, replace it")
