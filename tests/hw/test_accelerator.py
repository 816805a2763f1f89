# amaranth: UnusedElaboratable=no
"""The whole engine: random networks, every layer's integers and cycles; the host's side of it."""

import random

import numpy as np
import pytest
from amaranth.hdl import Assert

from hw import accelerator
from hw.accelerator import Accelerator
from hw.compiler import compile_program
from hw.config import EngineConfig
from hw.descriptor import descriptor_words
from hw.memory import EngineMemory
from hw.pysim import AmaranthEngine
from hw.simulate import simulate as simulate_network
from ref import (
    Concat,
    Conv2d,
    Input,
    Model,
    Requantization,
    SpaceToDepth,
    Tensor,
    Window,
    accumulator_proof,
    check_model,
)
from ref.layers import quantize_input

from .engines import CONFIGS, ENGINE_KINDS, engine_of, packed_layer, random_program
from .streams import get, put, simulate


def check_network(model, program, x, engine):
    """Every integer of every layer, every layer's cycles, and that every word is written once."""
    result = simulate_network(model, program, x, engine)
    assert result["mismatches"] == 0, result["first_mismatch"]
    assert [layer["cycles"] for layer in result["layers"]] == [
        layer.predicted_cycles for layer in program.layers]
    assert result["cycles_per_inference"] == sum(layer.predicted_cycles for layer in program.layers)


@pytest.mark.parametrize("name", CONFIGS)
def test_random_networks(name):
    engine = engine_of(name)
    for seed in range(60):
        check_network(*random_program(seed, CONFIGS[name]), engine)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("kind", ENGINE_KINDS)
def test_each_kind(name, kind):
    engine = engine_of(name)
    for seed in range(5):
        check_network(*random_program(seed, CONFIGS[name], kinds=(kind,), layers=2), engine)


@pytest.mark.long
@pytest.mark.parametrize("name", CONFIGS)
def test_many_networks(name):
    engine = engine_of(name)
    for seed in range(1000, 2000):
        check_network(*random_program(seed, CONFIGS[name]), engine)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_word_is_written_once(name):
    engine = engine_of(name)
    for seed in range(5):
        model, program, x = random_program(seed, CONFIGS[name])
        engine.load(1, 0, program.tape)
        engine.load(0, 0, program.pads)
        engine.load(0, program.input.address, program.input.pack(quantize_input(model, x)[0]))
        trace = engine.run(1 << 20)
        step = 0
        for layer in program.layers:
            written = trace.addresses[(step <= trace.steps) & (trace.steps < step + layer.steps)]
            step += layer.steps
            place = layer.output
            pixels = np.arange(place.pixels)[:, None] * place.pitch
            words = (place.address + pixels + np.arange(place.groups)).ravel()
            if isinstance(model.layers[program.layers.index(layer)], Concat | SpaceToDepth):
                written = written[np.isin(written, words)]     # what lies there already, is not
                assert len(np.unique(written)) == len(written)
            else:
                assert np.array_equal(np.sort(written), words)
        assert step == len(trace.step_ends)


class CheckedMemory(EngineMemory):
    """A memory that fails the simulation when it is used as it must not be."""

    def elaborate(self, platform):
        m = super().elaborate(platform)
        both = self.read_enable & self.write_enable
        if self.single_port:
            m.d.sync += Assert(~both)
        else:
            m.d.sync += Assert(~(both & (self.read_address == self.write_address)))
        m.d.sync += Assert(~self.read_enable | (self.read_address < self.depth))
        m.d.sync += Assert(~self.write_enable | (self.write_address < self.depth))
        return m


@pytest.mark.parametrize("config", [
    EngineConfig(channels=4, pixels=2, requantizers=2, tape_depth=512, activation_depth=256,
                 single_port=True, multiplier_slice=4),
    EngineConfig(channels=2, pixels=3, requantizers=1, tape_depth=512, activation_depth=256,
                 single_port=False)])
def test_in_amaranth(config, monkeypatch):
    """The same in Amaranth's own simulator, with the memories' rules checked in every cycle."""
    monkeypatch.setattr(accelerator, "EngineMemory", CheckedMemory)
    for seed in range(2):
        model, program, x = random_program(seed, config, samples=1, channels=6, size=5, layers=2)
        check_network(model, program, x, AmaranthEngine(config))


