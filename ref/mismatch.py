"""Where two evaluations of a model part: the first place, what led there, and a reproducer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from .atomic import write_folder
from .bounds import accumulator_proof, input_bounds, layer_operands
from .file import model_bytes
from .model import AveragePool2d, Conv2d, Input, Layer, Model
from .npz import npz_bytes
from .ops import average_pool2d, conv2d

#: The file that tells a reproducer's folder from any other.
DESCRIPTION = "mismatch.json"


@dataclass(frozen=True)
class Mismatch:
    """The first integer, in the order of execution, in which an executor differs from `ref`.

    ``accumulator`` is the sum of products that belongs there, bias included (convolutions and
    average pools), with the constants that make the result of it; None for other layers.
    """

    executor: str
    tensor: str
    layer: str | None                       # None: the network's rounded input
    kind: str                               # the layer's class
    sample: int
    channel: int
    row: int
    column: int
    given: int
    expected: int
    differing: int                          # integers of this tensor, over the samples compared
    accumulator: int | None = None
    bias: int | None = None
    multiplier: int | None = None
    shift: int | None = None

    def __str__(self) -> str:
        """One sentence with all of it."""
        where = f"layer {self.layer!r} ({self.kind})" if self.layer else "the rounded input"
        text = (f"{self.executor} differs first in {where}, sample {self.sample}, channel "
                f"{self.channel}, row {self.row}, column {self.column}: {self.given} instead of "
                f"{self.expected}")
        if self.accumulator is not None:
            text += (f" (accumulator {self.accumulator} with bias {self.bias}, multiplier "
                     f"{self.multiplier}, shift {self.shift})")
        return text


def find_mismatch(model: Model, expected: dict[str, np.ndarray], given: dict[str, np.ndarray],
                  executor: str, first_sample: int = 0) -> Mismatch | None:
    """The first difference, or None; tensors that ``given`` lacks are not compared.

    Both hold integers (N, C, H, W) by tensor name, ``expected`` those of `ref.run_layers` for at
    least as many samples, of which the first is number ``first_sample`` of the data.
    """
    makers: dict[str, Layer] = {layer.output: layer for layer in model.layers}
    for name in (model.input.tensor, *makers):
        if name not in given:
            continue
        values = given[name]
        wrong = np.argwhere(values != expected[name][:len(values)])
        if not len(wrong):
            continue
        sample, channel, row, column = place = tuple(map(int, wrong[0]))
        layer = makers.get(name)
        found = Mismatch(executor, name, layer.name if layer else None,
                         type(layer).__name__ if layer else "Input", first_sample + sample,
                         channel, row, column, int(values[place]), int(expected[name][place]),
                         len(wrong))
        if isinstance(layer, Conv2d | AveragePool2d):
            sums = _accumulators(layer, expected[layer.inputs[0]][sample:sample + 1])
            rule = layer.requantization
            return replace(found, accumulator=int(sums[0, channel, row, column]
                                                  + rule.bias[channel]),
                           bias=int(rule.bias[channel]), multiplier=int(rule.multiplier[channel]),
                           shift=rule.shift)
        return found
    return None


def save_reproducer(folder: str | Path, model: Model, mismatch: Mismatch,
                    expected: dict[str, np.ndarray], given: dict[str, np.ndarray],
                    first_sample: int = 0) -> None:
    """Write what a mismatch needs to be met again; the maps are as `find_mismatch` took them.

    ``folder`` is made, or replaced when it holds a reproducer: ``mismatch.json``, the fields of
    `Mismatch`; ``maps.npz``, of its sample the layer's inputs (``input_0``, ...) and ``expected``
    and ``given`` results, (C, H, W) each; and for a layer with one input ``layer.q.npz`` and
    ``data.npz``, a network of this layer alone and its input, for any command that takes them.
    Raises `UserError` when ``folder`` holds anything else.
    """
    layer = next((one for one in model.layers if one.output == mismatch.tensor), None)
    sample = mismatch.sample - first_sample
    maps = {f"input_{index}": expected[name][sample]
            for index, name in enumerate(layer.inputs if layer else ())}
    maps |= {"expected": expected[mismatch.tensor][sample],
             "given": given[mismatch.tensor][sample]}
    files = {DESCRIPTION: (json.dumps(asdict(mismatch), indent=1) + "\n").encode(),
             "maps.npz": npz_bytes(maps)}
    if layer is not None and len(layer.inputs) == 1:
        alone, x = _alone(model, layer, expected[layer.inputs[0]][sample:sample + 1])
        files |= {"layer.q.npz": model_bytes(alone), "data.npz": npz_bytes(x)}
    write_folder(folder, files, DESCRIPTION)


def _accumulators(layer: Conv2d | AveragePool2d, x: np.ndarray) -> np.ndarray:
    """Sums of products of a layer's inputs (N, C, H, W), without bias."""
    if isinstance(layer, Conv2d):
        return conv2d(x, layer.weight, layer.window, layer.pad_value, layer.groups)
    return average_pool2d(x, layer.window)


def _alone(model: Model, layer: Layer, x: np.ndarray) -> tuple[Model, dict[str, Any]]:
    """A model of one layer with one input, and the data file that feeds ``x`` to it."""
    source = model.tensors[layer.inputs[0]]
    dtype = "int8" if source.signed else "uint8"
    rule = Input(source.name, dtype, 1, 0, source.scale, np.zeros(()), source.shape)
    if isinstance(layer, Conv2d | AveragePool2d):
        weight, bias, pad_value, groups = layer_operands(layer, source.shape[0])
        layer = replace(layer, proof=accumulator_proof(
            weight, bias, *input_bounds(rule, source), pad_value, groups))
    tensors = {name: model.tensors[name] for name in (source.name, layer.output)}
    return (Model(f"{model.name}, layer {layer.name}", rule, tensors, (layer,)),
            {"x": x.astype(dtype), "x_scale": source.scale})
