"""Words of a patch of the map in, windows of P words out: each word is read once and used often."""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .ausn.activation import ActivationDecoder
from .ausn.code_product import ACTIVATIONS, LEVEL_BITS
from .buffer import Buffer
from .config import EngineConfig
from .copies import copied
from .descriptor import ADDRESS_BITS, CODE_FIELDS, COORDINATE_BITS, DescriptorLayout
from .memory import memory_latency
from .words import PLACE, TAGS, level_layout, word_layout

#: Words each lane holds, 2^PLACES_BITS: those of `row_places` rows, each with the columns of the
#: kernel, rounded up to a power of two.
PLACES_BITS = 8
#: Most rows kept: more than keep the memory ahead of the array would only cost counters.
ROWS_BITS = 4
#: Bits of a word in one block RAM: whole channels', so that they can lie beside their lanes.
PART_BITS = 32
#: A window that can be read: its place in the lanes' memories, the rows it is the last to need.
WINDOW = data.StructLayout({"place": PLACES_BITS, "given_up": ROWS_BITS + 1, "tags": TAGS})


def row_places(kernel_columns: int) -> int:
    """Rows for which a lane has places, 1 .. 2^ROWS_BITS; ``kernel_columns`` is 1 .. 256."""
    return min(1 << ROWS_BITS, (1 << PLACES_BITS) >> (kernel_columns - 1).bit_length())


def column_mask(kernel_columns: int) -> int:
    """Bits of a place that tell columns of the kernel, as a number."""
    return (1 << (kernel_columns - 1).bit_length()) - 1


def row_latency(config: EngineConfig) -> int:
    """Cycles from the request of a row's last word to the first of its windows in the queue."""
    return memory_latency(config)


def read_latency(config: EngineConfig) -> int:
    """Cycles from a window's taking to its words."""
    return 1 + config.pipelined


