"""The multiply-accumulate array, P pixels by C channels: pointwise, dense, depthwise, maximum."""

from collections.abc import Iterator

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .accumulator import Accumulator
from .config import EngineConfig
from .copies import copied, spread
from .multiplier import MultiplierPair, PackedPair
from .packing import PIXELS
from .selector import Selector
from .table_product import TableProduct
from .term_product import AUSN_TERMS, CHOICE, LINEAR_TERMS, WEIGHT_BITS, TermProduct, Terms
from .words import TAGS, word_layout


def multiplier(config: EngineConfig) -> type[PackedPair] | type[MultiplierPair]:
    """What makes the products of two lanes."""
    return PackedPair if config.weight_bits <= PIXELS.weight_bits else MultiplierPair


def operand_latency(config: EngineConfig) -> int:
    """Cycles from the issue of a product to its operands."""
    return 1 + 2 * config.pipelined


def product_latency(config: EngineConfig) -> int:
    """Cycles from the issue of a product to its end."""
    return operand_latency(config) + multiplier(config).latency


def array_latency(config: EngineConfig) -> int:
    """Cycles from the issue of a tile's last product to its sums."""
    return product_latency(config) + 1


class MacArray(wiring.Component):
    """Accumulate windows against weights; announce a tile's P x C sums when its last product is in.

    Pointwise and dense layers broadcast one channel of each of the P words per cycle, against one
    weight word of C output channels; ``channel_last + 1`` channels of a window tagged ``partial``,
    all C of any other. Where words hold ``strips`` (`hw.strips`), lanes get the channels of their
    own strip or, where the layer gathers, all of them those of the strip that the tags name.
    Depthwise layers use a whole window in every cycle, ``channel_last + 1`` times: lane (p, c) has
    its own channel. With ``maximum`` a lane keeps the largest product (weights are then equal and
    positive). One product per lane and cycle; sums appear `array_latency` cycles after the last one
    is issued.

    In an engine with ``mixed`` lanes the weights of odd channels are AUSN codes (`AUSN_TERMS`).

    Members
    -------
    depthwise, maximum, in_strips, gathers, channel_last : In, from the layer descriptor
    i : In(stream of TAGS), the windows
    words : In(P words), from `read_latency` cycles after a window was taken until the next one's
    weights : In(stream of C x signed(weight_bits))
    may_finish : In(1), a tile's last product is held back until this is high
    finishing : Out(1), that product is issued in this cycle
    done : Out(1), a tile is finished
    tags : Out(TAGS), of that tile in this cycle
    sums : Out(P x C x signed(accumulator_bits)), of that tile: in this cycle only or, where the
        engine is pipelined, from the second cycle after it through the first after the next
        ``done``, so that whatever chooses one of them can travel first
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        pixels, channels = config.pixels, config.channels
        word = word_layout(channels)
        super().__init__({
            "depthwise":    In(1),
            "maximum":      In(1),
            "in_strips":    In(1),
            "gathers":      In(1),
            "channel_last": In(5),
            "i":            In(stream.Signature(TAGS)),
            "words":        In(data.ArrayLayout(word, pixels)),
            "weights":      In(stream.Signature(
                data.ArrayLayout(signed(config.weight_bits), channels))),
            "may_finish":   In(1),
            "finishing":    Out(1),
            "done":         Out(1),
            "sums": Out(data.ArrayLayout(
                data.ArrayLayout(signed(config.accumulator_bits), channels), pixels)),
            "tags":         Out(TAGS),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Which product is next; its operands; the multipliers; the accumulators.

        What is decided about a product follows it through the pipeline, so that the many registers
        of words and weights need not hear of it at once.
        """
        m = Module()
        config  = self.config
        tags    = Signal(TAGS)
        full    = Signal()
        channel = Signal(5)
        left    = Signal(5)      # products of the window after the next one
        final   = Signal()       # the window's next product is its last one
        issue   = Signal()

        strip_channels = config.channels // config.strips
        last_channel = Mux(self.i.payload.partial, self.channel_last,
                           Mux(self.in_strips | self.gathers, strip_channels - 1,
                               config.channels - 1))
        may_issue = Signal()
        m.d.comb += [
            may_issue.eq(full & (self.may_finish | ~(final & tags.last))),
            issue.eq(may_issue & self.weights.valid),
            self.weights.ready.eq(may_issue),
            self.finishing.eq(issue & final & tags.last),
            self.i.ready.eq(~full | (issue & final)),
        ]
        with m.If(issue):
            m.d.sync += [channel.eq(channel + 1), left.eq(left - 1), final.eq(left == 1),
                         tags.first.eq(0)]
        with m.If(self.i.ready):
            m.d.sync += [tags.eq(self.i.payload), full.eq(self.i.valid), channel.eq(0),
                         left.eq(last_channel), final.eq(last_channel == 0)]

        # What the product in each pipeline stage means; in the last one, lanes have copies of it.
        controls, finish_tags = [Cat(~tags.first, issue, self.finishing)], tags
        for stage in range(product_latency(config)):
            control = Signal(3, name=f"control{stage}")
            next_tags = Signal(TAGS, name=f"tags{stage}", reset_less=True)
            m.d.sync += [control.eq(controls[-1]), next_tags.eq(finish_tags)]
            controls.append(control)
            finish_tags = next_tags
        if config.pipelined:
            copies = spread(m, platform, controls[-3], config.channels)
        else:
            copies = copied(m, platform, controls[-2], config.channels)
        m.d["comb" if config.pipelined else "sync"] += [self.done.eq(controls[-1][2]),
                                                        self.tags.eq(finish_tags)]

        products, lacks = self.products(
            m, self.operands(m, platform, issue, channel, tags.strip))
        for c, (keep, accumulate, finish) in enumerate(copies):
            finished = self.staged(m, finish)
            for p in range(config.pixels):
                product = products[p, c]
                m.submodules[f"accumulator{p}_{c}"] = lane = Accumulator(
                    config.accumulator_bits, len(product), maximum=config.maximum,
                    carries=(p, c) in lacks)
                if (p, c) in lacks:
                    m.d.comb += lane.carry.eq(lacks[p, c])
                m.d.comb += [
                    lane.product.eq(product),
                    lane.accumulate.eq(accumulate),
                    lane.load.eq(~keep),
                    lane.largest.eq(self.maximum),
                ]
                total = lane.total
                if config.pipelined:
                    total = Signal.like(total, reset_less=True)
                    with m.If(finished):
                        m.d.sync += total.eq(lane.total)
                m.d.comb += self.sums[p][c].eq(total)
        return m

    def operands(self, m: Module, platform: object, issue: Value, channel: Value, strip: Value
                 ) -> dict[tuple[int, int], Value]:
        """What each lane (pixel, channel) multiplies: its own byte, or one that is broadcast.

        Of each strip the byte of ``channel`` within the strip is broadcast to its lanes; or to all
        lanes that of the strip called ``strip``, or of the one in which ``channel`` lies. It is
        multiplexed where the engine is pipelined, with a register before lanes choose; otherwise
        the words are shifted, and it is the lowest one: registers that shift cost nothing on iCE40,
        where each has a lookup table in front of it, and on ECP5 it is the other way round.
        """
        config = self.config
        size = config.channels // config.strips
        if config.pipelined:
            words = self.staged(m, self.words)
            indices = spread(m, platform, Cat(channel, strip), config.pixels * config.strips)
            settings = spread(m, platform, Cat(self.depthwise, self.in_strips), config.channels)
        else:
            words = self.shifted(m, issue)
            indices = [Cat(Const(0, len(channel)), self.staged(m, strip))] * (
                config.pixels * config.strips)
            settings = [Cat(self.depthwise, self.in_strips)] * config.channels
        operands = {}
        for p in range(config.pixels):
            own_indices = indices[p * config.strips:(p + 1) * config.strips]
            strip_words = [[words[p][first + k] for k in range(size)]
                           for first in range(0, config.channels, size)]
            strip = own_indices[0][len(channel):]
            if config.pipelined:
                heads = [selected(m, word, index[:len(channel)])
                         for word, index in zip(strip_words, own_indices, strict=True)]
                strip = strip | own_indices[0][:len(channel)] >> exact_log2(size)
            else:
                heads = [word[0] for word in strip_words]
            common = selected(m, heads, strip)
            for number, word in enumerate(strip_words):
                in_strips = settings[number * size][1]
                broadcast = Mux(in_strips, heads[number], common) if number else common
                if config.pipelined:
                    broadcast, word = self.staged(m, broadcast), [self.staged(m, x) for x in word]
                for c, own in enumerate(word, number * size):
                    operands[p, c] = Mux(settings[c][0], own, broadcast)
        return operands

    def shifted(self, m: Module, issue: Value) -> data.View:
        """The words, each moved down a channel by every product of a layer that broadcasts."""
        words = Signal.like(self.words, reset_less=True)
        taken, issued = self.staged(m, self.i.ready), self.staged(m, issue)
        with m.If(taken):
            m.d.sync += words.eq(self.words)
        with m.Elif(issued & ~self.depthwise):
            m.d.sync += [word.eq(word.as_value() >> 8) for word in words]
        return words

    def products(self, m: Module, operands: dict[tuple[int, int], Value]
                 ) -> tuple[dict[tuple[int, int], Value], dict[tuple[int, int], Value]]:
        """The products of the lanes (pixel, channel) with their weights, and what some lack.

        Where weights are small two pixels share a multiplication. The multipliers of the last
        ``table_pixels`` are made of lookup tables.
        """
        config = self.config
        weights = earlier = self.weights.payload
        for _ in range(operand_latency(config)):
            weights, earlier = self.staged(m, weights), weights
        blocks = config.pixels - config.table_pixels
        products: dict[tuple[int, int], Value] = {}
        lacks: dict[tuple[int, int], Value] = {}
        if multiplier(config) is PackedPair:
            for c in range(config.channels):
                coded = config.mixed and c % 2 == 1
                sign = earlier[c][-1].replicate(WEIGHT_BITS - config.weight_bits)
                for p, product, lack in self.term_products(
                        m, operands, c, range(0 if coded else blocks, config.pixels),
                        AUSN_TERMS if coded else LINEAR_TERMS, Cat(earlier[c], sign)):
                    products[p, c], lacks[p, c] = product, lack
            for c in range(0, config.channels, 2 if config.mixed else 1):
                for first in range(0, blocks, 2):
                    packed = PackedPair()
                    m.submodules[f"multiplier{first}_{c}"] = packed
                    m.d.comb += packed.w.eq(weights[c])
                    for side, p in enumerate(range(first, min(first + 2, blocks))):
                        m.d.comb += packed.x[side].eq(operands[p, c])
                        products[p, c] = packed.o[side]
            return products, lacks
        for c in range(config.channels):
            for p in range(blocks, config.pixels):
                m.submodules[f"multiplier{p}_{c}"] = table = TableProduct(config.weight_bits)
                m.d.comb += [table.x.eq(operands[p, c]), table.w.eq(weights[c])]
                products[p, c] = table.o
        lanes = [(p, c) for c in range(config.channels) for p in range(blocks)]
        for k in range(0, len(lanes), 2):
            m.submodules[f"multipliers{k}"] = pair = MultiplierPair()
            for side, (p, c) in enumerate(lanes[k:k + 2]):
                m.d.comb += [pair.x[side].eq(operands[p, c]), pair.w[side].eq(weights[c])]
                products[p, c] = pair.o[side]
        return products, lacks

    def term_products(self, m: Module, operands: dict[tuple[int, int], Value], c: int,
                      pixels: range, terms: Terms, code: Value
                      ) -> Iterator[tuple[int, Value, Value]]:
        """For some pixels of a channel, in lanes that shift and add: the product, what it lacks.

        The weight's ``code`` comes a cycle before the operands.
        """
        if not pixels:
            return
        choices = [self.staged(m, terms.choice(code))]
        for _ in range(TermProduct.latency):
            choices.append(self.staged(m, choices[-1]))
        for p in pixels:
            m.submodules[f"multiplier{p}_{c}"] = lane = TermProduct(terms)
            m.d.comb += [lane.x.eq(operands[p, c]), Value.cast(lane.choices).eq(Cat(choices[:-1]))]
            yield p, lane.o, data.View(CHOICE, choices[-1]).lacks

    def staged(self, m: Module, value: Value) -> Signal:
        """``value`` a cycle later."""
        register = Signal(value.shape(), reset_less=True)
        m.d.sync += register.eq(value)
        return register


def selected(m: Module, choices: list[Value], index: Value) -> Value:
    """One of a power of two of bytes, by the lowest bits of ``index``."""
    if len(choices) == 1:
        return choices[0]
    selector = Selector(8, len(choices))
    m.submodules += selector
    m.d.comb += [selector.i[k].eq(choice) for k, choice in enumerate(choices)]
    m.d.comb += selector.index.eq(index)
    return selector.o
