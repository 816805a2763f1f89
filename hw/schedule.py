"""Cycles of a layer before it runs: the engine's flow control as time recurrences, exact.

Each equation is one rule of a block: a word is requested when its row has a place and the memory is
free, a window is read when its row is complete and the one before it was taken, and so on.
`tests/hw/test_schedule.py` demands equality with simulation.
"""

from collections import deque
from dataclasses import dataclass

from .address_generator import AddressGenerator
from .code_array import ARRAY_LATENCY, REST
from .code_requantizer import LATENCY as CODE_LATENCY
from .config import EngineConfig
from .descriptor import descriptor_words
from .mac_array import array_latency
from .memory import memory_latency
from .memory_reader import MemoryReader
from .requantizer import requantizer_latency
from .window_memory import row_latency

#: Windows that wait between the window memory and the array.
WINDOWS = 2


def tape_latency(config: EngineConfig) -> int:
    """From the request of a tape word to the first cycle in which it can be taken."""
    return memory_latency(config) + MemoryReader.queue_latency


def write_latency(config: EngineConfig) -> int:
    """From a tile's last product to its first requantized byte in the write register."""
    if config.codes:
        return ARRAY_LATENCY + 1 + CODE_LATENCY + 1
    return array_latency(config) + 1 + requantizer_latency(pipelined=config.pipelined) + 1


@dataclass(frozen=True)
class LayerShape:
    """What decides a layer's timing."""

    patch_columns: int                   # words of a patch's row
    kernel: tuple[int, int]              # rows, columns
    products: tuple[int, ...]            # products of a window, per input group
    tiles: int                           # tiles in an output row
    lines: int                           # output rows
    slides: bool                         # tiles follow each other downwards and share rows
    stride_rows: int
    row_places: int                      # rows of patches that fit the window memory
    pixel_last: int                      # last valid pixel of a row's last tile
    groups: int                          # groups of output channels
    blocks_only: bool                    # a word is the first chunk of its pixel's results alone