class WindowMemory(wiring.Component):
    """Fetch the rows of a patch and read windows from them, tap by tap.

    A tile of P output pixels looks at a patch: a few rows of ``(P - 1) * stride + kernel columns``
    words. Lane p owns a memory and keeps of each row the kernel's columns of its own pixel, so that
    one address reads tap (row, column) for all lanes. Where the layer ``slides``, tiles follow each
    other downwards and share the rows they have in common: only ``stride_rows`` new rows are
    fetched for a tile. Otherwise a row is given up when its taps have been read, and every tile
    fetches all of its own.

    In a map of ``strips`` a word may hold what belongs to the neighbouring strips; it is moved to
    its place on the way in (`neighbouring_strips`). In an engine of codes they become operands then
    (`operands`), and windows are of these.

    Rows are requested as soon as a place for them is free. A row's windows queue up `row_latency`
    cycles after its last request was accepted, one a cycle, and are read only when taken. So no
    stream has to hold up words, of which there are many: they appear `read_latency` cycles after
    their window was taken and stay until the next one's do.

    Members
    -------
    layer : In(DescriptorLayout), stable while running
    begin : In(1), starts a layer; give it while idle
    request : In(stream of {address, tag: PLACE})
    blocked : In(1), the memory does something else in this cycle: nothing is requested
    enable, address : Out, the activation memory's read port
    data : In, its answer, `memory_latency` cycles later
    o : Out(stream of TAGS), the windows
    words : Out(P words; of codes P x `level_layout`), of the latest window taken
    """

    def __init__(self, config: EngineConfig) -> None:
        self.strips = config.strips
        self.pixels = config.pixels
        self.channels = config.channels
        self.pipelined = config.pipelined
        self.codes = config.codes
        self.memory_latency = memory_latency(config)
        word = word_layout(config.word_bytes)
        window = word_layout(config.channels)
        if config.codes:
            window = level_layout(config.channels)
        super().__init__({
            "layer":   In(DescriptorLayout()),
            "begin":   In(1),
            "request": In(stream.Signature(data.StructLayout({
                "address": unsigned(ADDRESS_BITS), "tag": PLACE}))),
            "blocked": In(1),
            "enable":  Out(1),
            "address": Out(ADDRESS_BITS),
            "data":    In(word),
            "o":       Out(stream.Signature(TAGS)),
            "words":   Out(data.ArrayLayout(window, config.pixels)),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Rows are counted when requested, complete, offered whole and given up."""
        m = Module()
        layer     = self.layer
        requested = Signal(ROWS_BITS + 1)       # rows kept or under way
        complete  = Signal(ROWS_BITS + 1)       # rows whose windows have not all been offered
        base      = Signal(ROWS_BITS)           # number of the first of them
        passed    = Signal(ROWS_BITS + 1)       # rows whose last window is offered in this cycle
        given_up  = Signal(ROWS_BITS + 1)       # rows whose last window has been taken
        arriving  = Signal(ROWS_BITS)           # number of the row whose words arrive

        tag = self.request.payload.tag
        m.d.comb += [
            self.request.ready.eq(
                ~self.blocked & ((tag.column != 0) | (requested != layer.row_places))),
            self.enable.eq(self.request.valid & self.request.ready),
            self.address.eq(self.request.payload.address),
        ]
        valid, place = self.enable, tag
        for stage in range(self.memory_latency):
            next_valid = Signal(name=f"valid{stage}")
            next_place = Signal(PLACE, name=f"place{stage}", reset_less=True)
            m.d.sync += [next_valid.eq(valid), next_place.eq(place)]
            coming_valid, coming, valid, place = valid, place, next_valid, next_place
        m.d.sync += [
            requested.eq(requested + (self.enable & tag.row_end) - given_up),
            # A row is read two cycles after this at the earliest; then its last word is there.
            complete.eq(complete + (coming_valid & coming.row_end) - passed),
            arriving.eq(arriving + (valid & place.row_end)),
            base.eq(base + passed),
        ]

        m.submodules.windows = windows = Buffer(WINDOW)
        self.walk(m, complete, base, passed, windows.i)
        taken = Signal()
        m.d.comb += [
            self.o.valid.eq(windows.o.valid),
            self.o.payload.eq(windows.o.payload.tags),
            windows.o.ready.eq(self.o.ready),
            taken.eq(self.o.valid & self.o.ready),
        ]
        m.d.sync += given_up.eq(Mux(taken, windows.o.payload.given_up, 0))

        word = self.data
        if self.strips > 1:
            word = self.neighbouring_strips(m, copied(
                m, platform, Cat(coming.before, coming.after), self.channels))
        if self.codes:
            word = self.operands(m)
        bits = word.shape().size
        parts = [slice(low, min(low + PART_BITS, bits)) for low in range(0, bits, PART_BITS)]
        reads = [Cat(taken, windows.o.payload.place)] * len(parts)
        if self.pipelined:
            late_word = Signal.like(word, reset_less=True)
            m.d.sync += late_word.eq(word)
            word = late_word
            reads = copied(m, platform, reads[0], len(parts))
        for p in range(self.pixels):
            # The word's place within lane p's part of the row, known a cycle before the word.
            first = Signal(8, name=f"first{p}")
            own = Signal(PLACES_BITS, name=f"column{p}")
            m.d.sync += [first.eq(multiple(layer.lane_stride, p)), own.eq(coming.column - first)]
            for part, reading in zip(parts, reads, strict=True):
                m.submodules[f"lane{p}_{part.start}"] = lane = memory.Memory(
                    shape=part.stop - part.start, depth=1 << PLACES_BITS, init=[],
                    attrs={"ram_style": "block", "collision": "undefined"})
                write, read = lane.write_port(), lane.read_port()
                m.d["sync" if self.pipelined else "comb"] += [
                    write.en.eq(valid & (own <= layer.kernel_column_last)),
                    write.addr.eq(self.place_of(arriving, own)),
                ]
                m.d.comb += [
                    write.data.eq(word.as_value()[part]),
                    Cat(read.en, read.addr).eq(reading),
                    self.words[p].as_value()[part].eq(read.data),
                ]
        return m

    def neighbouring_strips(self, m: Module, moves: list[Value]) -> Value:
        """The word that arrived, each strip with the bytes of the strip before or after it.

        ``moves`` says for each byte whether it is to come from before and from after.
        """
        word  = Signal.like(self.data)
        own = self.channels // self.strips
        edge = [self.layer.strip_pad] * own
        stored = [*edge, *(self.data[c] for c in range(self.channels)), *edge]
        for c in range(self.channels):
            before, here, after = (stored[c + offset] for offset in (0, own, 2 * own))
            from_before, from_after = moves[c]
            m.d.comb += word[c].eq(Mux(from_before, before, Mux(from_after, after, here)))
        return word

    def operands(self, m: Module) -> Value:
        """The levels of the word that arrived, or the byte that all its channels share."""
        word = Signal(level_layout(self.channels))
        plain = self.layer[CODE_FIELDS["byte_input"]]
        codes = [self.data.as_value().word_select(c, ACTIVATIONS.bits)
                 for c in range(self.channels)]
        byte = Cat(codes[0], codes[self.channels // 2])
        for c, code in enumerate(codes):
            m.submodules[f"decoder{c}"] = decoder = ActivationDecoder(ACTIVATIONS)
            m.d.comb += [decoder.code.eq(code),
                         word.levels[c].eq(Mux(plain, byte[:LEVEL_BITS],
                                               decoder.o >> decoder.byte_shift))]
        m.d.comb += word.above.eq(Mux(plain, byte[LEVEL_BITS:], 0))
        return word

    def place_of(self, row: Value, column: Value) -> Value:
        """Where a lane keeps a word: the column's bits, and from the top down the row's.

        However many bits the columns need, rows have enough others, and no shifter is needed.
        """
        rows = row[:ROWS_BITS][::-1] << (PLACES_BITS - ROWS_BITS)
        return (rows & ~self.layer.column_mask) | column

    def walk(self, m: Module, complete: Value, base: Value, passed: Value,
             o: stream.Interface) -> None:
        """Offer a window for each tap of a tile, tile after tile, once its row is complete."""
        layer = self.layer
        column = Signal(8, name="kernel_column")
        row    = Signal(8, name="kernel_row")
        # (counter, last index), innermost first
        counters: list[tuple[Signal, Value]] = [
            (column, layer.kernel_column_last),
            (row, layer.kernel_row_last),
            (Signal(COORDINATE_BITS, name="input_group"), layer.input_group_last),
            (Signal(COORDINATE_BITS, name="inner"), layer.inner_last),
            (Signal(COORDINATE_BITS, name="outer"), layer.outer_last),
            (Signal(COORDINATE_BITS, name="output_group"), layer.output_group_last),
        ]
        at_last = Signal(len(counters))
        m.d.comb += at_last.eq(Cat(counter == last for counter, last in counters))
        wraps = [at_last[:level + 1].all() for level in range(len(counters))]

        # The counters are one window ahead of what follows from them.
        running, coming, advance, ahead = Signal(), Signal(), Signal(), Signal()
        window_row    = Signal(ROWS_BITS)           # from the first of those not all offered
        window_column = Signal(PLACES_BITS)
        window_passed = Signal(ROWS_BITS + 1)
        tags = Signal(TAGS)
        m.d.comb += [
            o.valid.eq(coming & (complete > window_row)),
            o.payload.place.eq(self.place_of(base + window_row, window_column)),
            o.payload.given_up.eq(window_passed),
            o.payload.tags.eq(tags),
            advance.eq(o.valid & o.ready),
            ahead.eq(~coming | advance),
            passed.eq(Mux(advance, window_passed, 0)),
        ]
        finished = Mux(at_last[3], layer.kernel_row_last + 1, layer.stride_rows)
        with m.If(ahead):
            m.d.sync += [
                coming.eq(running),
                window_row.eq(Mux(layer.slides, row, 0)),
                window_column.eq(column),
                window_passed.eq(Mux(at_last[0],
                                     Mux(layer.slides, Mux(at_last[1], finished, 0), 1), 0)),
                tags.first.eq(Cat(counter for counter, _ in counters[:3]) == 0),
                tags.last.eq(wraps[2]),
                tags.partial.eq(at_last[2]),
                tags.row_last.eq(Mux(layer.slides, at_last[4], at_last[3])),
                tags.inner_last.eq(at_last[3]),
                tags.group_last.eq(at_last[3:5].all()),
                tags.layer_last.eq(at_last[3:6].all()),
            ]
            if self.strips > 1:
                outer, _ = counters[4]
                m.d.sync += tags.strip.eq(Mux(layer.gathers, outer, 0))
        with m.If(ahead & running):
            with m.If(wraps[-1]):
                m.d.sync += running.eq(0)
            for level, (counter, _) in enumerate(counters):
                with m.If(wraps[level - 1] if level else 1):
                    m.d.sync += counter.eq(Mux(at_last[level], 0, counter + 1))
        with m.If(self.begin):
            m.d.sync += running.eq(1)


def multiple(value: Value, factor: int) -> Value:
    """``value * factor`` as a sum, so that no multiplier block is taken."""
    terms = [value << bit for bit in range(factor.bit_length()) if factor >> bit & 1]
    return sum(terms[1:], terms[0]) if terms else Const(0)
