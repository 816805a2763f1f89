"""Integer model to program: memory plan, layer descriptors, tape image, predicted cycles."""

from collections.abc import Iterator

import numpy as np

from ref.errors import UserError
from ref.model import Model

from .code_lowering import lower_codes
from .code_words import code_constants, code_weights, pad_rows
from .config import EngineConfig
from .descriptor import CODE_FIELDS, COORDINATE_BITS, pack_descriptor
from .lane_orders import in_lanes
from .lowering import OTHER_PRESET, lower
from .memory_plan import memory_words, place_maps
from .program import Placement, Program, ProgramLayer
from .schedule import LayerShape, layer_cycles
from .sequencer import Sequencer
from .step import Lowering, Step
from .strips import layouts
from .term_product import AUSN
from .window_memory import PLACES_BITS, column_mask, row_places

#: Longest row a map may be folded to: columns, with padding and a last tile, fit their field.
ROW_LIMIT = (1 << COORDINATE_BITS) - 256


def compile_program(model: Model, config: EngineConfig) -> Program:
    """Everything the engine needs to run ``model``.

    Maps are laid out by rows or by columns, and those of the first layers in strips or not,
    whichever takes fewest cycles. Raises `UserError` naming the layer or the memory that the engine
    is too small for, and by how much.
    """
    lowering = lower_codes(model, config) if config.codes else lower(model, config)
    if config.mixed:
        lowering = in_lanes(lowering, model)
    directions = [lowering]
    if any(step.shape[1] != step.shape[2] or step.window != step.transposed().window
           for step in lowering.steps):
        directions.append(lowering.transposed())
    reasons = [next(filter(None, (window_refusal(step, config) for step in each.steps)), None)
               for each in directions]
    if all(reasons):
        raise UserError(str(reasons[0]))
    candidates = [(layout, transposed) for transposed, each in enumerate(directions)
                  if not reasons[transposed] for layout in layouts(each, config, ROW_LIMIT)]
    shapes = [[layer_shape(step, config) for step in layout.steps] for layout, _ in candidates]
    cycles = [[layer_cycles(shape, config, previous)
               for shape, previous in zip(each, [None, *each[:-1]], strict=True)]
              for each in shapes]
    refusals = []
    for best in sorted(range(len(candidates)), key=lambda k: sum(cycles[k])):
        layout, transposed = candidates[best]
        try:
            return assemble(model, config, layout, cycles[best], transposed=bool(transposed))
        except UserError as refusal:            # perhaps a slower layout needs less memory
            refusals.append(refusal)
    raise refusals[0]


def window_refusal(step: Step, config: EngineConfig) -> str | None:
    """Why a step's windows are too large for the window memory, in a sentence; None: they fit."""
    rows, columns = step.window.kernel
    reach = (config.pixels - 1) * step.window.stride[1] * (step.result[2] > 1) + columns
    if max(rows, reach) <= 1 << PLACES_BITS:
        return None
    return (f"layer {step.name}: the windows of {config.pixels} pixels reach over {rows} rows and "
            f"{reach} columns and the engine can hold {1 << PLACES_BITS} of each; use a smaller "
            "kernel or stride")


