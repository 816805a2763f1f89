"""The accelerator in Amaranth's own simulator: slow, and nothing between it and the source."""

import warnings
from contextlib import nullcontext
from pathlib import Path

import numpy as np
from amaranth.back import rtlil
from amaranth.sim import Simulator

from ref.errors import UserError

from .accelerator import Accelerator
from .config import EngineConfig
from .trace import Trace


class AmaranthEngine:
    """A simulated accelerator; words are loaded when it runs. Implements `hw.trace.Engine`.

    With ``vcd`` each run writes every signal of the engine into that file, for GTKWave or Surfer.
    """

    def __init__(self, config: EngineConfig, vcd: str | Path | None = None) -> None:
        self.config = config
        self.vcd = vcd
        self._memory: dict[tuple[int, int], int] = {}

    def load(self, space: int, address: int, words: np.ndarray) -> None:
        """Note words (uint8 [n, channels]) to be written before the next run."""
        for offset, word in enumerate(words):
            self._memory[space, address + offset] = int.from_bytes(word.tobytes(), "little")

    def run(self, limit: int) -> Trace:
        """Write the words, run the program once; raise `UserError` when it hangs."""
        dut = Accelerator(self.config)
        rtlil.convert(dut)           # finds combinational loops, on which the simulator would spin
        dut = Accelerator(self.config)
        writes: list[tuple[int, int, int]] = []
        ends: list[int] = []
        cycles = 0

        async def bench(ctx) -> None:  # type: ignore[no-untyped-def]
            nonlocal cycles
            ctx.set(dut.load.valid, 1)
            for (space, address), word in self._memory.items():
                ctx.set(dut.load.payload, {"space": space, "address": address, "data": word})
                await ctx.tick()
            ctx.set(dut.load.valid, 0)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            while ctx.get(dut.busy) and cycles < limit:
                cycles += 1
                if ctx.get(dut.trace_write):
                    writes.append((ctx.get(dut.trace_address), len(ends), ctx.get(dut.trace_data)))
                if ctx.get(dut.trace_layer_done):
                    ends.append(cycles)
                await ctx.tick()
            if ctx.get(dut.busy) or ctx.get(dut.error):
                raise UserError(f"the simulated engine did not finish within {limit} cycles; "
                                "this is a defect in the engine or its program")

        simulator = Simulator(dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(bench)
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            with nullcontext() if self.vcd is None else simulator.write_vcd(str(self.vcd)):
                simulator.run()
        words = b"".join(word.to_bytes(self.config.word_bytes, "little") for _, _, word in writes)
        return Trace(
            addresses=np.array([address for address, _, _ in writes], np.uint32),
            steps=np.array([step for _, step, _ in writes], np.uint32),
            words=np.frombuffer(words, np.uint8).reshape(-1, self.config.word_bytes),
            step_ends=np.array(ends, np.uint64), cycles=cycles)
