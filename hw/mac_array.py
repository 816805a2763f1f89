"""The multiply-accumulate array, P pixels by C channels: pointwise, dense, depthwise, maximum."""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .multiplier import MultiplierPair
from .words import TAGS, word_layout


class MacArray(wiring.Component):
    """Accumulate windows against weights; announce a tile's P x C sums when its last product is in.

    Pointwise and dense layers broadcast one channel of each of the P words per cycle, against one
    weight word of C output channels; ``channel_last + 1`` channels of a window tagged ``partial``,
    all C of any other. Where words hold ``strips`` (`hw.strips`), lanes get the channels of their
    own strip or, where the layer gathers, all of them those of the strip that the tags name.
    Depthwise layers use a whole window in every cycle, ``channel_last + 1`` times: lane (p, c) has
    its own channel. With ``maximum`` a lane keeps the largest product (weights are then equal and
    positive). One product per lane and cycle; sums appear :attr:`latency` cycles after the last one
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

    latency = MultiplierPair.latency + 1

    def __init__(self, pixels: int, channels: int, accumulator_bits: int, weight_bits: int,
                 strips: int = 1) -> None:
        self.strips = strips
        self.pixels = pixels
        self.channels = channels
        self.accumulator_bits = accumulator_bits
        word = word_layout(channels)
        super().__init__({
            "depthwise":    In(1),
            "maximum":      In(1),
            "in_strips":    In(1),
            "gathers":      In(1),
            "channel_last": In(5),
            "i": In(stream.Signature(data.StructLayout({
                "words": data.ArrayLayout(word, pixels), "tags": TAGS}))),
            "weights":      In(stream.Signature(data.ArrayLayout(signed(weight_bits), channels))),
            "may_finish":   In(1),
            "finishing":    Out(1),
            "done":         Out(1),
            "sums": Out(data.ArrayLayout(data.ArrayLayout(signed(accumulator_bits), channels),
                                         pixels)),
            "tags":         Out(TAGS),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """An operand register that shifts by a channel, the multipliers, the accumulators."""
        m = Module()
        operand = Signal.like(self.i.payload.words)
        tags    = Signal(TAGS)
        full    = Signal()
        channel = Signal(5)
        final   = Signal()       # the window's last product
        issue   = Signal()

        strip_channels = self.channels // self.strips
        last_channel = Mux(tags.partial, self.channel_last,
                           Mux(self.in_strips | self.gathers, strip_channels - 1,
                               self.channels - 1))
        m.d.comb += [
            final.eq(channel == last_channel),
            issue.eq(full & self.weights.valid & (self.may_finish | ~(final & tags.last))),
            self.weights.ready.eq(full & (self.may_finish | ~(final & tags.last))),
            self.finishing.eq(issue & final & tags.last),
            self.i.ready.eq(~full | (issue & final)),
        ]
        with m.If(issue):
            m.d.sync += [channel.eq(channel + 1), tags.first.eq(0)]
        with m.If(issue & ~self.depthwise):
            m.d.sync += [operand[p].eq(operand[p].as_value() >> 8) for p in range(self.pixels)]
        with m.If(self.i.ready):
            m.d.sync += [operand.eq(self.i.payload.words), tags.eq(self.i.payload.tags),
                         full.eq(self.i.valid), channel.eq(0)]

        # What the product in each pipeline stage means.
        load, accumulate, finish = Signal(), Signal(), Signal()
        control, finish_tags = Cat(tags.first, issue, self.finishing), tags
        for stage in range(MultiplierPair.latency):
            next_control = Signal(3, name=f"control{stage}")
            next_tags = Signal(TAGS, name=f"tags{stage}", reset_less=True)
            m.d.sync += [next_control.eq(control), next_tags.eq(finish_tags)]
            control, finish_tags = next_control, next_tags
        m.d.comb += Cat(load, accumulate, finish).eq(control)
        m.d.sync += [self.done.eq(finish), self.tags.eq(finish_tags)]

        # The byte that is broadcast to the lanes of each strip.
        broadcast = {}
        for p in range(self.pixels):
            heads = [operand[p][c] for c in range(0, self.channels, strip_channels)]
            common = Signal(8, name=f"broadcast{p}")
            m.d.comb += common.eq(data.ArrayLayout(8, self.strips)(Cat(heads))[tags.strip]
                                  if self.strips > 1 else heads[0])
            for strip, own in enumerate(heads):
                broadcast[p, strip] = Mux(self.in_strips, own, common) if strip else common

        lanes = [(p, c) for c in range(self.channels) for p in range(self.pixels)]
        products = {}
        for k in range(0, len(lanes), 2):
            m.submodules[f"multipliers{k}"] = pair = MultiplierPair()
            for side, (p, c) in enumerate(lanes[k:k + 2]):
                m.d.comb += [
                    pair.x[side].eq(Mux(self.depthwise, operand[p][c],
                                        broadcast[p, c // strip_channels])),
                    pair.w[side].eq(self.weights.payload[c]),
                ]
                products[p, c] = pair.o[side]
        for (p, c), product in products.items():
            total = self.sums[p][c]
            greater = product[:9] > total[:9]      # maxima are 2 x unsigned(8)
            with m.If(accumulate):
                with m.If(load | (self.maximum & greater)):
                    m.d.sync += total.eq(product)
                with m.Elif(~self.maximum):
                    m.d.sync += total.eq(total + product)
        return m
