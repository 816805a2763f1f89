"""Small networks that branch, by hand: copies, concatenations and sums of 8-bit maps."""

import numpy as np

from ref import Add, Concat, Input, MaxPool2d, Model, Tensor, Window
from ref.check import check_model

ONE = np.array(1.0)


def network(shape, *layers, signed=False):
    """A network on 8-bit maps, whose layers say the shape and the sign of their results."""
    tensors = {"x": Tensor("x", shape, 8, signed, ONE)}
    for layer, result, result_signed in layers:
        tensors[layer.output] = Tensor(layer.output, result, 8, result_signed, ONE)
    rule = Input("x", "int8" if signed else "uint8", 1, 0, ONE, np.array(0.0), shape)
    model = Model("joins", rule, tensors, tuple(layer for layer, *_ in layers))
    check_model(model)
    return model


def copy(source, target, shape, signed=False):
    """A layer that copies: a maximum over one pixel."""
    return MaxPool2d(target, (source,), target, Window((1, 1))), shape, signed


def joined(sources, target, shape, signed=False):
    return Concat(target, tuple(sources), target), shape, signed


def summed(sources, target, shape, multiplier, shift=20, signed=False):
    """A sum that clips at the ends of its type only."""
    count = shape[0]
    lowest = -128 if signed else 0
    return (Add(target, tuple(sources), target, np.array(multiplier, np.int64).reshape(2, count),
                shift, np.full(count, lowest), np.full(count, lowest + 255)), shape, signed)
