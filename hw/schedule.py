"""Cycles of a layer before it runs: the engine's flow control as time recurrences, exact.

Each equation is one rule of a block: a word is issued when the queue has a place and the memory is
free, taken when the line buffer has room, and so on. `tests/hw/test_schedule.py` demands equality
with simulation.
"""

from collections import deque
from dataclasses import dataclass

from .config import EngineConfig
from .descriptor import descriptor_words
from .mac_array import MacArray
from .memory_reader import MemoryReader
from .requantizer import Requantizer
from .tape_reader import CONSTANT_WORDS

#: From a request to the first cycle in which its word can be taken, and places in the queue.
READ_LATENCY = MemoryReader.memory_latency + MemoryReader.queue_latency
QUEUE_DEPTH  = MemoryReader.depth
#: From a tile's last product to its first requantized byte in the write register.
WRITE_LATENCY = MacArray.latency + 1 + Requantizer.latency + 1


@dataclass(frozen=True)
class LayerShape:
    """What decides a layer's timing."""

    residue_words: tuple[int, ...]       # words read per residue of a kernel row
    residue_windows: tuple[int, ...]     # windows they form
    kernel_rows: int
    products: tuple[int, ...]            # products of a window, per input group
    tiles: int                           # tiles in an output row
    lines: int                           # output rows
    pixel_last: int                      # last valid pixel of a row's last tile
    groups: int                          # groups of output channels


def layer_cycles(shape: LayerShape, config: EngineConfig, previous: LayerShape | None) -> int:
    """Cycles from the layer's ``fetch`` pulse through its last write.

    ``previous`` is the layer before it: pixels beyond the end of its last row may still be leaving.
    """
    engine = _Clock(shape, config)
    begin = descriptor_words(config.channels) + READ_LATENCY + 1
    engine.start(begin, None if previous is None else previous.pixel_last + 1)
    seen: dict[tuple, int] = {}
    group = 0
    while group < shape.groups:
        engine.run_group()
        group += 1
        # Time-invariance: once a group ends in the state in which an earlier one ended, the groups
        # from here on repeat what was seen between them.
        state = engine.relative_state()
        if state in seen:
            period = group - seen[state]
            repeats = (shape.groups - group) // period
            engine.shift(repeats * (engine.now - engine.ends[seen[state] - 1]))
            group += repeats * period
            seen.clear()
        else:
            seen[state] = group
        engine.ends += [engine.now] * (group - len(engine.ends))
    return engine.last_write + 1


class _Clock:
    """The times of the latest events; a group is run by advancing them."""

    def __init__(self, shape: LayerShape, config: EngineConfig) -> None:
        self.shape = shape
        self.drain = config.drain_cycles
        self.word_cycles = config.channels // config.requantizers
        self.pixels = config.pixels
        self.blocking = config.single_port
        self.ends: list[int] = []

    def start(self, begin: int, last_pixels: int | None) -> None:
        """``begin`` is the cycle of the sequencer's pulse; nothing is under way but the last tile.

        ``last_pixels`` pixels of it were written, the last one in cycle -1; None: there was none.
        """
        self.issue, self.pop = begin, begin                     # latest activation word
        self.pops: deque[int] = deque([begin - 64] * QUEUE_DEPTH, QUEUE_DEPTH)
        self.tape_issue, self.tape_pop = begin, begin           # latest tape word
        self.tape_pops: deque[int] = deque([begin - 64] * QUEUE_DEPTH, QUEUE_DEPTH)
        self.window_taken = begin                               # latest window left the line buffer
        self.product = begin                                    # latest product
        # latest tile's last product
        self.finish = begin - 10_000 if last_pixels is None else (
            -WRITE_LATENCY - last_pixels * self.word_cycles)
        self.writes: deque[int] = deque()                       # coming write cycles
        self.last_write = begin

    @property
    def now(self) -> int:
        """Reference time for comparing states."""
        return self.finish

    def relative_state(self) -> tuple:
        """All times relative to `now`; equal states have equal futures."""
        now = self.now
        while self.writes and self.writes[0] <= self.issue:
            self.writes.popleft()
        times = (self.issue, self.pop, *self.pops, self.tape_issue, self.tape_pop, *self.tape_pops,
                 self.window_taken, self.product, *self.writes)
        return tuple(time - now for time in times)

    def shift(self, cycles: int) -> None:
        """Move every time by ``cycles``."""
        for name in ("issue", "pop", "tape_issue", "tape_pop", "window_taken", "product", "finish",
                     "last_write"):
            setattr(self, name, getattr(self, name) + cycles)
        for queue in (self.pops, self.tape_pops, self.writes):
            for k in range(len(queue)):
                queue[k] += cycles

    def run_group(self) -> None:
        """One group of output channels: constants, then tile after tile."""
        for _ in range(CONSTANT_WORDS):
            self.take_tape_word(self.finish + self.drain + MacArray.latency)
        for _ in range(self.shape.lines):
            for tile in range(self.shape.tiles):
                self.run_tile()
                row_end = tile == self.shape.tiles - 1
                self.write_tile(self.shape.pixel_last + 1 if row_end else self.pixels)

    def run_tile(self) -> None:
        """All windows of a tile."""
        shape = self.shape
        for kernel_row in range(shape.kernel_rows):
            for input_group, products in enumerate(shape.products):
                last_row = (kernel_row == shape.kernel_rows - 1
                            and input_group == len(shape.products) - 1)
                for residue, words in enumerate(shape.residue_words):
                    last_residue = last_row and residue == len(shape.residue_words) - 1
                    windows = shape.residue_windows[residue]
                    for word in range(words):
                        self.read_word()
                        if word >= words - windows:
                            self.run_window(products, last_residue and word == words - 1)

    def read_word(self) -> None:
        """Issue one activation word and take it into the line buffer."""
        issue = max(self.issue + 1, self.pops[0] + 1)
        if self.blocking:
            writes = self.writes
            while writes and writes[0] < issue:
                writes.popleft()
            while writes and writes[0] == issue:
                writes.popleft()
                issue += 1
        self.issue = issue
        self.pop = max(issue + READ_LATENCY, self.pop + 1, self.window_taken)
        self.pops.append(self.pop)

    def run_window(self, products: int, last: bool) -> None:
        """Take the window that the latest word completed and issue its products."""
        self.window_taken = max(self.pop + 1, self.product)
        earliest = self.window_taken + 1
        for index in range(products):
            if last and index == products - 1:
                earliest = max(earliest, self.finish + self.drain)
            self.product = self.take_tape_word(earliest)
            earliest = self.product + 1
        if last:
            self.finish = self.product

    def take_tape_word(self, earliest: int) -> int:
        """The cycle in which the next tape word is taken, not before ``earliest``."""
        self.tape_issue = max(self.tape_issue + 1, self.tape_pops[0] + 1)
        self.tape_pop = max(self.tape_issue + READ_LATENCY, self.tape_pop + 1, earliest)
        self.tape_pops.append(self.tape_pop)
        return self.tape_pop

    def write_tile(self, pixels: int) -> None:
        """Note when the tile's words are written."""
        first = self.finish + WRITE_LATENCY + self.word_cycles - 1
        self.last_write = first + (pixels - 1) * self.word_cycles
        if self.blocking:
            self.writes.extend(range(first, self.last_write + 1, self.word_cycles))
