"""QuantizeLinear and DequantizeLinear on data: whose map they round, and how.

A rounding belongs to the layer whose map it rounds; of several before the next layer the last one
counts. The network's input keeps the form of the data file instead, whose integers it is made of.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from onnx import NodeProto

from ref.errors import UserError

from .fusion import Fusion
from .graph import FloatAdd, FloatConv, StoredMap, cap_of
from .onnx_file import where
from .stored import LIMITS, grid_of

#: Integers of weights that can be kept; -128 becomes -127, the end of the narrow range.
WEIGHTS = (-128, 127)


class QuantizedMaps(Fusion):
    """A walk that knows the operators between real values and integers."""

    def quantize(self, node: NodeProto) -> None:
        """QuantizeLinear; where its integers start at 0 it is a rectifier too."""
        grid = grid_of(node, self.constants, self.now.view.ndim, where(node))
        limits = self.now.limits
        self.set(limits=(-math.inf, math.inf))
        if self.now.ended is None and self.now.tensor != self.graph.input:
            if grid.dtype not in LIMITS:
                raise UserError(f"{where(node)} rounds to {grid.dtype}; only {', '.join(LIMITS)} "
                                "are supported")
            lo, hi = (bound - grid.zero for bound in LIMITS[grid.dtype])
            stored = self.stored.get(self.now.tensor)
            if stored is None or grid.scale.ndim or (stored.step != grid.scale).any():
                self.check_whole(node)      # a part of a map that is rounded so already is fine
            step = (self.per_channel(node, grid.scale) if grid.scale.ndim
                    else np.full(self.now.shape[0], float(grid.scale)))
            if limits != (-math.inf, math.inf):
                lo, hi = (int(np.clip(np.rint(limit / step[0]), lo, hi)) for limit in limits)
            if lo == 0 and not self.non_negative(self.now.tensor):
                self.rectify(node, math.inf, self.now.tensor)
            if self.now.shared and stored is not None and not (
                    np.array_equal(stored.step, step) and (stored.lo, stored.hi) == (lo, hi)):
                channels = len(step)        # another reader has other integers
                self.channelwise(node, np.ones(channels), np.zeros(channels), None)
            self.stored[self.now.tensor] = StoredMap(step, lo, hi)
        self.set(rounded=grid)

    def dequantize(self, node: NodeProto) -> None:
        """DequantizeLinear, with the scale of the QuantizeLinear before it."""
        grid = grid_of(node, self.constants, self.now.view.ndim, where(node))
        if self.now.rounded is None or not grid.same(self.now.rounded):
            raise UserError(f"{where(node)} has another scale or zero point than the "
                            "QuantizeLinear before it; quantize the network again")
        self.set(rounded=None)

    def weight_step(self, node: NodeProto, index: int, axis: int) -> np.ndarray | None:
        """The scale of each output channel, along ``axis``, of weights that came as integers.

        None for float weights. Raises `UserError` for integers outside `WEIGHTS`.
        """
        stored = self.graph.stored.get(node.input[index])
        if stored is None:
            return None
        lowest, highest = int(stored.integers.min()), int(stored.integers.max())
        if lowest < WEIGHTS[0] or highest > WEIGHTS[1]:
            raise UserError(f"{where(node)} has weights of {lowest}..{highest} once their zero "
                            f"point is taken off, beyond {WEIGHTS[0]}..{WEIGHTS[1]}; quantize "
                            "weights symmetrically to 8 bits or fewer")
        rows = np.moveaxis(stored.scale, axis, 0).reshape(stored.scale.shape[axis], -1)
        if not (rows == rows[:, :1]).all():
            raise UserError(f"{where(node)} has weights whose scales differ within an output "
                            "channel; quantize weights per tensor or per output channel")
        return rows[:, 0].copy()

    def stored_maps(self) -> dict[str, StoredMap]:
        """The roundings of all maps, once every node is taken.

        Between layers a map has no zero point: others are refused. The last map's is taken off and
        its scale widened, so that symmetric integers reach as far.
        """
        maps = {}
        for layer in self.layers:
            stored = self.stored.get(layer.output)
            if stored is None:
                continue
            lo, hi = stored.lo, stored.hi
            if lo < 0 and -lo not in (hi, hi + 1):
                if layer is not self.layers[-1]:
                    raise UserError(
                        f"the map {layer.output!r} is quantized to the integers {lo}..{hi} around "
                        "its zero, and maps between layers have no zero point here; quantize "
                        "activations symmetrically (onnxruntime: extra_options="
                        "{'ActivationSymmetric': True}) or give the float network")
                reach = max(-lo, hi)
                stored = replace(stored, step=stored.step * (reach / 127), lo=-128, hi=127)
            if stored.lo < 0 and self.non_negative(layer.output):
                stored = replace(stored, lo=0)
            if not stored.lo and isinstance(layer, FloatConv | FloatAdd):
                cap = float((cap_of(layer.activation) / stored.step).max())
                stored = replace(stored, hi=stored.hi if cap >= stored.hi else round(cap))
            maps[layer.output] = stored
        return maps
