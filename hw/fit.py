"""The engine for a board and a network: the quickest array whose multipliers and memories fit."""

from collections.abc import Iterator
from dataclasses import replace

from boards import Board, Budget
from ref.errors import UserError
from ref.model import Conv2d, Model

from .compiler import compile_program
from .config import EngineConfig
from .lowering import largest_weight
from .program import Program
from .tape_reader import TapeWord
from .window_memory import PLACES_BITS

#: Words of one SPRAM pair.
SPRAM_WORDS = 16384
#: Most words of a memory, by the width of their addresses.
LONGEST = 1 << 16
#: Depths of engines' memories are multiples of this, so that similar networks share a bitstream.
DEPTH_STEP = 512
#: Bytes that one DP16KD holds, and its shapes with all bits, bits by words.
BLOCK_BYTES = 2048
BLOCK_SHAPES = ((36, 512), (18, 1024), (9, 2048))
#: Blocks not planned for, since `blocks` is an estimate.
SPARE_BLOCKS = 2
#: The array of iCE40UP5K: eight SB_MAC16 in dual 8x8 mode are 16 multipliers, so the requantizer's
#: is made of lookup tables, in slices.
ICE40_ARRAY = EngineConfig(channels=4, pixels=4, requantizers=1, tape_depth=SPRAM_WORDS,
                           activation_depth=SPRAM_WORDS, single_port=True, multiplier_slice=4)
#: Channels and pixels of the arrays for ECP5.
ECP5_ARRAYS = ((32, 8), (32, 6), (32, 4), (16, 8), (16, 6), (16, 4), (8, 8), (8, 6), (8, 4), (8, 2))
#: Lookup tables of an engine for ECP5, roughly and rather too many: for each lane, and the rest.
LANE_LUTS, OTHER_LUTS = 150, 4000


def fit_program(model: Model, board: Board, lanes: int | None = None) -> Program:
    """Compile ``model`` for the engine on ``board`` that needs the fewest cycles.

    On iCE40 the engine is the same for every network; on ECP5 its array is the quickest that fits,
    its memories are as deep as this network needs, and its weights have 4 bits where that is
    enough. ``lanes`` is the number of multipliers that the array must have, if one is given. Raises
    `UserError` with the number of missing bytes when the board is too small, and when it has no
    array of so many lanes.
    """
    arrays = ([ICE40_ARRAY] if board.family == "ice40"
              else list(ecp5_arrays(model, board.budget)))
    if lanes is not None:
        sizes = sorted({array.mac_units for array in arrays})
        arrays = [array for array in arrays if array.mac_units == lanes]
        if not arrays:
            raise UserError(
                f"there is no array of {lanes} lanes for network {model.name} on {board.name}, "
                f"which has {board.budget.multipliers} multiplier blocks and {board.budget.lut4} "
                f"lookup tables; there are arrays of {', '.join(map(str, sizes))} lanes (--lanes)")
    if board.family == "ice40":
        return compile_program(model, ICE40_ARRAY)
    programs, refusals = [], []
    for config in arrays:
        try:
            programs.append(fit_memories(model, config, board))
        except UserError as refusal:
            refusals.append(refusal)
    if not programs:
        raise refusals[-1]                       # of the smallest array, which leaves most memory
    return min(programs, key=lambda program: (program.predicted_cycles, program.config.mac_units))


def ecp5_arrays(model: Model, budget: Budget) -> Iterator[EngineConfig]:
    """Arrays within ``budget``'s multipliers and lookup tables, as many requantizers as possible.

    Weights have 4 bits if the model's have.
    """
    largest = max((largest_weight(layer) for layer in model.layers if isinstance(layer, Conv2d)),
                  default=0)
    for channels, pixels in ECP5_ARRAYS:
        for share in (1, 2, 4, 8):
            config = EngineConfig(
                channels=channels, pixels=pixels, requantizers=channels // share,
                tape_depth=LONGEST, activation_depth=LONGEST, single_port=False, strips=4)
            narrow = replace(config, weight_bits=4)
            config = narrow if largest <= narrow.largest_weight else config
            if (multiplier_blocks(config) <= budget.multipliers
                    and LANE_LUTS * config.mac_units + OTHER_LUTS <= budget.lut4):
                yield config
                break


def multiplier_blocks(config: EngineConfig) -> int:
    """MULT18X18D of an engine: one for each lane, two for each requantizer."""
    return config.mac_units + 2 * config.requantizers


def fit_memories(model: Model, config: EngineConfig, board: Board) -> Program:
    """The program, with memories in ``config`` as deep as it needs.

    Where the quickest layout of the feature maps needs too much memory, the quickest one that fits.
    """
    window_blocks = config.pixels * blocks(8 * config.channels, 1 << PLACES_BITS)
    queue_blocks = blocks(8 * config.tape_bytes + TapeWord.as_shape().width, 1)
    available = board.budget.block_rams - window_blocks - queue_blocks - SPARE_BLOCKS
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
    return replace(program, config=replace(config, tape_depth=tape_depth, activation_depth=rounded(
        program.activation_words)))


def rounded(words: int) -> int:
    """The depth of a memory for so many words."""
    return min(-(-words // DEPTH_STEP) * DEPTH_STEP, LONGEST)


def blocks(bits: int, depth: int) -> int:
    """DP16KD of a memory of ``depth`` words; Yosys mixes shapes and needs one more at most."""
    return min(-(-bits // width) * -(-depth // words) for width, words in BLOCK_SHAPES)