def witness_network(signed, accumulator_bits, largest):
    """A fully connected layer that needs accumulators of exactly that many bits, both ways."""
    limit = 1 << (accumulator_bits - 1)
    inputs = (limit - 100) // (largest * (128 if signed else 255))
    source = Tensor("input", (inputs, 1, 1), 8, signed, np.array(1.0))
    target = Tensor("output", (3, 1, 1), 8, True, np.array(1.0))
    weight = np.full((3, inputs, 1, 1), largest) * np.array([[1, -1, 1]]).T[..., None, None]
    weight = weight.astype(np.int8)
    weight[2, ::2] *= -1
    bias = np.array([99, -99, 7])
    bounds = (np.full(inputs, source.lo), np.full(inputs, source.hi))
    proof = accumulator_proof(weight, bias, *bounds, None, 1)
    rule = Requantization(bias, np.array([1, 1, 3]), 16, np.full(3, -128), np.full(3, 127))
    layer = Conv2d("layer", ("input",), "output", weight, 8, Window((1, 1)), 1,
                   np.zeros(inputs, np.int64), rule, proof)
    model = Model("witness", Input("input", "int8" if signed else "uint8", 1, 0, np.array(1.0),
                                   np.array(0.0), source.shape),
                  {"input": source, "output": target}, (layer,))
    check_model(model)
    assert proof.bits == accumulator_bits
    return model


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("signed", [False, True])
def test_witness_of_the_widest_accumulator(name, signed):
    """Inputs that reach the bounds of accumulators that are as wide as the engine's."""
    config = CONFIGS[name]
    # Where a sum must not wrap before its bias is added, it is that of the activations as stored.
    bits = config.accumulator_bits - (signed and config.bias_bits > 0)
    model = witness_network(signed, bits, config.largest_weight)
    lowest, highest = model.input_tensor.lo, model.input_tensor.hi
    witness = model.layers[0].proof.witness
    x = np.stack([witness, lowest + highest - witness, np.full_like(witness, lowest),
                  np.full_like(witness, highest)]).astype(model.input.dtype)
    check_network(model, compile_program(model, config), x, engine_of(name))


def test_loading_and_reading():
    """The host's ports: what is written is read back in order, whoever waits."""
    config = EngineConfig(channels=2, pixels=1, requantizers=1, tape_depth=32,
                          activation_depth=64, single_port=True)
    dut = Accelerator(config)
    rng = random.Random(0)
    contents = {address: rng.getrandbits(16) for address in rng.sample(range(64), 40)}

    async def host(ctx):
        for address, word in contents.items():
            await put(ctx, dut.load, {"space": 0, "address": address, "data": word})
            if address < 32:       # the tape is another memory
                await put(ctx, dut.load, {"space": 1, "address": address, "data": ~word & 0xFFFF})

    async def ask(ctx):
        for _ in range(200):
            await ctx.tick()
        for address in contents:
            await put(ctx, dut.read, address)

    async def check(ctx):
        for word in contents.values():
            assert await get(ctx, dut.data, 0.5, rng) == word

    simulate(dut, host, ask, check, cycles=2000)


def test_host_is_refused_while_busy():
    """A program that never ends: nothing is loaded or read, and loading works when it was ended."""
    config = EngineConfig(channels=2, pixels=1, requantizers=1, tape_depth=32,
                          activation_depth=64, single_port=True)

    class Impatient(accelerator.Sequencer):
        longest_run = 256

    dut = Accelerator(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accelerator, "Sequencer", Impatient)
        m = dut.elaborate(None)
    # Four tiles and a weight for only one of them.
    descriptor = packed_layer(outer_last=3).to_bytes(2 * descriptor_words(2), "little")
    tape = [int.from_bytes(descriptor[k:k + 2], "little") for k in range(0, len(descriptor), 2)]

    async def host(ctx):
        await put(ctx, dut.load, {"space": 0, "address": 5, "data": 0x1234})
        for address, word in enumerate(tape):
            await put(ctx, dut.load, {"space": 1, "address": address, "data": word})
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        ctx.set(dut.load.payload, {"space": 0, "address": 5, "data": 0x4321})
        while ctx.get(dut.busy):
            ctx.set(dut.load.valid, 1)
            ctx.set(dut.read.valid, 1)
            *_, busy, load_ready, read_ready = await ctx.tick().sample(
                dut.busy, dut.load.ready, dut.read.ready)
            assert busy and not load_ready and not read_ready
            ctx.set(dut.load.valid, 0)
            ctx.set(dut.read.valid, 0)
        assert ctx.get(dut.error)
        await put(ctx, dut.read, 5)
        assert await get(ctx, dut.data) == 0x1234

    simulate(m, host, cycles=2000)
