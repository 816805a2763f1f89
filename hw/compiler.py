"""Integer model to program: memory plan, layer descriptors, tape image, predicted cycles."""

from collections.abc import Iterator

import numpy as np

from ref.errors import UserError
from ref.model import SHIFTS, Model

from .config import EngineConfig
from .descriptor import COORDINATE_BITS, pack_descriptor
from .lowering import Step, lower
from .program import Placement, Program, ProgramLayer
from .schedule import LayerShape, layer_cycles

#: Longest row a map may be folded to: columns, with padding and a last tile, fit their field.
ROW_LIMIT = (1 << COORDINATE_BITS) - 256


def compile_program(model: Model, config: EngineConfig) -> Program:
    """Everything the engine needs to run ``model``.

    Maps are laid out by rows or by columns, whichever takes fewer cycles. Raises `UserError` naming
    the layer or the memory that the engine is too small for, and by how much.
    """
    steps = lower(model, config)
    candidates = [steps]
    if any(step.shape[1] != step.shape[2] or step.window != step.transposed().window
           for step in steps):
        candidates.append([step.transposed() for step in steps])
    shapes = [[layer_shape(step, config) for step in folded(steps)] for steps in candidates]
    cycles = [[layer_cycles(shape, config, previous)
               for shape, previous in zip(each, [None, *each[:-1]], strict=True)]
              for each in shapes]
    best = min(range(len(candidates)), key=lambda k: sum(cycles[k]))
    return assemble(model, config, folded(candidates[best]), cycles[best], transposed=best == 1)


def folded(steps: list[Step]) -> list[Step]:
    """Pointwise steps on long rows, so that tiles of pixels are full."""
    return [step.flattened(ROW_LIMIT) for step in steps]


def assemble(model: Model, config: EngineConfig, steps: list[Step], cycles: list[int],
             transposed: bool) -> Program:
    """Place tensors and padding words, write the tape."""
    pads, pad_addresses = padding_words(steps, config)
    placements = place_tensors(model, config, len(pads), transposed)
    words: list[list[int]] = []
    layers = []
    for index, step in enumerate(steps):
        check_extent(step)
        source, target = placements[step.source], placements[step.target]
        fields = descriptor_fields(step, config, source, target, pad_addresses[index],
                                   last_layer=index == len(steps) - 1)
        try:
            words += pack_descriptor(fields, config.channels)
        except OverflowError as field:
            raise UserError(f"layer {step.name}: {field} = {fields[str(field)]} is more than the "
                            "engine can count; the layer is too large for it") from None
        words += group_words(step, config)
        layers.append(ProgramLayer(step.name, target, step.macs, cycles[index]))
    excess = (len(words) - config.tape_depth) * config.channels
    if excess > 0:
        raise UserError(
            f"the weights need {len(words) * config.channels} bytes and the board has "
            f"{config.tape_depth * config.channels}: {excess} bytes too many; "
            "use a smaller network or a larger board")
    return Program(config=config, tape=np.array(words, np.uint8), pads=pads,
                   input=placements[model.input.tensor],
                   output=placements[model.layers[-1].output], layers=tuple(layers),
                   activation_words=max(placement.address + placement.words
                                        for placement in placements.values()))


def check_extent(step: Step) -> None:
    """Raise `UserError` when the padded map is larger than what coordinates tell apart.

    They count modulo 4096: on a larger map, padding on one side would be taken for the other.
    """
    _, height, width = step.shape
    top, left, bottom, right = step.window.pads
    extent, limit = max(top + height + bottom, left + width + right), 1 << COORDINATE_BITS
    if extent > limit:
        raise UserError(f"layer {step.name}: its map with padding is {extent} pixels long and the "
                        f"engine can count {limit}; the layer is too large for it")


