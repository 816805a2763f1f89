"""Counting the integers in which other executors differ from `ref`, map by map."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .errors import UserError
from .mismatch import Mismatch, find_mismatch, save_reproducer
from .model import Conv2d, Model
from .npz import read_npz
from .onnx_integer import integer_onnx, rounded_input
from .oracles import EXECUTORS, integer_runner
from .qlinearconv import QLinearConv, layer_refusal


class Differences:
    """Differing integers by executor, and the first of all with what it takes to meet it again.

    ``mismatches`` and ``samples`` count by executor; ``skipped`` says, for QLinearConv, which
    layers it cannot express, and why.
    """

    def __init__(self, model: Model, reproducer: str | Path | None = None) -> None:
        """Nothing compared yet; the first mismatch is saved in the folder ``reproducer``."""
        self.model, self.reproducer = model, reproducer
        self.mismatches: dict[str, int] = {}
        self.samples: dict[str, int] = {}
        self.first: Mismatch | None = None

    def add(self, executor: str, given: dict[str, np.ndarray], expected: dict[str, np.ndarray],
            first_sample: int) -> None:
        """Compare ``given`` maps (N, C, H, W) with those of at least as many samples of `ref`."""
        count = max((len(values) for values in given.values()), default=0)
        self.samples[executor] = self.samples.get(executor, 0) + count
        wrong = sum(int((values != expected[name][:len(values)]).sum())
                    for name, values in given.items())
        self.mismatches[executor] = self.mismatches.get(executor, 0) + wrong
        if wrong and self.first is None:
            self.first = find_mismatch(self.model, expected, given, executor, first_sample)
            assert self.first is not None
            if self.reproducer is not None:
                save_reproducer(self.reproducer, self.model, self.first, expected, given,
                                first_sample)


class IntegerGraph:
    """The pure-integer ONNX export in onnxruntime or in onnx.reference."""

    def __init__(self, model: Model, executor: str) -> None:
        """Load the graph; ``executor`` is one of `ref.oracles.EXECUTORS`."""
        assert executor in EXECUTORS
        self.names = {name: name for name in model.tensors}
        self.names[model.input.tensor] = rounded_input(model)
        self.run = integer_runner(integer_onnx(model), executor, self.names.values())

    def maps(self, x: np.ndarray, expected: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Every feature map for the data file's integers ``x``; shapes are those of ours."""
        values = self.run(x)
        return {name: values[self.names[name]].reshape(len(x), *ours.shape[1:])
                for name, ours in expected.items()}


class SingleConvolutions:
    """QLinearConv of onnxruntime, each convolution fed with our inputs of it."""

    def __init__(self, model: Model) -> None:
        """Load every convolution that QLinearConv can express; ``skipped`` has the others."""
        self.layers: list[QLinearConv] = []
        self.skipped: dict[str, str] = {}
        for layer in model.layers:
            if isinstance(layer, Conv2d):
                reason = layer_refusal(layer, model.tensors[layer.inputs[0]],
                                       model.tensors[layer.output])
                if reason is None:
                    self.layers.append(QLinearConv(model, layer))
                else:
                    self.skipped[layer.name] = reason

    def maps(self, x: np.ndarray, expected: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The result of every such convolution for as many samples as ``x`` has."""
        return {one.layer.output: one.results(expected[one.layer.inputs[0]][:len(x)],
                                              expected[one.layer.output][:len(x)])
                for one in self.layers}


class Dump:
    """Feature maps that another program wrote: .npz with an array (N, C, H, W) by tensor name."""

    def __init__(self, model: Model, path: str | Path) -> None:
        """Read the file; raises `UserError` for names and shapes that are not the model's."""
        self.arrays = read_npz(path, "dump of feature maps")
        known = {name: tensor.shape for name, tensor in model.tensors.items()}
        for name, values in self.arrays.items():
            if name not in known:
                raise UserError(f"{path} holds {name!r}, and the network has no such tensor; name "
                                f"arrays after tensors ({', '.join(list(known)[:4])}, ...)")
            if values.dtype.kind not in "iu" or values.shape[1:] != known[name]:
                raise UserError(f"{path}: {name!r} is {values.dtype.name} of shape "
                                f"{values.shape}; the tensor is integers of shape (samples, "
                                f"{', '.join(map(str, known[name]))})")
        if not self.arrays:
            raise UserError(f"{path} holds no feature maps; write arrays named after tensors")

    def maps(self, start: int, stop: int) -> dict[str, np.ndarray]:
        """The maps of these samples, as many as there are."""
        return {name: values[start:stop].astype(np.int64)
                for name, values in self.arrays.items() if len(values) > start}
