"""What a simulated run leaves behind: every result word in order, and when each layer ended."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from .program import Placement


@dataclass(frozen=True)
class Trace:
    """Result words of one run, in the order in which they were written."""

    addresses: np.ndarray       # (W,) uint32
    layers: np.ndarray          # (W,) uint32, index of the layer that wrote the word
    words: np.ndarray           # (W, channels) uint8
    layer_ends: np.ndarray      # (layers,) uint64, cycle of each layer's last write, from 1
    cycles: int                 # busy cycles of the whole run

    def layer_cycles(self) -> list[int]:
        """Cycles of each layer."""
        return np.diff(self.layer_ends.astype(np.int64), prepend=0).tolist()

    def tensor(self, layer: int, placement: Placement) -> np.ndarray:
        """The tensor (C, H, W) that layer number ``layer`` wrote; words never written read as 0."""
        memory = np.zeros((placement.words, placement.channels), np.uint8)
        mine = self.layers == layer
        offsets = self.addresses[mine].astype(np.int64) - placement.address
        if np.any((offsets < 0) | (offsets >= placement.words)):
            raise AssertionError(f"layer {layer} wrote outside its tensor {placement.tensor}")
        memory[offsets] = self.words[mine]
        return placement.unpack(memory)


class Engine(Protocol):
    """A simulated accelerator, whatever simulates it."""

    def load(self, space: int, address: int, words: np.ndarray) -> None:
        """Write words (uint8 [n, channels]) to the activation memory (space 0) or the tape (1)."""

    def run(self, limit: int) -> Trace:
        """Run the program; raise `UserError` when it does not end within ``limit`` cycles."""