def assemble(model: Model, config: EngineConfig, lowering: Lowering, cycles: list[int],
             transposed: bool) -> Program:
    """Place maps and padding words, write the tape."""
    steps = lowering.steps
    pads, pad_addresses = padding_words(steps, config)
    placements = place_maps(model, config, lowering, len(pads), transposed)
    words: list[list[int]] = []
    for index, step in enumerate(steps):
        check_extent(step)
        sources, target = [placements[name] for name in step.sources], placements[step.target]
        fields = descriptor_fields(step, config, sources, target, pad_addresses[index],
                                   last_layer=index == len(steps) - 1)
        try:
            words += pack_descriptor(fields, config.tape_bytes)
        except OverflowError as field:
            raise UserError(f"layer {step.name}: {field} = {fields[str(field)]} is more than the "
                            "engine can count; the layer is too large for it") from None
        words += group_words(step, config)
    layers = []
    for layer in model.layers:
        own = [index for index, step in enumerate(steps) if step.name == layer.name]
        layers.append(ProgramLayer(
            layer.name, placements[layer.output], len(own), sum(steps[index].macs for index in own),
            sum(cycles[index] for index in own)))
    if sum(cycles) >= Sequencer.longest_run:
        raise UserError(f"the network takes {sum(cycles)} cycles and the engine's watchdog ends a "
                        f"run after {Sequencer.longest_run}; use a smaller input or a larger board")
    excess = (len(words) - config.tape_depth) * config.tape_bytes
    if excess > 0:
        raise UserError(
            f"the weights need {len(words) * config.tape_bytes} bytes and the board has "
            f"{config.tape_depth * config.tape_bytes}: {excess} bytes too many; "
            "use a smaller network or a larger board")
    tape = np.zeros((len(words), config.word_bytes), np.uint8)
    tape[:, :config.tape_bytes] = words
    return Program(config=config, tape=tape, pads=pads,
                   input=placements[model.input.tensor],
                   output=placements[model.layers[-1].output], layers=tuple(layers),
                   activation_words=memory_words(placements))


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
    """The distinct padding words, uint8 [words, bytes], and each step's index among them.

    A step has one, for all words of a pixel: raises `UserError` where these would need others.
    """
    distinct: list[bytes] = []
    addresses = []
    for step in steps:
        rows = pad_rows(step) if config.codes else byte_pad_rows(step, config)
        if any(step.window.pads) and np.any(rows != rows[0]):
            where, advice = f" beyond the first {config.channels}", "give the input one zero point"
            if config.codes:
                where, advice = "", f"{advice}, of 0 if it is wider than 8 bits, or {OTHER_PRESET}"
            raise UserError(f"layer {step.name}: padding differs between channels{where}; {advice}")
        word = rows[0].tobytes()
        if word not in distinct:
            distinct.append(word)
        addresses.append(distinct.index(word))
    return np.frombuffer(b"".join(distinct), np.uint8).reshape(-1, config.word_bytes), addresses


