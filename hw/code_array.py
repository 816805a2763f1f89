"""The array of an engine of codes: half its channels multiply in blocks, half shift and add."""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .ausn.code_product import CHOICE, LEVEL_BITS, CodeProduct, choice
from .block_sums import BlockSums
from .config import EngineConfig
from .words import TAGS, level_layout

#: Cycles from the issue of a product to its operands.
OPERAND_LATENCY = 1
#: Cycles from the issue of a product to its end, in lanes of both kinds.
PRODUCT_LATENCY = OPERAND_LATENCY + BlockSums.latency
#: Cycles from the issue of a tile's last product to its sums.
ARRAY_LATENCY = PRODUCT_LATENCY + 1
#: Cycles in which nothing is issued after a tile's last product: sums are cleared.
REST = 1


class CodeArray(wiring.Component):
    """Accumulate windows of levels against weights; announce a tile's sums, as `hw.mac_array` does.

    Lanes of the lower channels of a word are `BlockSums`, of linear weights; those of the upper
    ones shift and add (`CodeProduct`), of AUSN weights. Where a layer broadcasts, levels turn: lane
    (p, c) multiplies channel ``(c + k) mod C`` of pixel p with its weight number k, so that every
    lane has an operand register of its own and none a choice. There are ``channel_last + 1``
    products of each window.

    With ``blocks_only`` only the lower lanes count, and have weights of eight bits: the upper
    channels' codes are their upper halves.

    Members
    -------
    depthwise, blocks_only, channel_last : In, from the layer descriptor
    i : In(stream of TAGS), the windows
    words : In(P x `level_layout`), from the cycle after a window was taken until the next one is
    weights : In(stream of C x unsigned(4))
    may_finish : In(1), a tile's last product is held back until this is high
    finishing : Out(1), that product is issued in this cycle
    done : Out(1), a tile is finished; tags, sums : Out, of that tile in this cycle only
    """

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        channels = config.channels
        super().__init__({
            "depthwise":    In(1),
            "blocks_only":  In(1),
            "channel_last": In(5),
            "i":            In(stream.Signature(TAGS)),
            "words":        In(data.ArrayLayout(level_layout(channels), config.pixels)),
            "weights":      In(stream.Signature(
                data.ArrayLayout(unsigned(config.weight_bits), channels))),
            "may_finish":   In(1),
            "finishing":    Out(1),
            "done":         Out(1),
            "sums": Out(data.ArrayLayout(
                data.ArrayLayout(signed(config.accumulator_bits), channels), config.pixels)),
            "tags":         Out(TAGS),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Which product is next, the operands' registers, the lanes."""
        m = Module()
        config = self.config
        tags  = Signal(TAGS)
        full  = Signal()
        left  = Signal(5)        # products of the window after the next one
        final = Signal()         # the window's next product is its last one
        # What decides about the next product in a register each, since windows wait for it.
        closing = Signal()       # it is its tile's last one
        able    = Signal()       # there is one, and no rest
        issue = Signal()
        may_issue = Signal()
        m.d.comb += [
            may_issue.eq(able & (self.may_finish | ~closing)),
            issue.eq(may_issue & self.weights.valid),
            self.weights.ready.eq(may_issue),
            self.finishing.eq(issue & closing),
            self.i.ready.eq(~full | (issue & final)),
        ]
        with m.If(issue):
            m.d.sync += [left.eq(left - 1), final.eq(left == 1),
                         closing.eq((left == 1) & tags.last)]
        with m.If(self.i.ready):
            alone = self.channel_last == 0
            m.d.sync += [tags.eq(self.i.payload), full.eq(self.i.valid),
                         left.eq(self.channel_last), final.eq(alone),
                         closing.eq(alone & self.i.payload.last)]
        m.d.sync += able.eq(Mux(self.i.ready, self.i.valid, full) & ~self.finishing)

        # What the product in each pipeline stage means.
        control, finish_tags = Cat(issue, self.finishing), tags
        for stage in range(PRODUCT_LATENCY):
            next_control = Signal(2, name=f"control{stage}")
            next_tags = Signal(TAGS, name=f"tags{stage}", reset_less=True)
            m.d.sync += [next_control.eq(control), next_tags.eq(finish_tags)]
            control, finish_tags = next_control, next_tags
        accumulate, finished = control
        clear = Signal(init=1)                  # before the first tile, too
        m.d.sync += [self.done.eq(finished), clear.eq(finished), self.tags.eq(finish_tags)]

        words = self.turning(m, issue)
        half = config.block_channels
        weights = self.weights.payload
        for p in range(config.pixels):
            for c in range(0, half, 2):
                m.submodules[f"sums{p}_{c}"] = block = BlockSums()
                for side in range(2):
                    m.d.comb += [
                        block.x[side].eq(operand(words[p], c + side)),
                        self.sums[p][c + side].eq(block.total[side]),
                    ]
                m.d.comb += [block.accumulate.eq(accumulate), block.clear.eq(clear)]
        for c in range(half):
            code = weights[c]
            upper = Mux(self.blocks_only, weights[c + half], code[-1].replicate(4))
            weight = self.staged(m, Cat(code, upper))
            chosen = self.staged(m, choice(weights[c + half]))
            for p in range(config.pixels):
                block = getattr(m.submodules, f"sums{p}_{c - c % 2}")
                m.d.comb += block.w[c % 2].eq(weight)
                m.submodules[f"product{p}_{c}"] = lane = CodeProduct()
                total = Signal(signed(config.accumulator_bits), name=f"total{p}_{c}",
                               reset_less=True)
                m.d.comb += [lane.x.eq(operand(words[p], c + half)),
                             lane.weight.eq(data.View(CHOICE, chosen)),
                             self.sums[p][c + half].eq(total)]
                with m.If(clear):
                    m.d.sync += total.eq(0)
                with m.Elif(accumulate):
                    m.d.sync += total.eq(total + lane.o)
        return m

    def turning(self, m: Module, issue: Value) -> data.View:
        """The words, their levels turned by a channel by every product of a layer that broadcasts.
        """
        words = Signal.like(self.words, reset_less=True)
        taken, issued = self.staged(m, self.i.ready), self.staged(m, issue)
        with m.If(taken):
            m.d.sync += words.eq(self.words)
        with m.Elif(issued & ~self.depthwise):
            m.d.sync += [word.levels.eq(word.levels.as_value().rotate_right(LEVEL_BITS))
                         for word in words]
        return words

    def staged(self, m: Module, value: Value) -> Signal:
        """``value`` a cycle later."""
        register = Signal(value.shape(), reset_less=True)
        m.d.sync += register.eq(value)
        return register


def operand(word: data.View, channel: int) -> Value:
    """What lanes of a channel multiply: its level, or the byte that all channels share."""
    return Cat(word.levels[channel], word.above)
