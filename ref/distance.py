"""How far values of a quantized network are from the float network's."""

from __future__ import annotations

import math

import numpy as np

from .errors import UserError


class Distance:
    """Sums over the real values of one tensor, float and quantized, from which its error follows.
    """

    def __init__(self) -> None:
        """Nothing summed yet."""
        self.signal = self.noise = self.quantized = self.product = self.largest = 0.0

    def add(self, real: np.ndarray, quantized: np.ndarray, name: str = "result") -> None:
        """Take in a batch of the tensor ``name``: float values and dequantized ones, equal in size.

        Raises `UserError` when they are not.
        """
        if real.size != quantized.size:
            raise UserError(f"the float network's {name!r} has shape {real.shape}, and the "
                            f"quantized one's {quantized.shape}; give the network the model was "
                            "made from")
        wide = real.astype(np.float64).reshape(quantized.shape)
        error = quantized - wide
        self.signal += float((wide * wide).sum())
        self.noise += float((error * error).sum())
        self.quantized += float((quantized * quantized).sum(dtype=np.float64))
        self.product += float((wide * quantized).sum())
        self.largest = max(self.largest, float(np.abs(error).max()))

    def measures(self) -> dict[str, float | None]:
        """``snr_db`` (null where it is not finite), ``cosine`` (null for zeros), ``max_error``."""
        norm = math.sqrt(self.signal * self.quantized)
        return {"snr_db": self.snr_db, "cosine": self.product / norm if norm > 0 else None,
                "max_error": self.largest}

    @property
    def snr_db(self) -> float | None:
        """Signal over noise in decibels, or None where it is not finite."""
        if not (self.signal > 0 and self.noise > 0):
            return None
        return 10 * math.log10(self.signal / self.noise)
