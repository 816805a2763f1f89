"""The engine for a board and a network: the quickest array whose multipliers and memories fit."""

from collections.abc import Iterator
from dataclasses import replace

from amaranth.utils import ceil_log2

from boards import Board, Budget
from boards.block_ram import SHAPES, blocks
from ref.bounds import propagate
from ref.errors import UserError
from ref.model import (
    SHIFTS,
    Add,
    AveragePool2d,
    Conv2d,
    MaxPool2d,
    Model,
    Requantization,
    Tensor,
)

from .code_lowering import fitted_shifts, in_codes
from .compiler import compile_program
from .config import EngineConfig
from .floorplan import product_blocks
from .joins import added_bits, factored, sum_bits
from .lane_orders import takes_both_kinds
from .lowering import clips, largest_weight, stored_sum_bits
from .packing import OPERAND_BITS
from .program import Program
from .silent import without_large_constants
from .tape_reader import TapeWord
from .term_product import WEIGHT_BITS
from .window_memory import PLACES_BITS

#: Words of one SPRAM pair.
SPRAM_WORDS = 16384
#: Most words of a memory, by the width of their addresses.
LONGEST = 1 << 16
#: Depths of engines' memories are multiples of the shallowest block's.
DEPTH_STEP = SHAPES[0][1]
#: Bytes that one DP16KD holds.
BLOCK_BYTES = 2048
#: The array of iCE40UP5K: eight SB_MAC16 in dual 8x8 mode are 16 multipliers, so the requantizer's
#: is made of lookup tables, in slices.
ICE40_ARRAY = EngineConfig(channels=4, pixels=4, requantizers=1, tape_depth=SPRAM_WORDS,
                           activation_depth=SPRAM_WORDS, single_port=True, multiplier_slice=4)
#: The one for activations in codes: the blocks are as many lanes, of words twice as wide, and make
#: their sums as well; as many lanes again shift and add. The shifts are the network's.
ICE40_CODES = EngineConfig(channels=8, pixels=4, requantizers=4, tape_depth=SPRAM_WORDS,
                           activation_depth=SPRAM_WORDS, single_port=True, accumulator_bits=16,
                           weight_bits=4, shifts=tuple(range(5, 13)), maximum=False, leaky=False,
                           clips=False, codes=True)
#: Channels and pixels of the arrays for ECP5.
ECP5_ARRAYS = ((32, 8), (32, 6), (32, 4), (16, 8), (16, 6), (16, 4), (8, 8), (8, 6), (8, 4), (8, 2))
#: Most lanes of an array that is chosen without being asked for. Larger ones need fewer cycles, but
#: place and route take three times as long.
COMMON_LANES = 64
#: Widths of their sums.
ACCUMULATORS = (16, 18, 20, 24)
#: Lookup tables of an engine for ECP5, roughly and rather too many: for each lane, and the rest.
LANE_LUTS, OTHER_LUTS = 100, 4000
#: ... and of a product without a multiplier block, by the weight's bits; exact.
PRODUCT_LUTS = {3: 19, 4: 19, 5: 66, 6: 84, 7: 94, 8: 104}
#: ... and of one by AUSN weights of 4 bits; both behind the choice of the operand.
AUSN_LUTS = 22
#: Largest weight of any network, that of copies of maps, and most products of an operand of a sum.
SMALLEST_WEIGHT, SUM_PRODUCTS = 2, 8
#: A smaller array is taken where it needs at most this part more cycles than the quickest.
PATIENCE = 1 / 8