def byte_pad_rows(step: Step, config: EngineConfig) -> np.ndarray:
    """The padding word of each input group of a step, uint8 [groups, bytes]."""
    pad = step.pad if step.strips == 1 else step.pad[:1].repeat(config.channels)
    groups = -(-len(pad) // config.channels)
    rows = np.zeros((groups, config.channels), np.uint8)
    rows.flat[:len(pad)] = pad
    if groups > 1:                               # spare channels have no weights: any value will do
        rows.flat[len(pad):] = rows[0, len(pad) - rows.size:]
    return rows


def layer_shape(step: Step, config: EngineConfig) -> LayerShape:
    """The loop counts of a step.

    Tiles slide where one input group holds all that a tile needs, so that its rows can be kept.
    """
    kernel_rows, kernel_columns = step.kernel
    stride_y = step.window.stride[0]
    inputs, (_, lines, columns) = step.shape[0], step.result
    word = config.channels // step.strips                    # channels of a pixel in a word
    result_word = config.channels if step.gathers else word
    if step.byte_input:
        word = 1                                             # for all lanes, no other channel
    products = (step.repeats,) if step.depthwise else tuple(
        min(word, inputs - start) for start in range(0, inputs, word))
    tiles = -(-columns // config.pixels)
    lanes = min(config.pixels, columns)
    places = row_places(kernel_columns)
    patch_columns = (lanes - 1) * column_strides(step)[1] + kernel_columns
    return LayerShape(
        patch_columns=max(patch_columns, 1 + config.codes),  # `AddressGenerator` looks ahead
        kernel=step.kernel, products=products, tiles=tiles, lines=lines,
        slides=(len(products) == len(step.sources) == 1 and kernel_rows <= places
                and stride_y <= kernel_rows and not step.gathers),
        stride_rows=stride_y, row_places=places,
        pixel_last=columns - (tiles - 1) * config.pixels - 1,
        groups=-(-step.result[0] // result_word), blocks_only=step.byte_result)


def column_strides(step: Step) -> tuple[int, int]:
    """Columns from one word of a patch's row to the next, and words from one lane's to the next's.

    A kernel of one column needs no word between its taps, however wide the stride.
    """
    stride = step.window.stride[1]
    return (stride, 1) if step.window.kernel[1] == 1 else (1, stride)


def descriptor_fields(step: Step, config: EngineConfig, sources: list[Placement],
                      target: Placement, pad_address: int, *, last_layer: bool) -> dict[str, int]:
    """The descriptor of a step; `hw.descriptor.FIELDS` says what each field means."""
    shape = layer_shape(step, config)
    _, height, width = step.shape
    top, left, _, _ = step.window.pads
    (kernel_rows, kernel_columns), (stride_y, stride_x) = step.kernel, step.window.stride
    pixel = sources[0].pitch                                 # words per input pixel
    # Words from a row to the next, and within a patch: all strips lie in the same words, and a
    # sum's second row is the other map's.
    row_words = 0 if step.gathers else width * pixel
    patch_row = row_words if len(sources) == 1 else sources[1].address - sources[0].address
    column_step, lane_stride = column_strides(step)
    columns_back = (shape.patch_columns - 1) * column_step
    tile = config.pixels * stride_x                          # columns per tile
    tiles_back, lines_back = (shape.tiles - 1) * tile, (shape.lines - 1) * stride_y
    # Rows of a patch, or of all patches of a strip; and the positions, as (rows, columns) from the
    # corner of a tile's patch, of the next tiles and of the first one.
    if shape.slides:
        rows_back = lines_back + kernel_rows - 1
        inner_step, outer_step, group_step = (0, 0), (0, tile), (0, -tiles_back)
        result_steps = ((0, 1), (config.pixels, 1 - shape.lines))
        inner_last, outer_last = shape.lines - 1, shape.tiles - 1
    else:
        rows_back = kernel_rows - 1
        inner_step, outer_step, group_step = (
            (0, tile), (stride_y, -tiles_back), (-lines_back, -tiles_back))
        result_steps = ((config.pixels, 0), (-config.pixels * (shape.tiles - 1), 1))
        inner_last, outer_last = shape.tiles - 1, shape.lines - 1
    input_groups_back = len(shape.products) - 1

    def address(step: tuple[int, int]) -> int:
        """Address step from a patch's last word of its last group to another patch's first."""
        rows, columns = step
        return (rows * row_words - rows_back * patch_row + (columns - columns_back) * pixel
                - input_groups_back)

    result_columns, result_pixel = step.result[2], target.pitch
    first_back = ((shape.lines - 1) * result_columns
                  + (shape.tiles - 1) * config.pixels) * result_pixel
    result_inner, result_outer = (
        (columns + rows * result_columns) * result_pixel for columns, rows in result_steps)
    fields = {
        "in_strips": int(step.strips > 1 and not step.gathers), "gathers": int(step.gathers),
        "strip_pad": int(step.pad[0]), "strip_words": height * width * pixel,
        "depthwise": int(step.depthwise), "maximum": int(step.maximum), "hold": int(step.hold),
        "signed_output": int(step.signed_output), "last_layer": int(last_layer),
        "shift": 0 if config.codes else config.shifts.index(step.shift), "lo": step.lo,
        "slides": int(shape.slides),
        "channel_last": shape.products[-1] - 1, "input_group_last": input_groups_back,
        "kernel_row_last": kernel_rows - 1, "kernel_column_last": kernel_columns - 1,
        "inner_last": inner_last, "outer_last": outer_last,
        "output_group_last": shape.groups - 1, "pixel_last": shape.pixel_last,
        "product_last": kernel_rows * kernel_columns * sum(shape.products) - 1,
        "group_tile_last": shape.tiles * shape.lines - 1,
        "patch_column_last": shape.patch_columns - 1, "patch_row_last": rows_back,
        "column_mask": column_mask(kernel_columns), "row_places": shape.row_places,
        "lane_stride": lane_stride, "stride_rows": stride_y,
        "input_address": sources[0].address - (top * width + left) * pixel,
        "pad_address": pad_address, "output_address": target.address + step.group,
        "width": width, "height": height + len(sources) - 1,
        "first_column": -left, "first_row": -top,
        "address_column": column_step * pixel,
        "address_row": patch_row - columns_back * pixel,
        "address_input_group": 1 - rows_back * patch_row - columns_back * pixel,
        "address_inner": address(inner_step), "address_outer": address(outer_step),
        "address_output_group": address(group_step) + int(step.depthwise),
        "column_column": column_step, "column_restart": -columns_back,
        "column_inner": inner_step[1] - columns_back,
        "column_outer": outer_step[1] - columns_back,
        "column_output_group": group_step[1] - columns_back,
        "row_restart": -rows_back, "row_outer": outer_step[0] - rows_back,
        "row_output_group": group_step[0] - rows_back,
        "result_pixel": result_pixel, "result_inner": result_inner, "result_outer": result_outer,
        "result_group": 1 - first_back,
    }
    if config.codes:
        fields |= {CODE_FIELDS[name]: int(getattr(step, name)) for name in CODE_FIELDS}
    return fields


def group_words(step: Step, config: EngineConfig) -> Iterator[list[int]]:
    """Constants and weights of every group of output channels, as tape words.

    Strips all have the same: a group is then of fewer channels, and repeated.
    """
    if config.codes:
        constants = code_constants(step, config)
        for group, weights in enumerate(code_weights(step, config)):
            start = group * config.channels
            yield from constant_words(constants[start:start + config.channels], config)
            yield from weights
        return
    copies = 1 if step.gathers else step.strips
    channels = config.channels // copies
    word = config.channels // step.strips
    outputs = step.result[0]
    groups = -(-outputs // channels)
    padded = np.zeros((groups * channels, *step.weight.shape[1:]), np.int64)
    padded[:outputs] = step.weight
    constants = np.zeros((groups * channels, config.constant_bytes), np.uint8)
    constants[:outputs] = channel_constants(step, config)
    for start in range(0, groups * channels, channels):
        mine = np.tile(constants[start:start + channels], (copies, 1))
        order = np.array([config.requantized(lane) for lane in range(config.requantizers)]).T
        yield from constant_words(mine[order.ravel()], config)
        weight = np.tile(padded[start:start + channels], (copies, 1, 1, 1))   # (C, I, kh, kw)
        if step.hold:
            yield weight_word(weight[:, 0, 0, 0], config)
            continue
        together = weight.shape[1] if step.depthwise else word
        for first in range(0, weight.shape[1], together):
            block = weight[:, first:first + together]         # (C, i, kh, kw)
            for row in block.transpose(2, 3, 1, 0).reshape(-1, config.channels):
                yield weight_word(row, config)


def constant_words(constants: np.ndarray, config: EngineConfig) -> list[list[int]]:
    """The tape words of C channels' ``constants``, uint8 [C, bytes], R after R.

    Each word has an equal part for each of them (`ConstantBanks`).
    """
    bits = np.unpackbits(constants, axis=1, bitorder="little")
    share = 8 * config.tape_bytes // config.requantizers
    bits = np.pad(bits, ((0, 0), (0, -bits.shape[1] % share)))
    words = bits.reshape(-1, config.requantizers, bits.shape[1] // share, share).swapaxes(1, 2)
    return np.packbits(words.reshape(-1, 8 * config.tape_bytes), axis=1, bitorder="little").tolist()


def channel_constants(step: Step, config: EngineConfig) -> np.ndarray:
    """Each output channel's constants as in `hw.requantizer.constants_layout`: uint8 [C, bytes]."""
    parts = [step.bias.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3],
             step.multiplier.astype("<u2").view(np.uint8).reshape(-1, 2)]
    if config.leaky:
        negative = step.multiplier if step.multiplier_negative is None else step.multiplier_negative
        parts.append(negative.astype("<u2").view(np.uint8).reshape(-1, 2))
    if config.clips:
        parts.append(np.asarray(step.hi, np.uint8).reshape(-1, 1))
    return np.concatenate(parts, axis=1)


def weight_word(weights: np.ndarray, config: EngineConfig) -> list[int]:
    """The bytes of the tape word of C ``weights``, the first in the lowest bits."""
    bits = config.weight_bits
    if config.mixed:
        weights = weights.copy()
        weights[1::2] = AUSN.encode(weights[1::2])
    packed = sum((weight & ((1 << bits) - 1)) << (bits * place)
                 for place, weight in enumerate(weights.tolist()))
    return list(packed.to_bytes(config.tape_bytes, "little"))
