# amaranth: UnusedElaboratable=no
"""Wrong programs: every run ends, what cannot end is an error, and the next run is right."""

import random

import numpy as np
import pytest

from hw import accelerator, compiler
from hw.accelerator import Accelerator
from hw.compiler import compile_program
from hw.config import EngineConfig
from hw.descriptor import FIELDS, descriptor_words
from ref.errors import UserError
from ref.layers import quantize_input
from ref.run import run

from .engines import random_program
from .streams import get, put, simulate
from .test_compiler import convolution

CONFIG = EngineConfig(channels=4, pixels=2, requantizers=2, tape_depth=512, activation_depth=256,
                      single_port=False)
LONGEST_RUN = 2048


class Impatient(accelerator.Sequencer):
    longest_run = LONGEST_RUN


def field_range(name):
    """Bits of a field within a descriptor."""
    position = 0
    for other, (bits, _) in FIELDS.items():
        if other == name:
            return position, bits
        position += bits
    raise KeyError(name)


def with_field(tape, name, value):
    """The tape with a field of its first descriptor replaced."""
    words = descriptor_words(CONFIG.tape_bytes)
    packed = int.from_bytes(tape[:words].tobytes(), "little")
    position, bits = field_range(name)
    packed &= ~(((1 << bits) - 1) << position)
    packed |= value << position
    changed = tape.copy()
    changed[:words] = np.frombuffer(packed.to_bytes(words * tape.shape[1], "little"),
                                    np.uint8).reshape(words, -1)
    return changed


def wrong_tapes(tape):
    """(tape, whether it can only end in an error)."""
    longest = (1 << 16) - 1
    yield with_field(tape, "product_last", longest), True       # weights that nobody takes
    yield with_field(tape, "group_tile_last", longest), True
    yield with_field(tape, "inner_last", 4095), True            # windows without weights
    yield tape * 0, True                                        # no layer is the last
    rng = random.Random(0)
    words = descriptor_words(CONFIG.tape_bytes)
    for _ in range(6):
        changed = tape.copy()
        changed[rng.randrange(words), rng.randrange(4)] ^= 1 << rng.randrange(8)
        yield changed, False


def test_wrong_programs():
    model, program, x = random_program(2, CONFIG, samples=1, layers=2, channels=5, size=5,
                                       kinds=("dense",), fully_connected=False)
    assert 100 < program.predicted_cycles < LONGEST_RUN
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accelerator, "Sequencer", Impatient)
        dut = Accelerator(CONFIG)
        m = dut.elaborate(None)
    words = program.input.pack(quantize_input(model, x)[0])
    output = program.output
    expected = run(model, x)[0]

    async def load(ctx, space, address, rows):
        for offset, row in enumerate(rows):
            await put(ctx, dut.load, {"space": space, "address": address + offset,
                                      "data": int.from_bytes(row.tobytes(), "little")})

    async def infer(ctx, tape):
        """Whether a run of the tape is an error; it ends in time."""
        await load(ctx, 1, 0, tape)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for _ in range(LONGEST_RUN + 5):
            await ctx.tick()
            if not ctx.get(dut.busy):
                return ctx.get(dut.error)
        raise AssertionError("still busy")

    async def host(ctx):
        for tape, never_ends in wrong_tapes(program.tape):
            error = await infer(ctx, tape)
            assert error or not never_ends
            await load(ctx, 0, 0, program.pads)
            await load(ctx, 0, program.input.address, words)
            assert not await infer(ctx, program.tape)
            assert ctx.get(dut.cycles) == program.predicted_cycles
            answer = []
            for address in range(output.address, output.address + output.words):
                await put(ctx, dut.read, address)
                answer.append(list((await get(ctx, dut.data)).to_bytes(4, "little")))
            got = output.unpack(np.array(answer, np.uint8))
            np.testing.assert_array_equal(got, expected)

    simulate(m, host, cycles=60_000)


def test_networks_that_take_longer_are_refused(monkeypatch):
    model = convolution()
    cycles = compile_program(model, CONFIG).predicted_cycles

    class Exact(accelerator.Sequencer):
        longest_run = cycles + 1

    monkeypatch.setattr(compiler, "Sequencer", Exact)
    compile_program(model, CONFIG)
    Exact.longest_run = cycles
    with pytest.raises(UserError) as error:
        compile_program(model, CONFIG)
    assert str(error.value) == (
        f"the network takes {cycles} cycles and the engine's watchdog ends a run after {cycles}; "
        "use a smaller input or a larger board")
