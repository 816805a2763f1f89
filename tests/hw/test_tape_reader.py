"""The tape reader: descriptors, constants and weights in the order of the tape, tiles rewound."""

import random

import pytest

from hw.config import EngineConfig
from hw.descriptor import descriptor_words
from hw.tape_reader import TapeReader, TapeWord

from .engines import packed_layer
from .streams import get, held_until_ready, simulate


def layer_walk(address, constants, products, tiles, groups, hold):
    """Addresses and kinds of one layer's words from ``address``, and where the next layer is."""
    words = []
    for _ in range(groups):
        words += [(address + k, TapeWord.CONSTANT) for k in range(constants)]
        address += constants
        words += [(address + (0 if hold else k), TapeWord.WEIGHT)
                  for _ in range(tiles) for k in range(products)]
        address += 1 if hold else products
    return words, address


@pytest.mark.parametrize("channels, bits", [(2, 8), (4, 8), (16, 8), (8, 4), (8, 5)])
@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_program(channels, bits, stall):
    """Several layers in a row; then a second run from the start."""
    rng = random.Random(channels)
    config = EngineConfig(channels=channels, pixels=1, requantizers=channels, tape_depth=1,
                          activation_depth=1, single_port=False, weight_bits=bits)
    dut = TapeReader(config)
    layers = [(rng.randint(1, 12), rng.randint(1, 5), rng.randint(1, 4), rng.random() < 0.4)
              for _ in range(6)] + [(1, 1, 1, False), (1, 1, 1, True), (300, 1, 1, False)]

    async def pulse(ctx, signal):
        ctx.set(signal, 1)
        await ctx.tick()
        ctx.set(signal, 0)

    async def expect(ctx, words):
        for word in words:
            got = await get(ctx, dut.o, stall, rng)
            assert (got.address, got.tag) == word
        *_, valid = await ctx.tick().sample(dut.o.valid)
        assert not valid, "more words than the layer has"

    async def check(ctx):
        for _ in range(2):
            await pulse(ctx, dut.rewind)
            address = 0
            for products, tiles, groups, hold in layers:
                await pulse(ctx, dut.fetch)
                descriptor = descriptor_words(config.tape_bytes)
                await expect(ctx, [(address + k, TapeWord.DESCRIPTOR) for k in range(descriptor)])
                ctx.set(dut.layer.as_value(), packed_layer(
                    product_last=products - 1, group_tile_last=tiles - 1,
                    output_group_last=groups - 1, hold=hold))
                await pulse(ctx, dut.begin)
                words, address = layer_walk(address + descriptor, config.constant_words,
                                            products, tiles, groups, hold)
                await expect(ctx, words)

    simulate(dut, check, background=(held_until_ready(dut.o),), cycles=20_000)