def padding_words(steps: list[Step], config: EngineConfig) -> tuple[np.ndarray, list[int]]:
    """The distinct padding words, uint8 [words, channels], and each step's index among them."""
    distinct: list[bytes] = []
    addresses = []
    for step in steps:
        groups = -(-len(step.pad) // config.channels)
        rows = np.zeros((groups, config.channels), np.uint8)
        rows.flat[:len(step.pad)] = step.pad
        if groups > 1:                           # spare channels have no weights: any value will do
            rows.flat[len(step.pad):] = rows[0, len(step.pad) - rows.size:]
        if any(step.window.pads) and np.any(rows != rows[0]):
            raise UserError(f"layer {step.name}: padding differs between channels beyond the first "
                            f"{config.channels}; give the input one zero point")
        word = rows[0].tobytes()
        if word not in distinct:
            distinct.append(word)
        addresses.append(distinct.index(word))
    return np.frombuffer(b"".join(distinct), np.uint8).reshape(-1, config.channels), addresses


def place_tensors(model: Model, config: EngineConfig, first: int,
                  transposed: bool) -> dict[str, Placement]:
    """An address for every tensor, from word ``first`` on, none overlapping while both live.

    First fit in order of creation: a tensor lives from its layer to its last reader.
    """
    last_use = {model.input.tensor: 0}
    for index, layer in enumerate(model.layers):
        last_use[layer.output] = index + 1
        for name in layer.inputs:
            last_use[name] = index
    live: dict[str, Placement] = {}
    placements: dict[str, Placement] = {}

    def place(name: str, born: int) -> None:
        for dead in [other for other in live if last_use[other] < born]:
            del live[dead]
        tensor = model.tensors[name]
        placement = Placement(name, first, tensor.shape, tensor.signed, config.channels, transposed)
        for other in sorted(live.values(), key=lambda other: other.address):
            if placement.address + placement.words <= other.address:
                break
            placement = placement.at(max(placement.address, other.address + other.words))
        live[name] = placements[name] = placement

    place(model.input.tensor, 0)
    for index, layer in enumerate(model.layers):
        place(layer.output, index)
    end = max(placement.address + placement.words for placement in placements.values())
    if end > config.activation_depth:
        raise UserError(
            f"the feature maps need {end * config.channels} bytes and the board has "
            f"{config.activation_depth * config.channels}: "
            f"{(end - config.activation_depth) * config.channels} bytes too many; "
            "use a smaller input or a larger board")
    return placements


def layer_shape(step: Step, config: EngineConfig) -> LayerShape:
    """The loop counts of a step."""
    kernel_rows, kernel_columns = step.window.kernel
    stride = step.window.stride[1]
    taps = [len(range(residue, kernel_columns, stride))
            for residue in range(min(stride, kernel_columns))]
    inputs = step.shape[0]
    groups = -(-step.result[0] // config.channels)
    products = (1,) if step.depthwise else tuple(
        min(config.channels, inputs - start) for start in range(0, inputs, config.channels))
    tiles = -(-step.result[2] // config.pixels)
    return LayerShape(
        residue_words=tuple(config.pixels - 1 + count for count in taps),
        residue_windows=tuple(taps), kernel_rows=kernel_rows, products=products, tiles=tiles,
        lines=step.result[1], pixel_last=step.result[2] - (tiles - 1) * config.pixels - 1,
        groups=groups)


def descriptor_fields(step: Step, config: EngineConfig, source: Placement, target: Placement,
                      pad_address: int, *, last_layer: bool) -> dict[str, int]:
    """The descriptor of a step; `hw.descriptor.FIELDS` says what each field means."""
    shape = layer_shape(step, config)
    _, height, width = step.shape
    top, left, _, _ = step.window.pads
    stride_y, stride_x = step.window.stride
    words, input_groups = shape.residue_words, len(shape.products)
    pixel = source.groups                                    # words per input pixel
    last_column = len(words) - 1 + (words[-1] - 1) * stride_x   # of a kernel row, from its first
    tile = config.pixels * stride_x                          # columns per tile
    rows_back, tiles_back = shape.kernel_rows - 1, (shape.tiles - 1) * tile
    line_back = (shape.lines - 1) * stride_y
    # Where the walk stands when a level wraps, in words from where that level began.
    row_end  = last_column * pixel + input_groups - 1
    tile_end = row_end + rows_back * width * pixel
    line_end = tile_end + tiles_back * pixel
    group_end = line_end + line_back * width * pixel
    result = target.groups
    return {
        "depthwise": int(step.depthwise), "maximum": int(step.maximum), "hold": int(step.hold),
        "signed_output": int(step.signed_output), "last_layer": int(last_layer),
        "shift": SHIFTS.index(step.shift), "lo": step.lo,
        "column_long": words[0] - 1, "column_short": words[-1] - 1,
        "residue_split": sum(count == words[0] for count in words), "residue_last": len(words) - 1,
        "channel_last": shape.products[-1] - 1, "input_group_last": input_groups - 1,
        "kernel_row_last": rows_back, "tile_last": shape.tiles - 1, "line_last": shape.lines - 1,
        "output_group_last": shape.groups - 1, "pixel_last": shape.pixel_last,
        "product_last": shape.kernel_rows * sum(shape.products) * sum(shape.residue_windows) - 1,
        "group_tile_last": shape.tiles * shape.lines - 1,
        "input_address": source.address - (top * width + left) * pixel,
        "pad_address": pad_address, "output_address": target.address,
        "width": width, "height": height, "first_column": -left, "first_row": -top,
        "address_column": stride_x * pixel,
        "address_residue_long": (1 - (words[0] - 1) * stride_x) * pixel,
        "address_residue_short": (1 - (words[-1] - 1) * stride_x) * pixel,
        "address_input_group": 1 - last_column * pixel,
        "address_kernel_row": width * pixel - row_end,
        "address_tile": tile * pixel - tile_end,
        "address_line": stride_y * width * pixel - line_end,
        "address_output_group": int(step.depthwise) - group_end,
        "column_column": stride_x,
        "column_residue_long": 1 - (words[0] - 1) * stride_x,
        "column_residue_short": 1 - (words[-1] - 1) * stride_x,
        "column_restart": -last_column, "column_tile": tile - last_column,
        "column_line": -last_column - tiles_back,
        "row_tile": -rows_back, "row_line": stride_y - rows_back,
        "row_output_group": -rows_back - line_back,
        "result_pixel": result, "result_group": 1 - (step.result[1] * step.result[2] - 1) * result,
    }


def group_words(step: Step, config: EngineConfig) -> Iterator[list[int]]:
    """Constants and weights of every group of output channels, as tape words."""
    channels = config.channels
    outputs = step.result[0]
    stride = step.window.stride[1]
    kernel_columns = step.window.kernel[1]
    # Columns by residue, as the address generator visits them; then channels within input groups.
    columns = [column for residue in range(min(stride, kernel_columns))
               for column in range(residue, kernel_columns, stride)]
    groups = -(-outputs // channels)
    padded = np.zeros((groups * channels, *step.weight.shape[1:]), np.int64)
    padded[:outputs] = step.weight
    constants = np.zeros((groups * channels, 8), np.uint8)    # hw.requantizer.constants_layout
    constants[:outputs, 0:4] = step.bias.astype("<i4").view(np.uint8).reshape(-1, 4)
    constants[:outputs, 4:6] = step.multiplier.astype("<u2").view(np.uint8).reshape(-1, 2)
    constants[:outputs, 6] = step.hi
    for start in range(0, groups * channels, channels):
        yield from constants[start:start + channels].reshape(-1, channels).tolist()
        weight = padded[start:start + channels]               # (C, I, kh, kw)
        if step.hold:
            yield (weight[:, 0, 0, 0] & 255).tolist()
            continue
        for row in range(step.window.kernel[0]):
            for first in range(0, weight.shape[1], channels):
                block = weight[:, first:first + channels, row][:, :, columns]   # (C, i, columns)
                yield from (block.transpose(2, 1, 0).reshape(-1, channels) & 255).tolist()
