"""The line buffer: sliding windows, whatever the two sides' pace."""

import random

import pytest

from hw.line_buffer import TAGS, LineBuffer

from .streams import get, held_until_ready, put, simulate


def row_words(rng, channels, count):
    """Random words with tags; about half of them complete a window."""
    return [{"word": [rng.randrange(256) for _ in range(channels)],
             "tags": {name: rng.randrange(2) for name in TAGS.members}} for _ in range(count)]


def windows(pixels, channels, items):
    """The last ``pixels`` words at each word tagged as a window's last."""
    words = [[0] * channels] * (pixels - 1) + [item["word"] for item in items]
    return [{"words": words[k:k + pixels], "tags": item["tags"]}
            for k, item in enumerate(items) if item["tags"]["window"]]


def plain(payload):
    """A received payload as lists and a dict."""
    return {"words": [list(word) for word in payload.words],
            "tags": {name: payload.tags[name] for name in TAGS.members}}


@pytest.mark.parametrize("pixels, channels", [(1, 2), (2, 4), (5, 2)])
@pytest.mark.parametrize("slow_input, slow_output", [(0, 0), (0.7, 0), (0, 0.7), (0.4, 0.4)])
def test_windows(pixels, channels, slow_input, slow_output):
    rng = random.Random(f"{pixels} {slow_input} {slow_output}")
    dut = LineBuffer(pixels, channels)
    items = row_words(rng, channels, 150)
    expected = windows(pixels, channels, items)

    async def feed(ctx):
        for item in items:
            while rng.random() < slow_input:
                await ctx.tick()
            await put(ctx, dut.i, item)

    async def check(ctx):
        for window in expected:
            assert plain(await get(ctx, dut.o, slow_output, rng)) == window

    # At full speed one word a cycle, and one cycle more for the last window.
    cycles = len(items) + 2 if not slow_input + slow_output else 30 * len(items)
    simulate(dut, feed, check, background=(held_until_ready(dut.o),), cycles=cycles)
