"""What a simulated run leaves behind: every result word in order, and when each step ended."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np

from .program import ProgramLayer


@dataclass(frozen=True)
class Trace:
    """Result words of one run, in the order in which they were written."""

    addresses: np.ndarray       # (W,) uint32
    steps: np.ndarray           # (W,) uint32, index of the step that wrote the word
    words: np.ndarray           # (W, word bytes) uint8
    step_ends: np.ndarray       # (steps,) uint64, cycle of each step's last write, from 1
    cycles: int                 # busy cycles of the whole run

    def layer_cycles(self, layers: Iterable[ProgramLayer]) -> list[int]:
        """Cycles of each layer: those of its steps."""
        ends = [0, *self.step_ends.tolist()]
        return np.diff([ends[last] for last in last_steps(layers)], prepend=0).tolist()

    def tensors(self, layers: Iterable[ProgramLayer]) -> dict[str, np.ndarray]:
        """Each layer's result (C, H, W) as it lies in memory when the layer's last step has ended.

        Words never written are 0.
        """
        layers = list(layers)
        memory = np.zeros((1 + max(int(self.addresses.max(initial=0)), *(
            layer.output.address + layer.output.words for layer in layers)),
            self.words.shape[1]), np.uint8)
        firsts = np.searchsorted(self.steps, [0, *last_steps(layers)])
        tensors = {}
        for layer, start, stop in zip(layers, firsts, firsts[1:], strict=False):
            memory[self.addresses[start:stop]] = self.words[start:stop]
            output = layer.output
            tensors[output.tensor] = output.unpack(memory[output.address:][:output.words])
        return tensors


def last_steps(layers: Iterable[ProgramLayer]) -> list[int]:
    """How many steps have ended with each layer."""
    return list(accumulate(layer.steps for layer in layers))


class Engine(Protocol):
    """A simulated accelerator, whatever simulates it."""

    def load(self, space: int, address: int, words: np.ndarray) -> None:
        """Write words (uint8 [n, bytes]) to the activation memory (space 0) or the tape (1)."""

    def run(self, limit: int) -> Trace:
        """Run the program; raise `UserError` when it does not end within ``limit`` cycles."""
