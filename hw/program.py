"""What the compiler hands to simulation, host and build: a tape image and where tensors lie."""

from dataclasses import dataclass

import numpy as np

from .config import EngineConfig


@dataclass(frozen=True)
class Placement:
    """Where a tensor lies in activation memory: pixel after pixel, ``groups`` words each.

    A word holds ``channels`` bytes; a signed value v is stored as v + 128.
    """

    tensor: str
    address: int                         # first word
    shape: tuple[int, int, int]          # (channels, height, width)
    signed: bool
    channels: int                        # bytes per word

    @property
    def groups(self) -> int:
        """Words per pixel."""
        return -(-self.shape[0] // self.channels)

    @property
    def words(self) -> int:
        """Words of the whole tensor."""
        return self.groups * self.shape[1] * self.shape[2]

    def pack(self, values: np.ndarray) -> np.ndarray:
        """Integers (C, H, W) to memory words, uint8 [words, channels]; spare bytes are zero."""
        count, height, width = self.shape
        words = np.zeros((height, width, self.groups * self.channels), np.uint8)
        words[:, :, :count] = (values.transpose(1, 2, 0) + (128 if self.signed else 0)).astype(np.uint8)
        return words.reshape(self.words, self.channels)

    def unpack(self, words: np.ndarray) -> np.ndarray:
        """Memory words, uint8 [words, channels], to integers (C, H, W) int64."""
        count, height, width = self.shape
        values = words.reshape(height, width, -1)[:, :, :count].transpose(2, 0, 1).astype(np.int64)
        return values - (128 if self.signed else 0)


@dataclass(frozen=True)
class ProgramLayer:
    """One step of the engine, for reports and comparison."""

    name: str
    output: Placement
    macs: int                            # useful products
    predicted_cycles: int


@dataclass(frozen=True)
class Program:
    """Everything an engine needs to run one network."""

    config: EngineConfig
    tape: np.ndarray                     # uint8 [words, channels]: the weight memory from word 0
    pads: np.ndarray                     # uint8 [words, channels]: padding words, to activation word 0
    input: Placement
    output: Placement
    layers: tuple[ProgramLayer, ...]

    @property
    def macs(self) -> int:
        """Useful products of one inference."""
        return sum(layer.macs for layer in self.layers)
