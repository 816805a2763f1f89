"""Views: which element of a map each element of a rearranged ONNX tensor is."""

from __future__ import annotations

import math

import numpy as np
from onnx import NodeProto

from ref.errors import UserError
from ref.model import BLOCK
from ref.ops import space_to_depth

from .onnx_file import attributes, where

#: Operators that only rearrange elements, or leave some out.
REARRANGING = ("Flatten", "Reshape", "Slice", "SpaceToDepth", "Squeeze", "Transpose", "Unsqueeze")


def rearranged(node: NodeProto, view: np.ndarray, constants: dict[str, np.ndarray],
               batch: int = 1) -> np.ndarray:
    """``view`` (batch of 1 first) after one of `REARRANGING`; other operators keep it.

    A Reshape may name the ``batch`` that the network was exported for. Raises `UserError` when the
    batch does not stay the first axis.
    """
    values = attributes(node)
    match node.op_type:
        case "Transpose":
            view = view.transpose(values.get("perm", list(range(view.ndim))[::-1]))
        case "Flatten":
            axis = values.get("axis", 1)
            view = view.reshape(math.prod(view.shape[:axis]), -1)
        case "Reshape":
            sizes = _integers(node, constants, 1)
            if not values.get("allowzero", 0):
                sizes = [size or view.shape[axis] for axis, size in enumerate(sizes)]
            if sizes[:1] == [batch]:
                sizes[0] = 1
            try:
                view = view.reshape(sizes)
            except ValueError:
                raise UserError(f"{where(node)} makes {sizes} of the {view.size} values of a "
                                "sample; keep the batch as the first axis, or export the network "
                                "for a batch of one") from None
        case "Squeeze":
            view = np.squeeze(view, axes_of(node, constants))
        case "Unsqueeze":
            view = np.expand_dims(view, axes_of(node, constants) or ())
        case "Slice":
            view = view[_slices(node, view.ndim, constants)]
        case "SpaceToDepth":
            size, (_, channels, height, width) = values["blocksize"], view.shape
            view = view.reshape(1, channels, height // size, size, width // size, size)
            view = view.transpose(0, 3, 5, 1, 2, 4).reshape(1, -1, height // size, width // size)
    if view.ndim < 2 or view.shape[0] != 1:
        raise UserError(f"{where(node)} mixes the batch with other axes; keep the batch as the "
                        "first axis")
    return view


def axes_of(node: NodeProto, constants: dict[str, np.ndarray]) -> tuple[int, ...] | None:
    """The axes of an operator that has them as attribute or, in later versions, as input."""
    if len(node.input) > 1 and node.input[1]:
        return tuple(_integers(node, constants, 1))
    axes = attributes(node).get("axes")
    return None if axes is None else tuple(axes)


def _integers(node: NodeProto, constants: dict[str, np.ndarray], index: int) -> list[int]:
    """A constant input of a node."""
    if node.input[index] not in constants:
        raise UserError(f"{where(node)} takes {node.input[index]!r} from data; export the network "
                        "with fixed shapes")
    return [int(value) for value in constants[node.input[index]].ravel()]


def _slices(node: NodeProto, dimensions: int, constants: dict[str, np.ndarray]
            ) -> tuple[slice, ...]:
    """What a Slice keeps of each axis."""
    starts, ends, axes, steps = (
        _integers(node, constants, index) if index < len(node.input) and node.input[index] else None
        for index in range(1, 5))
    assert starts is not None and ends is not None       # required by ONNX, checked on reading
    kept = [slice(None)] * dimensions
    for axis, *bounds in zip(axes or range(len(starts)), starts, ends, steps or [1] * len(starts),
                             strict=True):
        kept[axis] = slice(*bounds)
    return tuple(kept)


def is_ordered(view: np.ndarray) -> bool:
    """Whether the elements are in the map's own order."""
    return bool(np.array_equal(view.ravel(), np.arange(view.size)))


def channel_order(view: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray | None:
    """Which channel of a map (C, H, W) each channel of ``view`` is, (C,).

    None where the view (1, C, H, W) does not show the map's channels whole and upright.
    """
    if view.shape != (1, *shape):
        return None
    order = view[0, :, 0, 0] // (shape[1] * shape[2])
    whole = np.arange(view.size).reshape(shape)[order]
    return order if np.array_equal(view[0], whole) else None


def squares_order(view: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray | None:
    """Which channel of the space-to-depth of a map (C, H, W) each channel of ``view`` is, (4 C,).

    None where the view (1, 4 C, H / 2, W / 2) shows something else.
    """
    channels, height, width = shape
    if view.shape[1:] != (channels * BLOCK ** 2, height / BLOCK, width / BLOCK):
        return None
    squares = space_to_depth(np.arange(view.size).reshape(1, *shape))[0]
    channel = {int(first): index for index, first in enumerate(squares[:, 0, 0])}
    order = np.array([channel.get(int(first), 0) for first in view[0, :, 0, 0]])
    return order if np.array_equal(view[0], squares[order]) else None
