"""One layer with fewer bits, everything else float: what a trial of its sensitivity runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ref.model import Conv2d

from .graph import FloatConv, FloatLayer
from .twin import Twin
from .weights import LinearCode, round_weights, weight_steps

#: Candidate ranges of a result, as shares of the widest.
SHARES = np.linspace(0.1, 1.0, 19)


class Coarser:
    """A layer's weights and its result in fewer bits than the model's, each with its own range.

    Weights are rounded to the nearest integer with the steps of `quant.weights`, one per row or one
    per layer as in the model, and their mean error goes into the bias. A result keeps the model's
    ratios between channels; its range is the share, of the model's or the wider one that the given
    maps take, with the least squared error on them. They also say how much energy weights meet.
    """

    def __init__(self, layer: FloatLayer, twin: Twin, maps: dict[str, np.ndarray],
                 widths: tuple[int, ...]) -> None:
        """``maps`` are all tensors of the float network on a few samples, (N, C, H, W)."""
        self.tensor = twin.model.tensors[layer.output]
        self.weights = {bits: self._with_weights(layer, twin, maps[layer.input], bits)
                        for bits in widths} if isinstance(layer, FloatConv) else {}
        self.steps = {bits: self._step(maps[layer.output], bits) for bits in widths}

    def rounded(self, value: np.ndarray, bits: int) -> np.ndarray:
        """The layer's result in integers of ``bits`` bits, as real values."""
        step = self.steps[bits].astype(value.dtype).reshape(-1, 1, 1)
        lo, hi = self._limits(bits)
        return np.clip(np.rint(value / step), lo, hi) * step

    def _limits(self, bits: int) -> tuple[int, int]:
        """Smallest and largest integer of ``bits`` bits of the tensor's sign."""
        return -(1 << (bits - 1)) if self.tensor.signed else 0, (
            1 << (bits - int(self.tensor.signed))) - 1

    def _step(self, value: np.ndarray, bits: int) -> np.ndarray:
        """The step of least squared error among `SHARES` of the widest range, () or (C,)."""
        lo, hi = self._limits(bits)
        reach = np.abs(value).max(axis=(0, 2, 3)) / (self.tensor.scale * self.tensor.hi)
        whole = self.tensor.scale * (max(1.0, float(reach.max())) * self.tensor.hi / hi)

        def error(share: float) -> float:
            step = (whole * share).astype(value.dtype).reshape(-1, 1, 1)
            rounded = np.clip(np.rint(value / step), lo, hi) * step
            return float(((rounded - value) ** 2).sum(dtype=np.float64))

        return np.asarray(whole * min(SHARES, key=error))

    @staticmethod
    def _with_weights(layer: FloatConv, twin: Twin, source: np.ndarray, bits: int) -> FloatConv:
        """The convolution with weights of ``bits`` bits."""
        made = twin.layers[layer.name]
        assert isinstance(made, Conv2d)
        inputs, (step, _) = layer.input_of_output, twin.steps(layer.input)
        unit, rows = twin.units(made), len(layer.weight)
        weight = layer.weight * (step[inputs] / unit[:, None])[:, :, None, None]
        square = (source.astype(np.float64) ** 2).mean(axis=(0, 2, 3)) / step ** 2
        energy = np.broadcast_to(square[inputs][:, :, None, None], weight.shape).reshape(rows, -1)
        shared = (twin.model.metadata.get("settings") or {}).get("weight_scale") == "tensor"
        shape = (1, -1) if shared else (rows, -1)
        code = LinearCode(bits)
        energy = energy * unit[:, None] ** 2 if shared else energy
        steps, _ = weight_steps(weight.reshape(shape), code, energy.reshape(shape))
        coarse = np.broadcast_to(steps, rows)[:, None, None, None] * round_weights(
            weight, np.broadcast_to(steps, rows), code)
        coarse = coarse * (unit[:, None] / step[inputs])[:, :, None, None]
        lost = (layer.weight - coarse).sum(axis=(2, 3))
        mean = source.mean(axis=(0, 2, 3), dtype=np.float64)
        return replace(layer, weight=coarse,
                       bias=layer.bias + np.einsum("oi,oi->o", lost, mean[inputs]))
