"""Kernel, stride and padding of ONNX convolutions and pools as one explicit window."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto

from ref.errors import UserError
from ref.model import Window

from .onnx_file import where

#: Padding in the ONNX order: top, left, bottom, right.
Pads = tuple[int, int, int, int]
NO_PADS: Pads = (0, 0, 0, 0)
#: Largest kernel, in either direction, that a dilated convolution is spread out to.
LARGEST_SPREAD_KERNEL = 15


def window_of(node: NodeProto, values: dict, kernel: tuple[int, ...], size: tuple[int, int],
              extra: Pads) -> Window:
    """The window of a Conv, AveragePool or MaxPool node with attributes ``values``.

    ``kernel`` (rows, columns), ``size`` the map's (height, width), ``extra`` the padding of a Pad
    node before it. A MaxPool's ceil_mode becomes padding; elsewhere it is refused where it would
    matter.
    """
    stride = tuple(values.get("strides", (1, 1)))
    pads = list(values.get("pads", NO_PADS))
    mode = values.get("auto_pad", "NOTSET")
    if mode != "NOTSET":
        pads = list(NO_PADS)
    for axis in range(2):
        padded = size[axis] + extra[axis] + extra[axis + 2]
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            missing = max(0, (-(-padded // stride[axis]) - 1) * stride[axis] + kernel[axis]
                          - padded)
            before = missing // 2 if mode == "SAME_UPPER" else (missing + 1) // 2
            pads[axis], pads[axis + 2] = before, missing - before
    if min(pads) < 0:
        raise UserError(f"{where(node)} has negative padding {pads}; crop the map before it")
    total = [own + other for own, other in zip(pads, extra, strict=True)]
    if values.get("ceil_mode", 0):
        for axis in range(2):
            total[axis + 2] += _ceil_padding(node, kernel[axis], stride[axis],
                                             size[axis] + total[axis], total[axis + 2])
    window = Window((kernel[0], kernel[1]), (stride[0], stride[1]),
                    (total[0], total[1], total[2], total[3]))
    if min(window.output_size(*size)) < 1:
        raise UserError(f"{where(node)} has a {kernel[0]}x{kernel[1]} kernel, larger than its "
                        f"padded map of {size[0]}x{size[1]}; use a larger input or smaller kernel")
    return window


def _ceil_padding(node: NodeProto, kernel: int, stride: int, size: int, after: int) -> int:
    """Padding that makes the last, partial window of ceil_mode whole; ``size`` has none after."""
    steps = -(-(size + after - kernel) // stride)
    if steps * stride >= size:               # a window that would see nothing but padding
        steps -= 1
    missing = max(0, steps * stride + kernel - size - after)
    if missing and node.op_type != "MaxPool":
        raise UserError(f"{where(node)} has a last window beyond the map (ceil_mode=1); export it "
                        "with ceil_mode=0")
    return missing


def pad_node_pads(node: NodeProto, sizes: list[int]) -> Pads:
    """Padding of rows and columns by a Pad node whose ``sizes`` are all begins, then all ends."""
    if len(sizes) != 8 or any(sizes[axis] for axis in (0, 1, 4, 5)):
        raise UserError(f"{where(node)} pads the batch or the channels ({sizes}); only rows and "
                        "columns can be padded")
    if min(sizes) < 0:
        raise UserError(f"{where(node)} has negative padding {sizes}; crop the map before it")
    return sizes[2], sizes[3], sizes[6], sizes[7]


def spread_kernel(node: NodeProto, weight: np.ndarray, dilations: list[int]) -> np.ndarray:
    """The kernel with its dilation written out as zeros."""
    outputs, fan_in, *kernel = weight.shape
    sizes = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    if sizes == kernel:
        return weight
    if max(sizes) > LARGEST_SPREAD_KERNEL:
        raise UserError(f"{where(node)} has dilations {dilations}, which spread its kernel to "
                        f"{sizes[0]}x{sizes[1]}; at most {LARGEST_SPREAD_KERNEL} rows and columns "
                        "are supported")
    spread = np.zeros((outputs, fan_in, *sizes))
    spread[:, :, ::dilations[0], ::dilations[1]] = weight
    return spread