def layer_cycles(shape: LayerShape, config: EngineConfig, previous: LayerShape | None) -> int:
    """Cycles from the layer's ``fetch`` pulse through its last write.

    ``previous`` is the layer before it: pixels beyond the end of its last row may still be leaving.
    """
    engine = _Clock(shape, config)
    begin = descriptor_words(config.tape_bytes) + tape_latency(config) + 1
    engine.start(begin, previous)
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
        self.constant_words = config.constant_words
        self.array_latency = ARRAY_LATENCY if config.codes else array_latency(config)
        self.rest = REST if config.codes else 0
        self.write_latency = write_latency(config)
        self.tape_latency = tape_latency(config)
        self.row_latency = row_latency(config)
        self.blocking = config.single_port
        self.ends: list[int] = []

    def start(self, begin: int, previous: LayerShape | None) -> None:
        """``begin`` is the cycle of the sequencer's pulse; nothing is under way but the last tile.

        It was of the layer ``previous``, its last word written in cycle -1; None: there was none.
        """
        self.issue = begin + AddressGenerator.latency - 1       # latest activation word
        # Rows in flight: when windows of those complete queue up, and when the last places became
        # free.
        self.complete: deque[int] = deque()
        self.places: deque[int] = deque([begin] * self.shape.row_places)
        self.queued = begin                                     # latest window to queue up
        self.tape_issue, self.tape_pop = begin, begin           # latest tape word
        self.tape_pops: deque[int] = deque([begin - 64] * MemoryReader.depth, MemoryReader.depth)
        # latest windows taken by the array
        self.taken: deque[int] = deque([begin - 64] * (WINDOWS - 1) + [begin], WINDOWS)
        self.product = begin                                    # latest product
        self.first_finish = begin - 10_000              # a group's first tile: last product
        # latest tile's last product
        self.finish = begin - 10_000 if previous is None else (
            -1 - self.last_of_pixel(previous) - previous.pixel_last * self.word_cycles)
        self.writes: deque[int] = deque()                       # coming write cycles
        self.last_write = begin

    def last_of_pixel(self, shape: LayerShape) -> int:
        """Cycles from a tile's last product to the write of its first pixel's word."""
        return self.write_latency + (0 if shape.blocks_only else self.word_cycles - 1)

    @property
    def now(self) -> int:
        """Reference time for comparing states."""
        return self.finish

    def relative_state(self) -> tuple:
        """All times relative to `now`; equal states have equal futures."""
        now = self.now
        while self.writes and self.writes[0] <= self.issue:
            self.writes.popleft()
        # Places free before the latest request are all alike.
        places = (max(time, self.issue) for time in self.places)
        times = (self.first_finish, self.issue, self.queued, *places, *self.complete,
                 self.tape_issue, self.tape_pop, *self.tape_pops, *self.taken, self.product,
                 *self.writes)
        return (len(self.places), len(self.complete), *(time - now for time in times))

    def shift(self, cycles: int) -> None:
        """Move every time by ``cycles``."""
        for name in ("issue", "queued", "tape_issue", "tape_pop", "product",
                     "first_finish", "finish", "last_write"):
            setattr(self, name, getattr(self, name) + cycles)
        for queue in (self.places, self.complete, self.tape_pops, self.taken,
                      self.writes):
            for k in range(len(queue)):
                queue[k] += cycles

    def run_group(self) -> None:
        """One group of output channels: constants, then tile after tile."""
        for _ in range(self.constant_words):     # not before those of the last group are in use
            self.take_tape_word(self.first_finish + self.array_latency + 1)
        first = True
        shape = self.shape
        inner, outer = ((shape.lines, shape.tiles) if shape.slides
                        else (shape.tiles, shape.lines))
        for outer_index in range(outer):
            for inner_index in range(inner):
                tile = outer_index if shape.slides else inner_index
                self.run_tile(inner_index == inner - 1)
                if first:
                    self.first_finish, first = self.finish, False
                self.write_tile(shape.pixel_last + 1 if tile == shape.tiles - 1 else self.pixels)

    def run_tile(self, strip_last: bool) -> None:
        """All windows of a tile, and the rows it is the first to need."""
        shape = self.shape
        rows, columns = shape.kernel
        for input_group, products in enumerate(shape.products):
            last_group = input_group == len(shape.products) - 1
            for row in range(rows):
                last = last_group and row == rows - 1
                while len(self.complete) <= (row if shape.slides else 0):
                    self.fetch_row()
                for column in range(columns):
                    self.queue_window(row)
                    self.run_window(products, last and column == columns - 1)
                if not shape.slides:
                    self.give_up(1)
                elif last:
                    self.give_up(rows if strip_last else shape.stride_rows)

    def fetch_row(self) -> None:
        """Request the words of a row, the first when a place is free for it."""
        self.issue = max(self.issue, self.places.popleft())
        for _ in range(self.shape.patch_columns):
            issue = self.issue + 1
            if self.blocking:
                writes = self.writes
                while writes and writes[0] < issue:
                    writes.popleft()
                while writes and writes[0] == issue:
                    writes.popleft()
                    issue += 1
            self.issue = issue
        self.complete.append(self.issue + self.row_latency)

    def queue_window(self, row: int) -> None:
        """A window of a row queues up: the ``row``-th kept, or the oldest where none slide."""
        complete = self.complete[row if self.shape.slides else 0]
        self.queued = max(self.queued + 1, complete, self.taken[0] + 1)

    def give_up(self, rows: int) -> None:
        """The oldest rows' places can be asked for two cycles after the latest window was taken."""
        for _ in range(rows):
            self.complete.popleft()
            self.places.append(self.taken[-1] + 1)

    def run_window(self, products: int, last: bool) -> None:
        """The array takes the oldest window and issues its products."""
        self.taken.append(max(self.queued + 1, self.product))
        earliest = self.taken[-1] + 1
        for index in range(products):
            if index == 0:
                earliest = max(earliest, self.finish + 1 + self.rest)
            if last and index == products - 1:
                earliest = max(earliest, self.finish + self.drain)
            self.product = self.take_tape_word(earliest)
            earliest = self.product + 1
        if last:
            self.finish = self.product

    def take_tape_word(self, earliest: int) -> int:
        """The cycle in which the next tape word is taken, not before ``earliest``."""
        self.tape_issue = max(self.tape_issue + 1, self.tape_pops[0] + 1)
        self.tape_pop = max(self.tape_issue + self.tape_latency, self.tape_pop + 1, earliest)
        self.tape_pops.append(self.tape_pop)
        return self.tape_pop

    def write_tile(self, pixels: int) -> None:
        """Note when the tile's words are written."""
        first = self.finish + self.last_of_pixel(self.shape)
        self.last_write = first + (pixels - 1) * self.word_cycles
        if self.blocking:
            self.writes.extend(range(first, self.last_write + 1, self.word_cycles))
