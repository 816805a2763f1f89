"""The compiled evaluator: a model's layers through the kernels, in threads, what is left in numpy.

The integers are those of `ref.layers`. Feature maps are bytes, as `ref.packing` says; a layer whose
numbers the kernels do not hold (results or weights of more than 8 bits, sums that could pass 32)
is computed by numpy between them.
"""

from __future__ import annotations

import ctypes
import math
import os
import weakref
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache

import numpy as np

from .arena import Arena
from .kernels import kernels
from .layers import check_input, quantize_input, run_layer
from .model import Add, AveragePool2d, Conv2d, Layer, Model, Tensor
from .packing import Kernel, Unsupported, fits, layer_kernel, offset_of

#: Bytes of a layer's maps that a thread has in hand: they stay in its core's own cache.
CACHED_BYTES = 1 << 19


@dataclass(frozen=True)
class Step:
    """One layer: its kernel, or none where numpy computes it."""

    layer: Layer
    kernel: Kernel | None
    dead: tuple[str, ...]               # maps that no later layer reads


class Plan:
    """A model of well-formed layers (see `check_model`) prepared for the kernels of a library."""

    def __init__(self, model: Model, library: ctypes.CDLL) -> None:
        last = {name: index for index, layer in enumerate(model.layers) for name in layer.inputs}
        self.steps: list[Step] = []
        self.stored = {model.input.tensor}          # maps that are bytes
        self.arenas: list[Arena] = []               # of no thread at present
        for index, layer in enumerate(model.layers):
            sources = [model.tensors[name] for name in layer.inputs]
            result, kernel = model.tensors[layer.output], None
            if self.stored.issuperset(layer.inputs):
                try:
                    kernel = layer_kernel(layer, sources, result, library)
                except Unsupported:
                    pass
            if kernel is not None or _fits(layer, result):
                self.stored.add(layer.output)
            dead = tuple(name for name in dict.fromkeys(layer.inputs) if last[name] == index)
            self.steps.append(Step(layer, kernel, dead))
        each = max(sum(math.prod(model.tensors[name].shape)
                       for name in (*layer.inputs, layer.output)) for layer in model.layers)
        self.samples_at_once = max(1, CACHED_BYTES // each)

    def run(self, model: Model, x: np.ndarray, names: Collection[str]) -> dict[str, np.ndarray]:
        """The maps called ``names``, int64 (N, C, H, W), of the model's data-file integers ``x``.

        ``model`` is the one that this was made for.
        """
        check_input(model, x)
        results = {name: np.empty((len(x), *model.tensors[name].shape), np.int64) for name in names}
        count = threads()
        parts = -(-len(x) // (self.samples_at_once * count)) * count
        step = max(1, -(-len(x) // max(parts, 1)))

        starts = iter(range(0, len(x), step))

        def work() -> None:
            for start in starts:
                kept = {name: values[start:start + step] for name, values in results.items()}
                try:
                    arena = self.arenas.pop()
                except IndexError:          # all are in use
                    arena = Arena()
                self._run_part(model, x[start:start + step], kept, arena)
                self.arenas.append(arena)

        helpers = [_pool(count).submit(work) for _ in range(min(count, parts) - 1)]
        work()
        for helper in helpers:
            helper.result()
        return results

    def _run_part(self, model: Model, x: np.ndarray, results: dict[str, np.ndarray],
                  arena: Arena) -> None:
        """Fill the maps ``results`` for the samples ``x``."""
        tensors, name = model.tensors, model.input.tensor
        live = {name: _input_map(model, x, arena)}
        _keep(results, name, live[name], tensors[name])
        for step in self.steps:
            name = step.layer.output
            sources = [live[source] for source in step.layer.inputs]
            if step.kernel is not None:
                live[name] = step.kernel.compute(arena, *sources)
            else:
                live[name] = run_layer(step.layer, *(
                    _integers(values, tensors[source])
                    for source, values in zip(step.layer.inputs, sources, strict=True)))
                if name in self.stored:
                    live[name] = _bytes(live[name], tensors[name], arena)
            _keep(results, name, live[name], tensors[name])
            for source in step.dead:
                arena.give(live.pop(source))
        for values in live.values():
            arena.give(values)


#: By model, those in use.
_plans: dict[int, Plan] = {}


def plan_of(model: Model) -> Plan:
    """The plan of a model, made once for as long as the model lives.

    Raises `UserError` when there are no kernels and they cannot be built.
    """
    plan = _plans.get(id(model))
    if plan is None:
        plan = _plans[id(model)] = Plan(model, kernels())
        weakref.finalize(model, _plans.pop, id(model), None)
    return plan


@cache
def _pool(count: int) -> ThreadPoolExecutor:
    """The threads beside the caller's, kept: starting them takes as long as a small layer."""
    return ThreadPoolExecutor(count - 1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)      # a child has only its own thread


def threads() -> int:
    """How many threads to use: OMP_NUM_THREADS, as BLAS takes it, else one for each processor."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return int(wanted) if wanted.isdecimal() and int(wanted) else os.cpu_count() or 1


def _fits(layer: Layer, result: Tensor) -> bool:
    """Whether the result of a layer that numpy computes can be bytes."""
    match layer:
        case Conv2d() | AveragePool2d():
            return fits(layer.requantization, result)
        case Add():
            return fits(layer, result)
    return False


def _input_map(model: Model, x: np.ndarray, arena: Arena) -> np.ndarray:
    """The network's input for data-file integers that `check_input` took, as bytes."""
    rule, tensor = model.input, model.input_tensor
    natural = "int8" if tensor.signed else "uint8"
    if (rule.multiplier, rule.shift, rule.low_bits, tensor.bits) == (1, 0, 0, 8) \
            and x.dtype == natural:
        y, values = arena.new_map(len(x), tensor), x.reshape(-1, *tensor.shape).view(np.uint8)
        for channel in range(tensor.shape[0]):      # quicker than all at once
            y[..., channel] = values[:, channel]
        if tensor.signed:
            y ^= 128                                # adds it, and wraps
        return y
    return _bytes(quantize_input(model, x), tensor, arena)


def _bytes(values: np.ndarray, tensor: Tensor, arena: Arena) -> np.ndarray:
    """A map (N, C, H, W) of integers as bytes (N, H, W, C)."""
    y = arena.new_map(len(values), tensor)
    np.add(values.transpose(0, 2, 3, 1), offset_of(tensor), out=y, casting="unsafe")
    return y


def _integers(values: np.ndarray, tensor: Tensor) -> np.ndarray:
    """A map as numpy's layers want it: int64 (N, C, H, W)."""
    if values.dtype != np.uint8:
        return values
    return values.transpose(0, 3, 1, 2).astype(np.int64) - offset_of(tensor)


def _keep(results: dict[str, np.ndarray], name: str, values: np.ndarray, tensor: Tensor) -> None:
    """Write a map into the results if it is wanted."""
    if name in results:
        results[name][...] = _integers(values, tensor)
