"""The engine for a board: array by device family, memories by what the network needs."""

from dataclasses import replace

from boards import Board
from ref.errors import UserError
from ref.model import Conv2d, Model

from .compiler import compile_program
from .config import EngineConfig
from .descriptor import ADDRESS_BITS
from .lowering import largest_weight
from .program import Program
from .tape_reader import TapeWord

#: Words of one SPRAM pair, and of the block RAM shape that holds one byte per word.
SPRAM_WORDS, BLOCK_WORDS = 16384, 2048
#: Bits of a block RAM's widest shape, of which the tape's queue and the window memory are made.
BLOCK_BITS = 36
#: The array of each family. iCE40UP5K: eight SB_MAC16 in dual 8x8 mode are 16 multipliers, so the
#: requantizer's is made of lookup tables, in slices. ECP5: a block per lane, two per requantizer.
ARRAYS = {
    "ice40": EngineConfig(channels=4, pixels=4, requantizers=1, tape_depth=SPRAM_WORDS,
                          activation_depth=SPRAM_WORDS, single_port=True, multiplier_slice=4),
    "ecp5": EngineConfig(channels=8, pixels=8, requantizers=8, tape_depth=1 << 16,
                         activation_depth=1 << 16, single_port=False),
}


def fit_program(model: Model, board: Board) -> Program:
    """Compile ``model`` for the engine that fits it on ``board``.

    On devices with SPRAM the engine is the same for every network; elsewhere its memories are as
    deep as this network needs, and its weights have 4 bits where that is enough. Raises
    `UserError` with the number of missing bytes when the board is too small.
    """
    config = ARRAYS[board.family]
    if config.single_port:
        return compile_program(model, config)
    config = fitted_array(model, config)
    # The window memory and the tape's queue take blocks; either memory could have all the rest.
    word_blocks = -(-8 * config.channels // BLOCK_BITS)
    queue_blocks = -(-(8 * config.tape_bytes + TapeWord.as_shape().width) // BLOCK_BITS)
    available = board.budget.block_rams - config.pixels * word_blocks - queue_blocks
    depth = min(available // config.tape_bytes * BLOCK_WORDS, 1 << ADDRESS_BITS)
    program = compile_program(model, replace(config, tape_depth=depth, activation_depth=depth))
    blocks = [-(-words // BLOCK_WORDS) for words in (len(program.tape), program.activation_words)]
    needed = blocks[0] * config.tape_bytes + blocks[1] * config.channels
    if needed > available:
        raise UserError(
            f"network {model.name} needs {needed} block RAMs "
            f"({program.tape_size} bytes of weights, "
            f"{program.activation_words * config.channels} of feature maps) and "
            f"{board.name} has {available} for them: "
            f"{(needed - available) * BLOCK_WORDS} bytes too many; use a smaller network or a "
            "larger board")
    fitted = replace(config, tape_depth=blocks[0] * BLOCK_WORDS,
                     activation_depth=blocks[1] * BLOCK_WORDS)
    return replace(program, config=fitted)


def fitted_array(model: Model, array: EngineConfig) -> EngineConfig:
    """The array of a family with lanes as narrow as ``model`` allows."""
    narrow = replace(array, weight_bits=4)
    largest = max((largest_weight(layer) for layer in model.layers if isinstance(layer, Conv2d)),
                  default=0)
    return narrow if largest <= narrow.largest_weight else array
