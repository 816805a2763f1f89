"""The tape in a memory outside: whatever its words' latency and pauses, the results are the same.

An SDRAM's controller would stand where `MemoryReader` does: addresses in, words out, in order. Here
requests wait at random before they reach the memory, and words before they reach the engine.
"""

import pytest
from amaranth.hdl import Cat, Module, Mux, Signal

from hw import accelerator
from hw.config import EngineConfig
from hw.memory_reader import MemoryReader
from hw.pysim import AmaranthEngine
from hw.simulate import simulate as simulate_network
from ref.errors import UserError

from .engines import random_program
from .test_code_engine import random_program as random_code_program

CONFIGS = [
    EngineConfig(channels=4, pixels=2, requantizers=2, tape_depth=512, activation_depth=256,
                 single_port=True, multiplier_slice=4),
    EngineConfig(channels=2, pixels=3, requantizers=1, tape_depth=512, activation_depth=256,
                 single_port=False, pipelined=True)]


def slow(pause_bits: int, often: int, *, loses: bool = False) -> type[MemoryReader]:
    """A reader whose memory asks for a rest of up to 2^pause_bits cycles after words, at random.

    After one of 2^often words. With ``loses`` it forgets what it would have offered meanwhile.
    """
    class SlowReader(MemoryReader):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.reader = lambda: MemoryReader(*arguments, **options)

        def elaborate(self, platform):
            m = Module()
            m.submodules.reader = reader = self.reader()
            random = Signal(16, init=0xACE1)        # a Galois shift register
            m.d.sync += random.eq((random >> 1) ^ Mux(random[0], 0xB400, 0))
            pause = Signal(pause_bits)
            asked, offered = random[3], pause == 0
            m.d.comb += [
                reader.request.payload.eq(self.request.payload),
                reader.request.valid.eq(self.request.valid & asked),
                self.request.ready.eq(reader.request.ready & asked),
                reader.blocked.eq(self.blocked),
                Cat(self.enable, self.address).eq(Cat(reader.enable, reader.address)),
                reader.data.eq(self.data),
                self.o.payload.eq(reader.o.payload),
                self.o.valid.eq(reader.o.valid & offered),
                reader.o.ready.eq(self.o.ready & (offered | loses)),
            ]
            with m.If(~offered):
                m.d.sync += pause.eq(pause - 1)
            with m.Elif(self.o.valid & self.o.ready & (random[4:4 + often] == 0)):
                m.d.sync += pause.eq(random[4 + often:])
            return m
    return SlowReader


def run_random_network(seed: int, config: EngineConfig) -> dict:
    model, program, x = random_program(seed, config, samples=1, channels=6, size=5, layers=2)
    return simulate_network(model, program, x, AmaranthEngine(config))


@pytest.mark.parametrize("config, pause_bits, often", [
    (CONFIGS[0], 1, 0), (CONFIGS[0], 3, 1), (CONFIGS[1], 3, 1), (CONFIGS[1], 6, 4)])
def test_results_do_not_depend_on_the_tapes_pace(config, pause_bits, often, monkeypatch):
    monkeypatch.setattr(accelerator, "MemoryReader", slow(pause_bits, often))
    result = run_random_network(pause_bits, config)
    assert result["mismatches"] == 0, result["first_mismatch"]
    assert result["cycles_per_inference"] > sum(
        layer["predicted_cycles"] for layer in result["layers"]), "the memory was not slow"


def test_results_of_codes_do_not_depend_on_the_tapes_pace(monkeypatch):
    monkeypatch.setattr(accelerator, "MemoryReader", slow(3, 1))
    model, program, x = random_code_program(5, samples=1, layers=3)
    result = simulate_network(model, program, x, AmaranthEngine(program.config))
    assert result["mismatches"] == 0, result["first_mismatch"]


def test_a_memory_that_loses_words_is_noticed(monkeypatch):
    monkeypatch.setattr(accelerator, "MemoryReader", slow(3, 1, loses=True))
    with pytest.raises(UserError, match="did not finish"):
        run_random_network(3, CONFIGS[0])