def fit_program(model: Model, board: Board, lanes: int | None = None) -> Program:
    """Compile ``model`` for the engine on ``board`` that needs few cycles and few multipliers.

    On iCE40 the engine is the same for every network of bytes, and another for those in codes; on
    ECP5 its array is the smallest that is about as quick as the quickest that fits, and its
    memories are as deep and its numbers as wide as this network needs. ``lanes`` is the number of
    products per cycle that the array must have, by default `COMMON_LANES` or fewer. Raises
    `UserError` with the number of missing bytes when the board is too small, and when it has no
    array of so many lanes.
    """
    if not in_codes(model):                      # its engine only shifts, by few shifts
        model = without_large_constants(model)
    arrays = ([ice40_array(model)] if board.family == "ice40"
              else list(ecp5_arrays(model, board.budget)))
    if lanes is not None:
        sizes = sorted({array.mac_units for array in arrays})
        arrays = [array for array in arrays if array.mac_units == lanes]
        if not arrays:
            raise UserError(
                f"there is no array of {lanes} lanes for network {model.name} on {board.name}, "
                f"which has {board.budget.multipliers} multiplier blocks and {board.budget.lut4} "
                f"lookup tables; there are arrays of {', '.join(map(str, sizes))} lanes (--lanes)")
    else:
        arrays = [array for array in arrays if array.mac_units <= COMMON_LANES]
    if board.family == "ice40":
        return compile_program(model, arrays[0])
    programs, refusals = [], []
    for config in arrays:
        try:
            programs.append(fit_memories(model, config, board))
        except UserError as refusal:
            refusals.append(refusal)
    if not programs:
        raise refusals[-1]                       # of the smallest array, which leaves most memory
    limit = (1 + PATIENCE) * min(program.predicted_cycles for program in programs)
    return min((program for program in programs if program.predicted_cycles <= limit),
               key=lambda program: (program.config.mac_units, program.predicted_cycles))


def ice40_array(model: Model) -> EngineConfig:
    """The engine for iCE40UP5K, of bytes or, where the model has activations in codes, of these."""
    if not in_codes(model):
        return ICE40_ARRAY
    return replace(ICE40_CODES, shifts=fitted_shifts(model))


