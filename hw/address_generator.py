"""The walk over a layer's input map: seven nested loops, one address per cycle."""

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from .descriptor import ADDRESS_BITS, COORDINATE_BITS, DescriptorLayout
from .line_buffer import TAGS


class AddressGenerator(wiring.Component):
    """Emit the address of every word a layer reads, in the order in which the array uses them.

    From the outside in: output group, output row, tile of P columns, kernel row, input group,
    residue of the column modulo the stride, column. A position outside the map yields the padding
    word's address. One address per cycle; `hw.schedule.walk` lists the same words in Python.

    Members
    -------
    layer : In(DescriptorLayout), stable while running
    begin : In(1), starts a layer; give it while idle
    o : Out(stream of {address, tag: TAGS})
    """

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        super().__init__({
            "layer": In(DescriptorLayout()),
            "begin": In(1),
            "o": Out(stream.Signature(data.StructLayout({
                "address": unsigned(ADDRESS_BITS), "tag": TAGS}))),
        })

    def elaborate(self, platform: object) -> Elaboratable:
        """Counters decide which loop level advances; that level's steps are added."""
        m = Module()
        layer = self.layer

        # (counter, last index), innermost first
        word = Signal(8)
        long = Signal()
        counters: list[tuple[Signal, Value]] = [
            (word, Mux(long, layer.column_long, layer.column_short)),
            (Signal(8, name="residue"), layer.residue_last),
            (Signal(COORDINATE_BITS, name="input_group"), layer.input_group_last),
            (Signal(8, name="kernel_row"), layer.kernel_row_last),
            (Signal(COORDINATE_BITS, name="tile"), layer.tile_last),
            (Signal(COORDINATE_BITS, name="line"), layer.line_last),
            (Signal(COORDINATE_BITS, name="output_group"), layer.output_group_last),
        ]
        at_last = Signal(len(counters))
        m.d.comb += at_last.eq(Cat(counter == last for counter, last in counters))
        # wraps[k]: levels 0..k are all at their last index
        wraps = [at_last[:level + 1].all() for level in range(len(counters))]

        residue = counters[1][0]
        address = Signal(ADDRESS_BITS)
        column  = Signal(COORDINATE_BITS)
        row     = Signal(COORDINATE_BITS)
        address_steps = [layer.address_column,
                         Mux(long, layer.address_residue_long, layer.address_residue_short),
                         layer.address_input_group, layer.address_kernel_row, layer.address_tile,
                         layer.address_line, layer.address_output_group]
        column_steps = [layer.column_column,
                        Mux(long, layer.column_residue_long, layer.column_residue_short),
                        layer.column_restart, layer.column_restart, layer.column_tile,
                        layer.column_line, layer.column_line]
        row_steps = [0, 0, 0, 1, layer.row_tile, layer.row_line, layer.row_output_group]

        running = Signal()
        advance = Signal()
        m.d.comb += [self.o.valid.eq(running), advance.eq(running & self.o.ready)]
        with m.If(advance):
            with m.If(wraps[-1]):
                m.d.sync += running.eq(0)
            for level, (counter, _) in enumerate(counters):
                enable = wraps[level - 1] if level else 1
                with m.If(enable):
                    m.d.sync += counter.eq(Mux(at_last[level], 0, counter + 1))
            m.d.sync += [
                address.eq(address + first_match(wraps, address_steps)),
                column.eq(column + first_match(wraps, column_steps)),
                row.eq(row + first_match(wraps, row_steps)),
            ]
            with m.If(wraps[0]):
                m.d.sync += long.eq(Mux(at_last[1], 0, residue + 1) < layer.residue_split)
        with m.If(self.begin):
            m.d.sync += [
                running.eq(1),
                address.eq(layer.input_address),
                column.eq(layer.first_column),
                row.eq(layer.first_row),
                long.eq(layer.residue_split != 0),
            ]

        # The first window of a tile closes with word P-1 of the first residue of the first group
        # and kernel row; its levels are then all at zero but the word's.
        tag = self.o.payload.tag
        inner_first = Signal()
        m.d.comb += [
            self.o.payload.address.eq(Mux((column < layer.width) & (row < layer.height),
                                          address, layer.pad_address)),
            inner_first.eq(Cat(counter for counter, _ in counters[1:4]) == 0),
            tag.window.eq(word >= self.pixels - 1),
            tag.first.eq((word == self.pixels - 1) & inner_first),
            tag.last.eq(wraps[3]),
            tag.partial.eq(at_last[2]),
            tag.row_last.eq(at_last[4]),
            tag.group_last.eq(at_last[4:6].all()),
            tag.layer_last.eq(at_last[4:7].all()),
        ]
        return m


def first_match(wraps: list[Value], steps: list[Value | int]) -> Value:
    """The step of the innermost level that does not wrap."""
    chosen: Value | int = steps[-1]
    for level in reversed(range(len(steps) - 1)):
        chosen = Mux(wraps[level], chosen, steps[level])
    return chosen
