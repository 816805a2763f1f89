"""From a finished tile to memory: hold its sums, requantize them, write the words."""

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from .adder import ChoosingAdder
from .code_requantizer import LATENCY as CODE_LATENCY
from .code_requantizer import CodeRequantizer
from .config import EngineConfig
from .constant_banks import ConstantBanks
from .copies import spread
from .descriptor import ADDRESS_BITS, CODE_FIELDS, DescriptorLayout
from .requantizer import Requantizer, requantizer_latency
from .selector import Selector
from .words import TAGS, word_layout


class ResultWriter(wiring.Component):
    """Requantize the P x C sums of a tile, R per cycle, and write one word per pixel.

    A tile occupies the buffer for ``config.drain_cycles`` cycles; ``may_finish`` tells the array
    when the next one may end. Pixels beyond the end of an output row are not written. Writes cannot
    be held up. A group's constants arrive before its first tile (`ConstantBanks`).

    Members
    -------
    layer : In(DescriptorLayout)
    begin : In(1), load the layer's output address
    finishing : In(1), from the array: a tile's last product is issued in this cycle
    done, tags, sums : In, from the array
    may_finish : Out(1)
    constant : In(tape word), constant_valid : In(1), constant_ready : Out(1)
    write, address, data : Out, the memory's write port
    layer_done : Out(1), with the layer's last write
    """

    def __init__(self, config: EngineConfig, array_latency: int) -> None:
        self.config = config
        self.array_latency = array_latency
        word = word_layout(config.word_bytes)
        super().__init__({
            "layer":       In(DescriptorLayout()),
            "begin":       In(1),
            "finishing":   In(1),
            "done":        In(1),
            "sums": In(data.ArrayLayout(
                data.ArrayLayout(signed(config.accumulator_bits), config.channels), config.pixels)),
            "tags":        In(TAGS),
            "may_finish":  Out(1, init=1),
            "constant":    In(word_layout(config.tape_bytes)),
            "constant_valid": In(1),
            "constant_ready": Out(1),
            "write":       Out(1),
            "address":     Out(ADDRESS_BITS),
            "data":        Out(word),
            "layer_done":  Out(1),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """The sums, the requantizers, and counters delayed to match them."""
        m = Module()
        config  = self.config
        lanes   = config.requantizers
        chunks  = config.channels // lanes          # cycles per word
        layer   = self.layer

        # When the buffer is free: counted from the tile's last product, not from its arrival.
        pipeline = self.array_latency
        occupied = Signal(range(config.drain_cycles + pipeline + 1))
        m.d.sync += self.may_finish.eq(occupied <= pipeline + 1)     # from the next cycle on
        with m.If(self.finishing):
            m.d.sync += [occupied.eq(config.drain_cycles + pipeline - 1),
                         self.may_finish.eq(config.drain_cycles == 1)]
        with m.Elif(occupied != 0):
            m.d.sync += occupied.eq(occupied - 1)

        # Sums leave lowest lane first: channel within pixel.
        tags  = Signal(TAGS, reset_less=True)
        end   = Signal(4, reset_less=True)          # the tile's last valid pixel
        chunk = Signal(exact_log2(chunks))
        pixel = Signal(range(max(config.pixels, 2)))
        busy  = Signal()
        word_end = chunk == chunks - 1
        next_chunk, next_pixel = Signal.like(chunk), Signal.like(pixel)
        m.d.comb += [next_chunk.eq(Mux(busy, chunk + 1, chunk)), next_pixel.eq(pixel)]
        m.d.sync += [chunk.eq(next_chunk), pixel.eq(next_pixel)]
        with m.If(busy & word_end):
            m.d.comb += next_pixel.eq(pixel + 1)
            with m.If(pixel == config.pixels - 1):
                m.d.comb += next_pixel.eq(0)
                m.d.sync += busy.eq(0)
        with m.If(self.done):
            # Pixels beyond the last may still be leaving when the next layer's descriptor arrives.
            m.d.sync += [tags.eq(self.tags), busy.eq(1),
                         end.eq(Mux(self.tags.row_last, layer.pixel_last, config.pixels - 1))]

        group_first = Signal(init=1)                # the next tile is its group's first
        with m.If(self.done):
            m.d.sync += group_first.eq(self.tags.group_last)
        m.submodules.banks = banks = ConstantBanks(config)
        m.d.comb += [
            banks.constant.eq(self.constant),
            banks.valid.eq(self.constant_valid),
            self.constant_ready.eq(banks.ready),
            banks.switch.eq(self.done & group_first),
            banks.chunk.eq(next_chunk),
        ]
        chosen = self.chosen_sums(m, platform, busy, Cat(next_chunk, next_pixel))
        settings = [Cat(layer.shift, layer.signed_output)] * lanes
        if config.pipelined:
            settings = spread(m, platform, settings[0], lanes)
        results: list[Value] = []
        for lane in range(lanes if not config.codes else 0):
            m.submodules[f"requantizer{lane}"] = unit = Requantizer(
                config.biased_bits, config.multiplier_slice, clips=config.clips,
                leaky=config.leaky, shifts=config.shifts, pipelined=config.pipelined)
            m.d.comb += [
                unit.constants.eq(banks.o.word_select(lane, 8 * config.constant_bytes)),
                Cat(unit.shift, unit.signed_output).eq(settings[lane]),
                unit.lo.eq(layer.lo),
            ]
            results.append(unit.o)
            lower, upper, choice = chosen[lane]
            m.d.comb += [unit.acc[0].eq(lower), unit.acc[1].eq(upper), unit.upper.eq(choice)]
        if config.codes:
            results = self.codes(m, chosen, banks.o)
            # The blocks alone make bytes, which are the first chunk's of a word.
            word_end = chunk == Mux(layer[CODE_FIELDS["byte_result"]], 0, chunks - 1)

        # What each requantizer output means, delayed beside it.
        control = Cat(busy, busy & word_end & (pixel <= end), pixel == end, tags.inner_last,
                      tags.group_last, tags.layer_last)
        latency = (CODE_LATENCY if config.codes else
                   config.pipelined + requantizer_latency(pipelined=config.pipelined))
        for stage in range(latency):
            later = Signal(len(control), name=f"control{stage}")
            m.d.sync += later.eq(control)
            control = later
        valid, word_done, tile_last, inner_last, group_last, layer_last = control

        if config.codes:
            self.gather_codes(m, results)
        else:
            self.gather(m, results, valid)
        m.d.sync += [self.write.eq(word_done), self.layer_done.eq(word_done & tile_last
                                                                  & layer_last)]

        # The next word follows this one, or a step leads from this tile's first to the next one's.
        tile = Signal(ADDRESS_BITS)                 # address of the tile's first word
        at_tile_last, at_inner_last, at_group_last = Signal(), Signal(), Signal()
        m.d.sync += [at_tile_last.eq(tile_last), at_inner_last.eq(inner_last),
                     at_group_last.eq(group_last)]
        step = Mux(at_group_last, layer.result_group,
                   Mux(at_inner_last, layer.result_outer, layer.result_inner))
        m.submodules.following = adder = ChoosingAdder(ADDRESS_BITS)
        following = adder.o
        m.d.comb += [
            adder.a.eq(Mux(at_tile_last, tile, self.address)),
            adder.b.eq(step),
            adder.c.eq(layer.result_pixel),
            adder.choose.eq(at_tile_last),
        ]
        with m.If(self.write):
            m.d.sync += self.address.eq(following)
            with m.If(at_tile_last):
                m.d.sync += tile.eq(following)
        with m.If(self.begin):
            m.d.sync += [self.address.eq(layer.output_address), tile.eq(layer.output_address)]
        return m

    def gather(self, m: Module, results: list[Value], valid: Value) -> None:
        """Gather R bytes a cycle to a word; of each requantizer's the oldest end up lowest."""
        config = self.config
        chunks = config.channels // config.requantizers
        for lane, result in enumerate(results):
            own = Signal(8 * chunks, name=f"gathered{lane}", reset_less=True)
            with m.If(valid if chunks > 1 else 1):
                m.d.sync += own.eq(Cat(own, result)[8:])
            for place, c in enumerate(config.requantized(lane)):
                m.d.comb += self.data[c].eq(own.word_select(place, 8))

    def codes(self, m: Module, chosen: list[tuple[Value, Value, Value]], constants: Value
              ) -> list[Value]:
        """The results of an engine of codes: codes in the lower halves of bytes, or bytes."""
        layer, results = self.layer, []
        for lane, (acc, _, _) in enumerate(chosen):
            m.submodules[f"requantizer{lane}"] = unit = CodeRequantizer(self.config)
            m.d.comb += [
                unit.acc.eq(acc),
                unit.constants.eq(constants.word_select(lane, 8 * self.config.constant_bytes)),
                unit.byte_result.eq(layer[CODE_FIELDS["byte_result"]]),
                unit.signed_output.eq(layer.signed_output),
            ]
            results.append(unit.o)
        return results

    def gather_codes(self, m: Module, results: list[Value]) -> None:
        """Put a word of codes or bytes together.

        Of codes a chunk is half a word, and the older one ends up in the lower half. Of bytes it is
        the word: their lower halves in its lower half and their upper ones above.
        """
        gathered = Signal(8 * self.config.word_bytes, reset_less=True)
        half = len(gathered) // 2
        low, high = (Cat(result[start:start + 4] for result in results) for start in (0, 4))
        byte_result = self.layer[CODE_FIELDS["byte_result"]]
        m.d.sync += gathered.eq(Cat(Mux(byte_result, low, gathered[half:]),
                                    Mux(byte_result, high, low)))
        m.d.comb += self.data.eq(gathered)

    def chosen_sums(self, m: Module, platform: object, busy: Value, number: Value
                    ) -> list[tuple[Value, Value, Value]]:
        """What each requantizer is given: two sums, and whether it is to take the second one.

        Sums leave in the order of their numbers; ``number`` is that of the next cycle's. Where the
        engine is pipelined it is that of the one after it, and they are multiplexed: one of those
        whose number's highest bit is 0, one of the others. Otherwise they shift, and it is the
        lowest one.
        """
        config = self.config
        lanes = config.requantizers
        if not config.pipelined:
            sums = Signal.like(self.sums, reset_less=True)
            with m.If(self.done):
                m.d.sync += sums.eq(self.sums)
            with m.Elif(busy):
                m.d.sync += sums.eq(sums.as_value() >> (lanes * config.accumulator_bits))
            return [(sums[0][lane], Const(0), Const(0)) for lane in range(lanes)]
        chosen = []
        for lane, index in enumerate(spread(m, platform, number, lanes)):
            own = [self.sums[p][c] for p in range(config.pixels) for c in config.requantized(lane)]
            half = 1 << ceil_log2(max(len(own), 2)) - 1
            sides = []
            for side, part in enumerate((own[:half], own[half:] or own[:1])):
                m.submodules[f"select{lane}_{side}"] = selector = Selector(
                    config.accumulator_bits, len(part))
                m.d.comb += [selector.index.eq(index),
                             *(selector.i[k].eq(value) for k, value in enumerate(part))]
                sides.append(selector.o.as_signed())
            chosen.append((*sides, index >> exact_log2(half)))
        return chosen