def ecp5_arrays(model: Model, budget: Budget) -> Iterator[EngineConfig]:
    """Arrays within ``budget``'s multipliers and lookup tables, with most requantizers.

    Where there are too few multiplier blocks for a word every other cycle, the products of as few
    pixels as need be are also made of lookup tables, beside so many requantizers.
    """
    lanes = fitted_lanes(model)
    for channels, pixels in ECP5_ARRAYS:
        of_blocks = [replace(lanes, channels=channels, pixels=pixels,
                             requantizers=channels // share) for share in (1, 2, 4, 8)]
        of_tables = [replace(of_blocks[1], table_pixels=count) for count in range(1, pixels + 1)]
        for arrays in (of_blocks, of_tables):
            fitting = [array for array in arrays if luts(array) <= budget.lut4
                       and multiplier_blocks(array) <= budget.multipliers][:1]
            yield from fitting
            if fitting and 2 * fitting[0].requantizers >= channels:
                break


def luts(config: EngineConfig) -> int:
    """Lookup tables of an engine, roughly and rather too many."""
    of_codes = (config.channels - config.block_channels) * config.pixels
    linear = config.block_channels * config.table_pixels
    return (OTHER_LUTS + LANE_LUTS * config.mac_units + PRODUCT_LUTS[config.weight_bits] * linear
            + AUSN_LUTS * of_codes)


def fitted_lanes(model: Model) -> EngineConfig:
    """An engine whose lanes and requantizers have what the model needs.

    Weights have as many bits as the model's largest one needs, or 4 where lanes are of both kinds;
    sums one of few widths, so that networks of a kind share a bitstream.
    """
    bounds = propagate(model)
    largest, needed, stored = SMALLEST_WEIGHT, 0, 0
    rules: list[tuple[Requantization | Add, Tensor]] = []
    for layer in model.layers:
        match layer:
            case Conv2d() | AveragePool2d():
                rules.append((layer.requantization, model.tensors[layer.output]))
                needed = max(needed, layer.proof.bits)
                source = layer.inputs[0]
                stored = max(stored, stored_sum_bits(layer, model.tensors[source], bounds[source]))
            case Add():
                rules.append((layer, model.tensors[layer.output]))
                needed = max(needed, sum_bits(layer, model))
                stored = max(stored, added_bits(layer))
                largest = max(largest, -(-int(factored(layer)[1].max()) // SUM_PRODUCTS))
        if isinstance(layer, Conv2d):
            largest = max(largest, largest_weight(layer))
    biased, summed = (next((bits for bits in ACCUMULATORS if bits >= width), ACCUMULATORS[-1])
                      for width in (needed, min(needed, stored)))
    mixed = takes_both_kinds(model)
    if stored > summed:                  # sums wrap, and the sum with the bias makes up for it
        summed = biased
    return EngineConfig(
        channels=8, pixels=1, requantizers=8, tape_depth=LONGEST, activation_depth=LONGEST,
        single_port=False, strips=4, accumulator_bits=summed, bias_bits=biased - summed,
        maximum=any(isinstance(layer, MaxPool2d) for layer in model.layers),
        shifts=tuple(shift for shift in SHIFTS
                     if shift == SHIFTS[0] or any(rule.shift == shift for rule, _ in rules)),
        clips=any(clips(rule, target) for rule, target in rules),
        leaky=any(isinstance(rule, Requantization) and rule.multiplier_negative is not None
                  for rule, _ in rules),
        weight_bits=WEIGHT_BITS if mixed else largest.bit_length() + 1, pipelined=True, mixed=mixed)


def multiplier_blocks(config: EngineConfig) -> int:
    """MULT18X18D of an engine: for each lane or two pixels' lanes, one or two a requantizer."""
    return (config.block_channels * product_blocks(config)
            + config.requantizers * (1 if config.biased_bits <= OPERAND_BITS else 2))


def fit_memories(model: Model, config: EngineConfig, board: Board) -> Program:
    """The program, with memories in ``config`` as deep as it needs.

    Where the quickest layout of the feature maps needs too much memory, the quickest one that fits.
    """
    window_blocks = config.pixels * blocks(8 * config.channels, 1 << PLACES_BITS)
    queue_blocks = blocks(8 * config.tape_bytes + TapeWord.as_shape().width, 1)
    available = board.budget.block_rams - window_blocks - queue_blocks - constant_blocks(config)
    program = compile_program(model, config)
    tape_depth = rounded(len(program.tape))
    left = available - blocks(8 * config.tape_bytes, tape_depth)
    depth = max((depth for depth in range(DEPTH_STEP, LONGEST + 1, DEPTH_STEP)
                 if blocks(8 * config.channels, depth) <= left), default=0)
    if program.activation_words > depth > 0:
        try:
            program = compile_program(model, replace(config, activation_depth=depth))
        except UserError:
            pass                                 # no layout fits: said below, with both memories
    missing = blocks(8 * config.channels, rounded(program.activation_words)) - left
    if missing > 0:
        raise UserError(
            f"network {model.name} needs {program.tape_size} bytes for weights and "
            f"{program.activation_words * config.channels} for feature maps, which is {missing} "
            f"block RAMs ({missing * BLOCK_BYTES} bytes) more than {board.name} has; use fewer "
            "weight bits (--preset w4a8), a smaller network or a larger board")
    activation_depth = rounded(program.activation_words)
    # A power of two needs no multiplexers; of these the wider memory has more.
    spare = left - blocks(8 * config.channels, activation_depth)
    power = 1 << ceil_log2(activation_depth)
    if blocks(8 * config.channels, power) - blocks(8 * config.channels, activation_depth) <= spare:
        activation_depth = power
    return replace(program, config=replace(config, tape_depth=tape_depth,
                                           activation_depth=activation_depth))


def constant_blocks(config: EngineConfig) -> int:
    """Block RAMs of `hw.constant_banks.ConstantBanks`."""
    if config.constants_in_registers:
        return 0
    chunks = config.channels // config.requantizers
    return config.constant_words // chunks * blocks(8 * config.tape_bytes, 2 * chunks)


def rounded(words: int) -> int:
    """The depth of a memory for so many words."""
    return min(-(-words // DEPTH_STEP) * DEPTH_STEP, LONGEST)
