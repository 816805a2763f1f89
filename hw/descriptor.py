"""The layer descriptor: what the engine knows of a layer, as bits on the tape.

The compiler fills the fields (`pack_descriptor`), the hardware holds them in a register of
`DescriptorLayout`; both read this one list.
"""

from amaranth.lib import data

#: Widths in bits: addresses in words, coordinates in pixels (two's complement where steps go back).
ADDRESS_BITS = 16
COORDINATE_BITS = 12

#: name -> (bits, meaning). Counts ending in ``_last`` are the last index, one less than the count.
FIELDS: dict[str, tuple[int, str]] = {
    "depthwise":       (1, "each lane has its own channel; otherwise channels are broadcast"),
    "maximum":         (1, "lanes keep the largest product instead of the sum"),
    "hold":            (1, "one weight word serves every product of the group"),
    "signed_output":   (1, "results are stored as v + 128"),
    "last_layer":      (1, "the program ends after this layer"),
    "shift":           (2, "index into ref.model.SHIFTS"),
    "lo":              (8, "lower clip bound as stored"),
    "column_long":     (8, "last word of a kernel row's residue, for residues below residue_split"),
    "column_short":    (8, "the same for the other residues"),
    "residue_split":   (8, "residues with one more tap"),
    "residue_last":    (8, "columns are visited by residue modulo the stride"),
    "channel_last":    (5, "last channel of the last input group"),
    "input_group_last": (COORDINATE_BITS, "input groups summed into one result"),
    "kernel_row_last": (8, "rows of the kernel"),
    "tile_last":       (COORDINATE_BITS, "tiles of P pixels in an output row"),
    "line_last":       (COORDINATE_BITS, "output rows"),
    "output_group_last": (COORDINATE_BITS, "groups of C output channels"),
    "pixel_last":      (4, "last valid pixel of a row's last tile"),
    "product_last":    (16, "weight words used per tile"),
    "group_tile_last": (16, "tiles per output group"),
    "input_address":   (ADDRESS_BITS, "address of the first column read"),
    "pad_address":     (ADDRESS_BITS, "word read outside the map"),
    "output_address":  (ADDRESS_BITS, "first result word"),
    "width":           (COORDINATE_BITS, "input map"),
    "height":          (COORDINATE_BITS, "input map"),
    "first_column":    (COORDINATE_BITS, "minus the left padding"),
    "first_row":       (COORDINATE_BITS, "minus the top padding"),
    "address_column":  (ADDRESS_BITS, "address step to the next column of a residue"),
    "address_residue_long":  (ADDRESS_BITS, "... from a long residue to the next residue"),
    "address_residue_short": (ADDRESS_BITS, "... from a short residue"),
    "address_input_group":   (ADDRESS_BITS, "... to the next input group"),
    "address_kernel_row":    (ADDRESS_BITS, "... to the next kernel row"),
    "address_tile":          (ADDRESS_BITS, "... to the next tile of the row"),
    "address_line":          (ADDRESS_BITS, "... to the next output row"),
    "address_output_group":  (ADDRESS_BITS, "... to the next output group"),
    "column_column":         (COORDINATE_BITS, "column steps at the same loop levels"),
    "column_residue_long":   (COORDINATE_BITS, ""),
    "column_residue_short":  (COORDINATE_BITS, ""),
    "column_restart":        (COORDINATE_BITS, "to the next input group or kernel row"),
    "column_tile":           (COORDINATE_BITS, ""),
    "column_line":           (COORDINATE_BITS, "to the next output row or output group"),
    "row_tile":              (COORDINATE_BITS, "row steps; a kernel row steps by one"),
    "row_line":              (COORDINATE_BITS, ""),
    "row_output_group":      (COORDINATE_BITS, ""),
    "result_pixel":          (COORDINATE_BITS, "address step between result pixels"),
    "result_group":          (ADDRESS_BITS, "... from a group's last result to the next group"),
}

#: Bits of all fields together.
DESCRIPTOR_BITS = sum(bits for bits, _ in FIELDS.values())


class DescriptorLayout(data.StructLayout):
    """The descriptor as a struct, first field in the lowest bits."""

    def __init__(self) -> None:
        super().__init__({name: bits for name, (bits, _) in FIELDS.items()})


def descriptor_words(channels: int) -> int:
    """Tape words of ``channels`` bytes that hold one descriptor."""
    return -(-DESCRIPTOR_BITS // (8 * channels))


def pack_descriptor(values: dict[str, int], channels: int) -> list[list[int]]:
    """Tape words (lists of ``channels`` bytes) of a descriptor.

    Every field must be given. Negative steps are stored modulo their width; a count that does not
    fit its field raises `OverflowError` naming it.
    """
    if values.keys() != FIELDS.keys():
        raise KeyError(f"descriptor fields differ: {sorted(values.keys() ^ FIELDS.keys())}")
    packed, position = 0, 0
    for name, (bits, _) in FIELDS.items():
        if not -(1 << bits) < values[name] < 1 << bits:
            raise OverflowError(name)
        packed |= (values[name] & ((1 << bits) - 1)) << position
        position += bits
    size = descriptor_words(channels) * channels
    flat = list(packed.to_bytes(size, "little"))
    return [flat[start:start + channels] for start in range(0, size, channels)]
