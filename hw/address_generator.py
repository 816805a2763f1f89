"""The walk over a layer's input map: six nested loops, one address per cycle."""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .adder import ChoosingAdder
from .descriptor import ADDRESS_BITS, COORDINATE_BITS, DescriptorLayout
from .words import PLACE


class AddressGenerator(wiring.Component):
    """Emit the address of every word of every patch, row by row.

    From the outside in: output group, two loops over tiles, input group, row, column. Where tiles
    slide, the inner of the tiles' loops goes downwards. A position outside the map yields the
    padding word's address. In a map of ``strips`` (`hw.strips`) a row before or after a strip is
    the one at its other end, of the strip before or after it, and the tag says so. One address per
    cycle, the first one :attr:`latency` cycles after ``begin``. With ``ahead`` rows have two
    words or more, so that the ends of loops can be known a word before, which is quicker.

    Members
    -------
    layer : In(DescriptorLayout), stable while running
    begin : In(1), starts a layer; give it while idle
    o : Out(stream of {address, tag: PLACE})
    """

    latency = 3

    def __init__(self, strips: int = 1, *, ahead: bool = False) -> None:
        self.strips = strips
        self.ahead = ahead
        super().__init__({
            "layer": In(DescriptorLayout()),
            "begin": In(1),
            "o": Out(stream.Signature(data.StructLayout({
                "address": unsigned(ADDRESS_BITS), "tag": PLACE}))),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Counters decide which loop level advances; its steps are chosen; they are added."""
        m = Module()
        layer = self.layer

        inner_last = layer.inner_last               # the innermost loop over patches
        if not self.ahead:
            inner_last = Signal(COORDINATE_BITS)
            m.d.sync += inner_last.eq(Mux(layer.slides, 0, layer.inner_last))
        # (counter, last index), innermost first
        word = Signal(8)
        counters: list[tuple[Signal, Value]] = [
            (word, layer.patch_column_last),
            (Signal(COORDINATE_BITS, name="patch_row"), layer.patch_row_last),
            (Signal(COORDINATE_BITS, name="input_group"), layer.input_group_last),
            (Signal(COORDINATE_BITS, name="inner"), inner_last),
            (Signal(COORDINATE_BITS, name="outer"), layer.outer_last),
            (Signal(COORDINATE_BITS, name="output_group"), layer.output_group_last),
        ]
        at_last = Signal(len(counters))
        if self.ahead:      # those of the outer loops count from their second word on
            m.d.sync += at_last[1:].eq(Cat(counter == last for counter, last in counters[1:])
                                       | layer.slides << 2)
        else:
            m.d.comb += at_last.eq(Cat(counter == last for counter, last in counters))
        # wraps[k]: levels 0..k are all at their last index
        wraps = [at_last[:level + 1].all() for level in range(len(counters))]

        address = Signal(ADDRESS_BITS)
        column  = Signal(COORDINATE_BITS)
        row     = Signal(COORDINATE_BITS)
        address_steps = [layer.address_column, layer.address_row, layer.address_input_group,
                         layer.address_inner, layer.address_outer, layer.address_output_group]
        column_steps = [layer.column_column, layer.column_restart, layer.column_restart,
                        layer.column_inner, layer.column_outer, layer.column_output_group]
        row_steps = [0, 1, layer.row_restart, layer.row_restart, layer.row_outer,
                     layer.row_output_group]

        # Three places move on together: the counters, what follows from them, and the output.
        running = Signal()
        valid   = Signal()
        advance = Signal()
        m.d.comb += advance.eq(~self.o.valid | self.o.ready)
        place = Signal(PLACE)                       # of the word at ``address``
        address_step = Signal.like(address)         # from there to the next one
        column_step  = Signal.like(column)
        row_step     = Signal.like(row)
        with m.If(advance & running):
            with m.If(wraps[-1]):
                m.d.sync += running.eq(0)
            for level, (counter, _) in enumerate(counters):
                enable = wraps[level - 1] if level else 1
                with m.If(enable):
                    m.d.sync += counter.eq(Mux(at_last[level], 0, counter + 1))
            if self.ahead:
                m.d.sync += at_last[0].eq(word + 1 == layer.patch_column_last)
        with m.If(advance):
            m.d.sync += [
                valid.eq(running),
                place.column.eq(word),
                place.row_end.eq(at_last[0]),
                address_step.eq(first_match(wraps, address_steps)),
                column_step.eq(first_match(wraps, column_steps)),
                row_step.eq(first_match(wraps, row_steps)),
            ]
        with m.If(advance & valid):
            m.d.sync += [
                address.eq(address + address_step),
                column.eq(column + column_step),
                row.eq(row + row_step),
            ]
        with m.If(self.begin):
            m.d.sync += [
                running.eq(1),
                address.eq(layer.input_address),
                column.eq(layer.first_column),
                row.eq(layer.first_row),
            ]

        tag = self.o.payload.tag
        inside = Signal()
        before = row[-1]                            # a negative row
        if self.strips > 1:
            m.submodules.moved = moved = ChoosingAdder(ADDRESS_BITS)
            m.d.comb += [
                moved.a.eq(address),
                moved.b.eq(layer.strip_words),
                moved.c.eq(~layer.strip_words),     # and a carry: subtracted
                moved.choose.eq(before),
                moved.carry.eq(~before),
            ]
        m.d.comb += inside.eq((column < layer.width) & (row < layer.height))
        with m.If(advance):
            m.d.sync += [
                self.o.valid.eq(valid),
                tag.eq(place),
                self.o.payload.address.eq(Mux(inside, address, layer.pad_address)),
            ]
            if self.strips > 1:
                with m.If(layer.in_strips & (column < layer.width) & ~inside):
                    m.d.sync += [
                        self.o.payload.address.eq(moved.o),
                        tag.before.eq(before),
                        tag.after.eq(~before),
                    ]
        return m


def first_match(wraps: list[Value], steps: list[Value | int]) -> Value:
    """The step of the innermost level that does not wrap."""
    chosen: Value | int = steps[-1]
    for level in reversed(range(len(steps) - 1)):
        chosen = Mux(wraps[level], chosen, steps[level])
    return chosen
