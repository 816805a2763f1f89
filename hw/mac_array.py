"""The multiply-accumulate array, P pixels by C channels: pointwise, dense, depthwise, maximum."""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .accumulator import Accumulator
from .config import EngineConfig
from .multiplier import MultiplierPair, PackedPair
from .selector import Selector
from .words import TAGS, word_layout


def product_latency(config: EngineConfig) -> int:
    """Cycles from the issue of a product to its end."""
    multiplier = PackedPair if config.weight_bits == 4 else MultiplierPair
    return 2 * config.pipelined + multiplier.latency


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

    Members
    -------
    depthwise, maximum, in_strips, gathers, channel_last : In, from the layer descriptor
    i : In(stream of {words: P words, tags})
    weights : In(stream of C x signed(weight_bits))
    may_finish : In(1), a tile's last product is held back until this is high
    finishing : Out(1), that product is issued in this cycle
    done : Out(1), ``sums`` holds a finished tile in this cycle only
    sums : Out(P x C x signed(accumulator_bits)), ``tags`` : Out(TAGS), of that tile
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
            "i": In(stream.Signature(data.StructLayout({
                "words": data.ArrayLayout(word, pixels), "tags": TAGS}))),
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
        """An operand register, the choice of its channel, the multipliers, the accumulators.

        Registers that shift cost nothing on iCE40, where each has a lookup table in front of it,
        and multiplexers behind them do; on ECP5 it is the other way round.
        """
        m = Module()
        config  = self.config
        operand = Signal.like(self.i.payload.words, reset_less=True)
        tags    = Signal(TAGS)
        full    = Signal()
        channel = Signal(5)
        left    = Signal(5)      # products of the window after the next one
        final   = Signal()       # the window's next product is its last one
        issue   = Signal()

        strip_channels = config.channels // config.strips
        last_channel = Mux(self.i.payload.tags.partial, self.channel_last,
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
            m.d.sync += [tags.eq(self.i.payload.tags), full.eq(self.i.valid), channel.eq(0),
                         left.eq(last_channel), final.eq(last_channel == 0)]

        # What the product in each pipeline stage means.
        keep, accumulate, finish = Signal(), Signal(), Signal()
        control, finish_tags = Cat(~tags.first, issue, self.finishing), tags
        for stage in range(product_latency(config)):
            next_control = Signal(3, name=f"control{stage}")
            next_tags = Signal(TAGS, name=f"tags{stage}", reset_less=True)
            m.d.sync += [next_control.eq(control), next_tags.eq(finish_tags)]
            control, finish_tags = next_control, next_tags
        m.d.comb += Cat(keep, accumulate, finish).eq(control)
        m.d.sync += [self.done.eq(finish), self.tags.eq(finish_tags)]

        if not config.pipelined:
            with m.If(issue & ~self.depthwise):
                m.d.sync += [operand[p].eq(operand[p].as_value() >> 8)
                             for p in range(config.pixels)]
        # Where the engine is pipelined, words follow a cycle after what was decided about them: so
        # many registers are too far away to hear of it in the same cycle.
        taken, words = self.staged(m, self.i.ready), self.staged(m, self.i.payload.words)
        with m.If(taken):
            m.d.sync += operand.eq(words)
        operands = self.operands(m, operand, self.staged(m, channel), self.staged(m, tags.strip))
        for (p, c), product in self.products(m, operands).items():
            m.submodules[f"accumulator{p}_{c}"] = lane = Accumulator(
                config.accumulator_bits, len(product), maximum=config.maximum)
            m.d.comb += [
                lane.product.eq(product),
                lane.accumulate.eq(accumulate),
                lane.load.eq(~keep),
                lane.largest.eq(self.maximum),
                self.sums[p][c].eq(lane.total),
            ]
        return m

    def operands(self, m: Module, words: data.View, channel: Value, strip: Value
                 ) -> dict[tuple[int, int], Value]:
        """What each lane (pixel, channel) multiplies: its own byte, or one that is broadcast.

        Of each strip the byte of ``channel`` within the strip is broadcast to its lanes; or to all
        lanes that of the strip called ``strip``, or of the one in which ``channel`` lies. It is
        multiplexed where the engine is pipelined, with a register before lanes choose; otherwise
        the words are shifted, and it is the lowest one.
        """
        config = self.config
        size = config.channels // config.strips
        operands = {}
        for p in range(config.pixels):
            heads = [words[p][first] for first in range(0, config.channels, size)]
            if config.pipelined:
                heads = [selected(m, [words[p][first + k] for k in range(size)], channel)
                         for first in range(0, config.channels, size)]
                strip = strip | channel >> exact_log2(size)
            common = selected(m, heads, strip)
            for number, head in enumerate(heads):
                broadcast = self.staged(m, Mux(self.in_strips, head, common) if number else common)
                for c in range(number * size, (number + 1) * size):
                    operands[p, c] = Mux(self.depthwise, self.staged(m, words[p][c]), broadcast)
        return operands

    def products(self, m: Module, operands: dict[tuple[int, int], Value]
                 ) -> dict[tuple[int, int], Value]:
        """The products of the lanes (pixel, channel) with their weights.

        Where weights are small two pixels share a multiplication.
        """
        config = self.config
        weights = [self.staged(m, self.staged(m, self.weights.payload[c]))
                   for c in range(config.channels)]
        products = {}
        if config.weight_bits == 4:
            for c, weight in enumerate(weights):
                for first in range(0, config.pixels, 2):
                    m.submodules[f"multiplier{first}_{c}"] = packed = PackedPair()
                    m.d.comb += packed.w.eq(weight)
                    for side, p in enumerate(range(first, min(first + 2, config.pixels))):
                        m.d.comb += packed.x[side].eq(operands[p, c])
                        products[p, c] = packed.o[side]
            return products
        lanes = [(p, c) for c in range(config.channels) for p in range(config.pixels)]
        for k in range(0, len(lanes), 2):
            m.submodules[f"multipliers{k}"] = pair = MultiplierPair()
            for side, (p, c) in enumerate(lanes[k:k + 2]):
                m.d.comb += [pair.x[side].eq(operands[p, c]), pair.w[side].eq(weights[c])]
                products[p, c] = pair.o[side]
        return products

    def staged(self, m: Module, value: Value) -> Value:
        """``value`` through a register where the engine is pipelined."""
        if not self.config.pipelined:
            return value
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
