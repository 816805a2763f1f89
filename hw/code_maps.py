"""Feature maps of an engine of codes: which channel has which place, and how it is stored.

A word holds eight halves of bytes. Maps of codes have a channel in each; those of the lower half
are multiplied in blocks by the layer that made them, those of the upper half by lanes that shift
and add. The network's input and result are bytes, whose upper halves lie four places above the
lower ones: of a result four channels share a word, of the input a word holds one channel, which
all lanes multiply.
"""

from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np

from ref.ausn import AusnCode
from ref.errors import UserError
from ref.model import Conv2d

from .ausn.activation import byte_shift
from .ausn.code_product import ACTIVATIONS
from .program import STORED_OFFSET, Placement
from .step import Map

#: Places of a word, and those of one half.
PLACES, HALF = 8, 4
#: The byte that each code stands for.
LEVELS = ACTIVATIONS.levels << byte_shift(ACTIVATIONS)


@dataclass(frozen=True)
class CodeMap(Map):
    """A map of codes; ``order`` is the channel of each place of a pixel's words, -1: none."""

    order: tuple[int, ...] = ()

    def placed(self, tensor: str, address: int, channels: int, transposed: bool, strips: int
               ) -> Placement:
        """Where it lies."""
        return CodePlacement(tensor, address, self.shape, self.signed, channels, transposed,
                             order=self.order)


@dataclass(frozen=True)
class ByteMap(Map):
    """A map of bytes; with ``alone`` each channel has a word of its own."""

    alone: bool = False

    def placed(self, tensor: str, address: int, channels: int, transposed: bool, strips: int
               ) -> Placement:
        """Where it lies."""
        return BytePlacement(tensor, address, self.shape, self.signed, channels, transposed,
                             alone=self.alone)


@dataclass(frozen=True)
class HalvesPlacement(Placement):
    """A map whose words are halves of bytes, two in a byte, the first in its lower bits."""

    def pixels_of(self, values: np.ndarray) -> np.ndarray:
        """Integers (C, H, W) as (pixels in memory's order, C)."""
        return values.transpose((2, 1, 0) if self.transposed else (1, 2, 0)).reshape(
            -1, self.shape[0])

    def map_of(self, pixels: np.ndarray) -> np.ndarray:
        """The inverse of `pixels_of`, int64."""
        count, height, width = self.shape
        lines = (width, height) if self.transposed else (height, width)
        return pixels.astype(np.int64).reshape(*lines, count).transpose(
            (2, 1, 0) if self.transposed else (2, 0, 1))

    def words_of(self, halves: np.ndarray) -> np.ndarray:
        """Halves (pixels, places) as memory words, uint8 [words, bytes]."""
        pairs = halves.astype(np.uint8).reshape(self.words, self.channels // 2, 2)
        return pairs[..., 0] | pairs[..., 1] << 4

    def halves_of(self, words: np.ndarray) -> np.ndarray:
        """The inverse of `words_of`."""
        return np.stack([words & 15, words >> 4], axis=-1).reshape(self.pixels, -1)


@dataclass(frozen=True)
class CodePlacement(HalvesPlacement):
    """Where a map of codes lies (`CodeMap`)."""

    order: tuple[int, ...] = ()

    @property
    def groups(self) -> int:
        """Words of a pixel."""
        return len(self.order) // self.channels

    def pack(self, values: np.ndarray) -> np.ndarray:
        """Levels (C, H, W) to memory words, uint8 [words, bytes]; spare places are code 0."""
        codes = np.searchsorted(LEVELS, self.pixels_of(values))
        return self.words_of(np.pad(codes, ((0, 0), (0, 1)))[:, self.order])

    def unpack(self, words: np.ndarray) -> np.ndarray:
        """Memory words to levels (C, H, W) int64."""
        places = np.argsort(self.order, kind="stable")[-self.shape[0]:]
        return self.map_of(LEVELS[self.halves_of(words)[:, places]])


@dataclass(frozen=True)
class BytePlacement(HalvesPlacement):
    """Where a map of bytes lies (`ByteMap`)."""

    alone: bool = False

    @property
    def groups(self) -> int:
        """Words of a pixel."""
        return self.shape[0] if self.alone else -(-self.shape[0] // HALF)

    def pack(self, values: np.ndarray) -> np.ndarray:
        """Integers (C, H, W) to memory words, uint8 [words, bytes]; spare places are 0."""
        stored = self.pixels_of(values) + (STORED_OFFSET if self.signed else 0)
        quads = stored.reshape(-1, 1) if self.alone else stored
        quads = np.pad(quads, ((0, 0), (0, -quads.shape[1] % HALF))).reshape(-1, HALF)
        return self.words_of(np.concatenate([quads & 15, quads >> 4], axis=1))

    def unpack(self, words: np.ndarray) -> np.ndarray:
        """Memory words to integers (C, H, W) int64."""
        halves = self.halves_of(words).reshape(-1, 2, HALF).astype(np.int64)
        stored = (halves[:, 0] | halves[:, 1] << 4).reshape(self.pixels, -1)
        own = stored[:, ::HALF] if self.alone else stored[:, :self.shape[0]]
        return self.map_of(own) - (STORED_OFFSET if self.signed else 0)


def able_lanes(layer: Conv2d, before: tuple[np.ndarray, np.ndarray], largest: int, code: AusnCode,
               advice: str) -> tuple[np.ndarray, np.ndarray]:
    """Which channels lanes of either kind can make here and ``before``, bool (C,) each.

    Lanes that multiply take weights up to ``largest``, the others levels of ``code``. Raises
    `UserError`, ending in ``advice``, naming a channel of the layer that is left with neither.
    """
    magnitudes = np.abs(layer.weight.astype(np.int64)).reshape(len(layer.weight), -1)
    multiplied = before[0] & (magnitudes <= largest).all(axis=1)
    shifted = before[1] & np.isin(magnitudes, code.levels).all(axis=1)
    if not (multiplied | shifted).all():
        raise UserError(f"layer {layer.name} has weights in channel "
                        f"{int(np.argmin(multiplied | shifted))} that are neither up to {largest} "
                        f"nor AUSN levels of {code.bits + 1} bits throughout{advice}")
    return multiplied, shifted


def order_of(multiplied: np.ndarray, shifted: np.ndarray, half: int = HALF) -> tuple[int, ...]:
    """The order of channels that lanes of either kind can make, bool (C,) each; all one at least.

    In turn ``half`` places are of lanes that multiply and as many of others. Channels that both
    can make fill up the words.
    """
    lower = np.flatnonzero(~shifted).tolist()
    upper = np.flatnonzero(~multiplied).tolist()
    free = np.flatnonzero(multiplied & shifted).tolist()
    words = max(-(-len(multiplied) // (2 * half)), -(-len(lower) // half), -(-len(upper) // half))
    room = half * words - len(lower)
    lower, upper = sorted(lower + free[:room]), sorted(upper + free[room:])
    places = (channels + [-1] * (half * words - len(channels)) for channels in (lower, upper))
    parts = zip_longest(*(zip(*[iter(side)] * half, strict=True) for side in places))
    return tuple(chain.from_iterable(low + high for low, high in parts))
