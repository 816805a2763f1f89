"""The formats an integer model can be exported to; docstrings are the command's help."""

from __future__ import annotations

from collections.abc import Callable

from ref.model import Model
from ref.onnx_integer import integer_onnx


def _integer(model: Model) -> bytes:
    """Pure-integer ONNX, equal to the hardware bit for bit."""
    return integer_onnx(model).SerializeToString(deterministic=True)


#: What `-f` takes: name of a format, and the function that gives the file's bytes.
FORMATS: dict[str, Callable[[Model], bytes]] = {"integer": _integer}
