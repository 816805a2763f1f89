"""What the compiler hands to simulation, host and build: a tape image and where tensors lie."""

from dataclasses import dataclass, replace

import numpy as np

from .config import EngineConfig

#: Offset between a signed activation and the byte that stores it.
STORED_OFFSET = 128


@dataclass(frozen=True)
class Placement:
    """Where a tensor lies in activation memory: pixel after pixel, ``groups`` words each.

    Pixels follow each other by rows, or by columns if ``transposed``. A word holds ``channels``
    bytes; a signed value v is stored as v + 128. With ``strips`` the lines (rows, or columns if
    transposed) are cut into that many strips, and a word holds ``channels / strips`` channels of
    the same place in each of them, first strip first. A tensor may lie within a wider one, whose
    pixels have words of other tensors, too.
    """

    tensor: str
    address: int                         # first word
    shape: tuple[int, int, int]          # (channels, height, width)
    signed: bool
    channels: int                        # bytes per word
    transposed: bool
    strips: int = 1
    within: int = 0                      # words of a pixel of the tensor it lies within; 0: none

    def at(self, address: int) -> "Placement":
        """The same tensor at another address."""
        return replace(self, address=address)

    @property
    def groups(self) -> int:
        """Words of a pixel."""
        return -(-self.shape[0] * self.strips // self.channels)

    @property
    def pitch(self) -> int:
        """Words from a pixel to the next."""
        return self.within or self.groups

    @property
    def pixels(self) -> int:
        """Places of a pixel in memory; with ``strips`` each is one of every strip."""
        return self.shape[1] * self.shape[2] // self.strips

    @property
    def words(self) -> int:
        """Words from the tensor's first to its last."""
        return (self.pixels - 1) * self.pitch + self.groups

    def pack(self, values: np.ndarray) -> np.ndarray:
        """Integers (C, H, W) to memory words, uint8 [words, channels]; spare bytes are zero.

        For tensors that are not within another one.
        """
        order = (2, 1, 0) if self.transposed else (1, 2, 0)
        count, own = self.shape[0], self.channels // self.strips
        pixels = values.transpose(order).reshape(self.strips, -1, count)
        stored = np.zeros((*pixels.shape[:2], self.groups * own), np.uint8)
        stored[:, :, :count] = pixels + (STORED_OFFSET if self.signed else 0)
        by_word = stored.reshape(self.strips, -1, self.groups, own).transpose(1, 2, 0, 3)
        return by_word.reshape(self.words, self.channels)

    def unpack(self, words: np.ndarray) -> np.ndarray:
        """Memory words, uint8 [words, channels], to integers (C, H, W) int64."""
        count, height, width = self.shape
        lines = (width, height) if self.transposed else (height, width)
        own = np.arange(self.pixels)[:, None] * self.pitch + np.arange(self.groups)
        by_word = words[own].reshape(-1, self.groups, self.strips, self.channels // self.strips)
        pixels = by_word.transpose(2, 0, 1, 3).reshape(*lines, -1)
        values = pixels[:, :, :count].astype(np.int64)
        order = (2, 1, 0) if self.transposed else (2, 0, 1)
        return values.transpose(order) - (STORED_OFFSET if self.signed else 0)


@dataclass(frozen=True)
class ProgramLayer:
    """One layer of the network, for reports and comparison: ``steps`` passes of the engine."""

    name: str
    output: Placement
    steps: int
    macs: int                            # useful products
    predicted_cycles: int


@dataclass(frozen=True)
class Program:
    """Everything an engine needs to run one network."""

    config: EngineConfig
    tape: np.ndarray                     # uint8 [words, word bytes]: the weight memory from word 0;
                                         # a word's ``config.tape_bytes`` first, then zeros
    pads: np.ndarray                     # uint8 [words, word bytes]: to activation word 0 on
    input: Placement
    output: Placement
    layers: tuple[ProgramLayer, ...]
    activation_words: int                # activation memory used, from word 0

    @property
    def tape_size(self) -> int:
        """Bytes of weight memory used."""
        return len(self.tape) * self.config.tape_bytes

    @property
    def predicted_cycles(self) -> int:
        """Cycles of one inference."""
        return sum(layer.predicted_cycles for layer in self.layers)

    @property
    def macs(self) -> int:
        """Useful products of one inference."""
        return sum(layer.macs for layer in self.layers)
