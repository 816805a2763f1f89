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
    "in_strips":       (1, "words hold strips of the map side by side, and so do the results'"),
    "gathers":         (1, "words hold strips, results do not; the outer loop is over strips"),
    "strip_pad":       (8, "byte outside the map, for the rows before the first strip"),
    "strip_words":     (ADDRESS_BITS, "words of a strip"),
    "depthwise":       (1, "each lane has its own channel; otherwise channels are broadcast"),
    "maximum":         (1, "lanes keep the largest product instead of the sum"),
    "hold":            (1, "one weight word serves every product of the group"),
    "signed_output":   (1, "results are stored as v + 128"),
    "last_layer":      (1, "the program ends after this layer"),
    "shift":           (2, "index into EngineConfig.shifts"),
    "lo":              (8, "lower clip bound as stored"),
    "slides":          (1, "tiles follow each other downwards and share rows of their patches"),
    "channel_last":    (5, "last channel of the last input group"),
    "input_group_last": (COORDINATE_BITS, "input groups summed into one result"),
    "kernel_row_last": (8, "rows of the kernel"),
    "kernel_column_last": (8, "columns of the kernel"),
    "inner_last":      (COORDINATE_BITS, "inner loop over tiles: of a row; downwards if slides"),
    "outer_last":      (COORDINATE_BITS, "outer loop over tiles: rows; of a row if slides"),
    "output_group_last": (COORDINATE_BITS, "groups of C output channels"),
    "pixel_last":      (4, "last valid pixel of a row's last tile"),
    "product_last":    (16, "weight words used per tile"),
    "group_tile_last": (16, "tiles per output group"),
    "patch_column_last": (8, "words of a patch's row"),
    "patch_row_last":  (COORDINATE_BITS, "rows of a patch; of all patches of a strip if slides"),
    "column_mask":     (8, "bits of a lane's place that tell columns of the kernel"),
    "row_places":      (5, "rows that a lane has places for"),
    "lane_stride":     (8, "words of a patch's row from one lane's first to the next one's"),
    "stride_rows":     (8, "rows from one tile to the next below it"),
    "input_address":   (ADDRESS_BITS, "address of the first column read"),
    "pad_address":     (ADDRESS_BITS, "word read outside the map"),
    "output_address":  (ADDRESS_BITS, "first result word"),
    "width":           (COORDINATE_BITS, "input map"),
    "height":          (COORDINATE_BITS, "input map"),
    "first_column":    (COORDINATE_BITS, "minus the left padding"),
    "first_row":       (COORDINATE_BITS, "minus the top padding"),
    "address_column": (ADDRESS_BITS, "address step to the next column"),
    "address_row":           (ADDRESS_BITS, "... to the next row"),
    "address_input_group":   (ADDRESS_BITS, "... to the next input group"),
    "address_inner":         (ADDRESS_BITS, "... to the next tile of the inner loop"),
    "address_outer":         (ADDRESS_BITS, "... of the outer loop"),
    "address_output_group":  (ADDRESS_BITS, "... to the next output group"),
    "column_column":         (COORDINATE_BITS, "column steps at the same loop levels"),
    "column_restart":        (COORDINATE_BITS, "to the next row or input group"),
    "column_inner":          (COORDINATE_BITS, ""),
    "column_outer":          (COORDINATE_BITS, ""),
    "column_output_group":   (COORDINATE_BITS, ""),
    "row_restart":           (COORDINATE_BITS, "row steps; the next input group or inner tile"),
    "row_outer":             (COORDINATE_BITS, ""),
    "row_output_group":      (COORDINATE_BITS, ""),
    "result_pixel":          (ADDRESS_BITS, "address step between the results of a tile"),
    "result_inner":          (ADDRESS_BITS, "... between tiles' first results, inner loop"),
    "result_outer":          (ADDRESS_BITS, "... outer loop"),
    "result_group":          (ADDRESS_BITS, "... next output group"),
}

#: What engines of codes keep in fields that they do not need otherwise, having no strips:
#: activations read are bytes, and those written.
CODE_FIELDS = {"byte_input": "in_strips", "byte_result": "gathers"}

#: Bits of all fields together.
DESCRIPTOR_BITS = sum(bits for bits, _ in FIELDS.values())


class DescriptorLayout(data.StructLayout):
    """The descriptor as a struct, first field in the lowest bits."""

    def __init__(self) -> None:
        super().__init__({name: bits for name, (bits, _) in FIELDS.items()})


def descriptor_words(word_bytes: int) -> int:
    """Tape words of ``word_bytes`` bytes that hold one descriptor."""
    return -(-DESCRIPTOR_BITS // (8 * word_bytes))


def pack_descriptor(values: dict[str, int], word_bytes: int) -> list[list[int]]:
    """Tape words (lists of ``word_bytes`` bytes) of a descriptor.

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
    size = descriptor_words(word_bytes) * word_bytes
    flat = list(packed.to_bytes(size, "little"))
    return [flat[start:start + word_bytes] for start in range(0, size, word_bytes)]
