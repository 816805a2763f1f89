"""The formats an integer model can be exported to; docstrings are the command's help."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from ref.errors import UserError
from ref.model import Model
from ref.onnx_integer import integer_onnx

from .encodings import EncodingsGraph
from .float_graph import FloatGraph
from .qdq import QdqGraph
from .qonnx import QonnxGraph


def _integer(model: Model) -> bytes:
    """Pure-integer ONNX, equal to the hardware bit for bit."""
    return _serialized(integer_onnx(model))


def _qdq(model: Model) -> bytes:
    """ONNX with QuantizeLinear and DequantizeLinear around float operators."""
    return _serialized(QdqGraph(model).proto())


def _qonnx(model: Model) -> bytes:
    """ONNX with the Quant nodes of QONNX around float operators."""
    return _serialized(QonnxGraph(model).proto())


def _float(model: Model) -> bytes:
    """The float ONNX network that the encodings describe."""
    return _serialized(FloatGraph(model).proto())


def _encodings(model: Model) -> bytes:
    """AIMET-style encodings (JSON) of the float export."""
    return EncodingsGraph(model).json()


def _serialized(proto: onnx.ModelProto) -> bytes:
    """An ONNX graph as a file, the same for the same graph."""
    return proto.SerializeToString(deterministic=True)


#: What `-f` takes: name of a format, and the function that gives the file's bytes.
FORMATS: dict[str, Callable[[Model], bytes]] = {
    "integer": _integer, "qdq": _qdq, "qonnx": _qonnx, "float": _float, "encodings": _encodings}


def export(model: Model, form: str) -> bytes:
    """The file of a model in another format, one of `FORMATS`.

    Raises `UserError` for an unknown format, and naming the layer that the format cannot hold.
    """
    if form not in FORMATS:
        raise UserError(f"the format {form!r} is unknown; use one of {', '.join(FORMATS)}")
    return FORMATS[form](model)
