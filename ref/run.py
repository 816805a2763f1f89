"""The exact evaluator: what every integer of a model's feature maps is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, get_args

import numpy as np

from .arithmetic import SHIFTWISE, Arithmetic
from .compiled import Plan, plan_of
from .errors import UserError
from .kernels import built, usable
from .layers import quantize_input, run_layer
from .model import Conv2d, Model

#: Working memory of numpy's evaluator in bytes, results not counted: more misses the caches.
WORKING_MEMORY = 32 << 20
#: Which evaluator: numpy, which is the definition, the compiled kernels, or of both by the work.
Engine = Literal["auto", "numpy", "compiled"]
#: Products from which on the kernels are used where they are built, and from which on building
#: them, which takes seconds, is quicker than numpy.
WORTH_USING, WORTH_BUILDING = 1 << 22, 1 << 33


def run(model: Model, x: np.ndarray, engine: Engine = "auto") -> np.ndarray:
    """The network's integer result for data-file integers ``x``: int64 (N, C, H, W).

    A classifier's result is (N, classes, 1, 1); `logits` gives it as (N, classes). Every engine
    gives the same integers. "auto" takes the compiled one for work that is worth it and numpy where
    there is no compiler; "compiled" raises `UserError` there.
    """
    plan = _plan(model, len(x), engine)
    if plan is not None:
        return plan.run(model, x, [model.output_tensor.name])[model.output_tensor.name]
    results = []
    for start, stop in _batches(model, len(x)):
        live = {model.input.tensor: quantize_input(model, x[start:stop])}
        for index, layer in enumerate(model.layers):
            live[layer.output] = run_layer(layer, *(live[name] for name in layer.inputs))
            later = {name for rest in model.layers[index + 1:] for name in rest.inputs}
            live = {name: live[name] for name in live if name in later | {layer.output}}
        results.append(live[model.layers[-1].output])
    return _join(results, model.output_tensor.shape)


def logits(model: Model, x: np.ndarray) -> np.ndarray:
    """The class scores of a network that ends in a vector: int64 (N, classes).

    Raises `UserError` when the network ends in a map larger than 1x1.
    """
    if model.output_tensor.shape[1:] != (1, 1):
        raise UserError(f"the network {model.name!r} ends in a map of shape "
                        f"{model.output_tensor.shape}, not in class scores; use run")
    return run(model, x)[:, :, 0, 0]


def run_layers(model: Model, x: np.ndarray, arithmetic: Arithmetic = SHIFTWISE,
               engine: Engine = "auto") -> dict[str, np.ndarray]:
    """Every feature map of the network, its integer input included, by tensor name.

    Each is int64 (N, C, H, W). All of them are held at once: give few samples of a large network.
    ``engine`` is that of `run`; arithmetics other than `SHIFTWISE` are numpy's.
    """
    plan = _plan(model, len(x), engine) if arithmetic == SHIFTWISE else None
    if plan is not None:
        return plan.run(model, x, model.tensors)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in model.tensors}
    for start, stop in _batches(model, len(x)):
        maps = {model.input.tensor: quantize_input(model, x[start:stop])}
        for layer in model.layers:
            maps[layer.output] = run_layer(layer, *(maps[name] for name in layer.inputs),
                                           arithmetic=arithmetic)
        for name, values in maps.items():
            parts[name].append(values)
    return {name: _join(values, model.tensors[name].shape) for name, values in parts.items()}


def _plan(model: Model, samples: int, engine: Engine) -> Plan | None:
    """The model prepared for the kernels, or None where numpy is to run it."""
    if engine not in get_args(Engine):
        raise UserError(f"engine must be one of {', '.join(get_args(Engine))}, not {engine}")
    if engine == "auto":
        products = samples * sum(
            layer.weight[0].size * math.prod(model.tensors[layer.output].shape)
            for layer in model.layers if isinstance(layer, Conv2d))
        if products < (WORTH_USING if built() else WORTH_BUILDING) or not usable():
            return None
    return None if engine == "numpy" else plan_of(model)


def _batches(model: Model, samples: int) -> Iterator[tuple[int, int]]:
    """Ranges of samples whose working memory stays within `WORKING_MEMORY`."""
    per_sample = 1
    for layer in model.layers:
        before = sum(math.prod(model.tensors[name].shape) for name in layer.inputs)
        after = math.prod(model.tensors[layer.output].shape)
        patches = 0
        if isinstance(layer, Conv2d):    # its products' operands in float64, at worst
            rows_columns = math.prod(model.tensors[layer.output].shape[1:])
            patches = before * 8 + 8 * rows_columns * layer.groups * layer.weight[0].size
        per_sample = max(per_sample, 8 * (before + 3 * after) + patches)
    step = max(1, WORKING_MEMORY // per_sample)
    for start in range(0, samples, step):
        yield start, min(start + step, samples)


def _join(parts: list[np.ndarray], shape: tuple[int, int, int]) -> np.ndarray:
    """The batches one after the other; no samples give an empty array."""
    return np.concatenate(parts) if parts else np.empty((0, *shape), np.int64)
