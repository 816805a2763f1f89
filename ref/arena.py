"""Memory for feature maps that is used again: fresh memory costs more than small layers do."""

from __future__ import annotations

import numpy as np

from .model import Tensor

#: Bytes behind each map, which kernels may read.
SLACK = 128


class Arena:
    """Bytes for the maps of one thread's samples; what was given back last is taken first."""

    def __init__(self) -> None:
        self._free: list[np.ndarray] = []

    def take(self, size: int) -> np.ndarray:
        """Any ``size`` bytes, uint8, with `SLACK` more behind them."""
        for index in reversed(range(len(self._free))):
            if len(self._free[index]) >= size + SLACK:
                return self._free.pop(index)[:size]
        return np.empty(size + SLACK, np.uint8)[:size]

    def new_map(self, samples: int, tensor: Tensor) -> np.ndarray:
        """Room for ``samples`` of a tensor, uint8 (N, H, W, C)."""
        channels, height, width = tensor.shape
        size = samples * channels * height * width
        return self.take(size).reshape(samples, height, width, channels)

    def give(self, taken: np.ndarray) -> None:
        """Take back bytes or a map that nobody reads any more; other arrays are no matter."""
        if taken.dtype == np.uint8 and taken.base is not None:
            self._free.append(taken.base)
