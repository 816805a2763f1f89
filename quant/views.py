"""Views: which element of a map each element of a rearranged ONNX tensor is."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto

from ref.errors import UserError

from .onnx_file import attributes, where

#: Operators that only rearrange elements.
REARRANGING = ("Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze")


def rearranged(node: NodeProto, view: np.ndarray, constants: dict[str, np.ndarray]) -> np.ndarray:
    """``view`` (batch of 1 first) after one of `REARRANGING`; other operators keep it.

    Raises `UserError` when the batch does not stay the first axis.
    """
    values = attributes(node)
    match node.op_type:
        case "Transpose":
            view = view.transpose(values.get("perm", list(range(view.ndim))[::-1]))
        case "Flatten":
            axis = values.get("axis", 1)
            view = view.reshape(math.prod(view.shape[:axis]), -1)
        case "Reshape":
            sizes = _integers(node, constants)
            if not values.get("allowzero", 0):
                sizes = [size or view.shape[axis] for axis, size in enumerate(sizes)]
            view = view.reshape(sizes)
        case "Squeeze":
            view = np.squeeze(view, axes_of(node, constants))
        case "Unsqueeze":
            view = np.expand_dims(view, axes_of(node, constants) or ())
    if view.ndim < 2 or view.shape[0] != 1:
        raise UserError(f"{where(node)} mixes the batch with other axes; keep the batch as the "
                        "first axis")
    return view


def axes_of(node: NodeProto, constants: dict[str, np.ndarray]) -> tuple[int, ...] | None:
    """The axes of an operator that has them as attribute or, in later versions, as input."""
    if len(node.input) > 1 and node.input[1]:
        return tuple(_integers(node, constants))
    axes = attributes(node).get("axes")
    return None if axes is None else tuple(axes)


def _integers(node: NodeProto, constants: dict[str, np.ndarray]) -> list[int]:
    """The constant second input of a node."""
    if node.input[1] not in constants:
        raise UserError(f"{where(node)} takes {node.input[1]!r} from data; export the network with "
                        "fixed shapes")
    return [int(value) for value in constants[node.input[1]].ravel()]


def is_ordered(view: np.ndarray) -> bool:
    """Whether the elements are in the map's own order."""
    return bool(np.array_equal(view.ravel(), np.arange(view.size)))
