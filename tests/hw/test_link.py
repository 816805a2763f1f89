# amaranth: UnusedElaboratable=no
"""The link: every command, every kind of damage, with stalls on all sides."""

import random

import pytest

from hw.config import EngineConfig
from hw.frames import Command, Status, crc16, encode_request, encode_response
from hw.link import Link

from .streams import get, held_until_ready, put, simulate, wait_for

TIMEOUT = 64


def config(channels=4, **changes):
    return EngineConfig(**{
        "channels": channels, "pixels": 3, "requantizers": max(channels // 8, 2), "tape_depth": 300,
        "activation_depth": 100, "single_port": True} | changes)


class Bench:
    """A link between a host, who sends and receives frames, and the ports of a pretended engine."""

    def __init__(self, channels=4, *, stall=0.0, hang=False, **changes):
        self.link = Link(config(channels, **changes), timeout=TIMEOUT)
        self.rng = random.Random(channels)
        self.stall = stall
        self.hang = hang                 # the engine's watchdog ends every run
        self.memory = [{}, {}]           # words written, by space
        self.runs = 0

    async def occupied(self, ctx):
        """A memory busy for longer than a word takes on the line, so that the link does wait."""
        for _ in range(self.rng.randrange(TIMEOUT // 2) if self.stall else 0):
            await ctx.tick()

    async def accept_writes(self, ctx):
        while True:
            await self.occupied(ctx)
            write = await get(ctx, self.link.load, self.stall, self.rng)
            self.memory[write.space][write.address] = write.data

    async def answer_reads(self, ctx):
        while True:
            await self.occupied(ctx)
            address = await get(ctx, self.link.read, self.stall, self.rng)
            await ctx.tick()
            await ctx.tick()
            await put(ctx, self.link.data, self.memory[0].get(address, 0))

    async def run(self, ctx):
        while True:
            await wait_for(ctx, self.link.start)
            self.runs += 1
            ctx.set(self.link.busy, 1)
            ctx.set(self.link.cycles, 0)
            for _ in range(3 * TIMEOUT):
                await ctx.tick()
                assert not ctx.get(self.link.start) and not ctx.get(self.link.o.valid)
            ctx.set(self.link.busy, 0)
            ctx.set(self.link.cycles, 0x12345600 + self.runs)
            ctx.set(self.link.error, self.hang)

    async def send(self, ctx, frame):
        for byte in frame:
            while self.rng.random() < self.stall:
                await ctx.tick()
            await put(ctx, self.link.i, byte)

    async def receive(self, ctx):
        head = [await get(ctx, self.link.o, self.stall, self.rng) for _ in range(4)]
        rest = [await get(ctx, self.link.o, self.stall, self.rng)
                for _ in range(head[2] + 256 * head[3] + 2)]
        return bytes(head + rest)

    def exchange(self, *frames_and_answers, cycles=20000):
        """Send each frame and demand its answer, then demand silence."""
        async def host(ctx):
            for frame, answer in frames_and_answers:
                await self.send(ctx, frame)
                if answer is not None:
                    assert await self.receive(ctx) == answer
            for _ in range(3 * TIMEOUT):
                await ctx.tick()
                assert not ctx.get(self.link.o.valid), "an answer nobody asked for"

        rules = [held_until_ready(port) for port in (self.link.o, self.link.load, self.link.read)]
        simulate(self.link, host, cycles=cycles,
                 background=(self.accept_writes, self.answer_reads, self.run, *rules))


OK = encode_response(Status.OK)
INFO = encode_request(Command.INFO)


def info_answer(channels=4):
    return encode_response(Status.OK, bytes([1, channels, 3, max(channels // 8, 2)])
                           + config(channels).digest().to_bytes(4, "little"))


def flip(frame, bit):
    damaged = bytearray(frame)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_frames_as_written():
    """The layout itself, in bytes; the CRC is the catalogue's check value."""
    assert crc16(b"123456789") == b"\x29\xB1"
    assert encode_request(2, 0x1234, 1, b"\xAA\xBB") == (
        b"\x53\x02\x34\x12\x01\x00" + crc16(b"\x02\x34\x12\x01\x00")
        + b"\xAA\xBB" + crc16(b"\xAA\xBB"))
    assert encode_response(0, b"\x07") == b"\x52\x00\x01\x00\x07" + crc16(b"\x00\x01\x00\x07")


@pytest.mark.parametrize("channels", [2, 4, 32])
def test_info(channels):
    Bench(channels).exchange((INFO, info_answer(channels)))


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("channels", [2, 4, 8])
def test_write_and_read(channels, stall):
    bench = Bench(channels, stall=stall)
    data = bench.rng.randbytes(5 * channels)
    words = [int.from_bytes(data[at:at + channels], "little")
             for at in range(0, len(data), channels)]
    bench.exchange(
        (encode_request(Command.WRITE_TAPE, 295, 5, data), OK),
        (encode_request(Command.WRITE_ACTIVATIONS, 95, 5, data), OK),
        (encode_request(Command.READ_ACTIVATIONS, 95, 5), encode_response(Status.OK, data)),
        (encode_request(Command.READ_ACTIVATIONS, 97, 2),
         encode_response(Status.OK, data[2 * channels:4 * channels])))
    assert bench.memory[1] == {295 + k: word for k, word in enumerate(words)}
    assert bench.memory[0] == {95 + k: word for k, word in enumerate(words)}


def test_nothing_to_write_or_read():
    bench = Bench()
    bench.exchange((encode_request(Command.WRITE_TAPE, 0, 0, b""), OK),
                   (encode_request(Command.READ_ACTIVATIONS, 100, 0), OK))
    assert bench.memory == [{}, {}]


@pytest.mark.parametrize("channels", [2, 4, 8])
def test_run(channels):
    bench = Bench(channels)
    bench.exchange(
        (encode_request(Command.RUN), encode_response(Status.OK, b"\x01\x56\x34\x12")),
        (encode_request(Command.RUN), encode_response(Status.OK, b"\x02\x56\x34\x12")))
    assert bench.runs == 2


def test_engine_error():
    bench = Bench(hang=True)
    bench.exchange((encode_request(Command.RUN), encode_response(Status.ENGINE_ERROR)),
                   (INFO, info_answer()))


@pytest.mark.parametrize("first_bit", range(8))
def test_damaged_header(first_bit):
    """No bit of a header can be wrong with an effect."""
    bench = Bench()
    frames = [encode_request(Command.RUN),
              encode_request(Command.WRITE_ACTIVATIONS, 2, 1, b"\x53\x00\x00\x00")]
    exchanges = []
    for frame in frames:
        for bit in range(8 + first_bit, 64, 8):
            exchanges += [(flip(frame, bit), encode_response(Status.DAMAGED))]
    bench.exchange(*exchanges, (INFO, info_answer()))
    assert bench.runs == 0 and bench.memory == [{}, {}]


def test_damaged_payload():
    bench = Bench(stall=0.2)
    good = encode_request(Command.WRITE_ACTIVATIONS, 3, 2, b"abcdefgh")
    damaged = encode_response(Status.DAMAGED)
    bench.exchange(*[(flip(good, bit), damaged) for bit in range(64, 144, 7)], (good, OK))
    assert bench.memory[0] == {3: int.from_bytes(b"abcd", "little"),
                               4: int.from_bytes(b"efgh", "little")}


@pytest.mark.parametrize("command", [5, 7, 0x80, 0xFF])
def test_unknown_command(command):
    Bench().exchange((encode_request(command), encode_response(Status.UNKNOWN_COMMAND)),
                     (INFO, info_answer()))


def test_truncated_frame():
    """Cut anywhere, it is answered after the silence, and the next frame is served."""
    frame = encode_request(Command.WRITE_ACTIVATIONS, 3, 2, b"abcdefgh")
    bench = Bench()
    bench.exchange(*[(frame[:length], encode_response(Status.TIMED_OUT))
                     for length in range(1, len(frame))], (INFO, info_answer()))


def test_too_long_frame():
    """What follows a frame is not part of it; without the mark of a request it is ignored."""
    Bench().exchange((INFO, info_answer()), (b"\x00\xFF\x52", None), (INFO, info_answer()))


def test_garbage_that_looks_like_a_frame():
    """The frame behind it is lost with it, and answered as damaged, once."""
    Bench().exchange((b"\x53\x01" + INFO, encode_response(Status.DAMAGED)), (INFO, info_answer()))


@pytest.mark.parametrize("command, address, words, accepted", [
    (Command.WRITE_ACTIVATIONS, 99, 1, True),
    (Command.WRITE_ACTIVATIONS, 99, 2, False),
    (Command.WRITE_ACTIVATIONS, 0xFFFF, 1, False),
    (Command.WRITE_ACTIVATIONS, 0xFFFF, 2, False),
    (Command.WRITE_TAPE, 299, 1, True),
    (Command.WRITE_TAPE, 299, 2, False),
    (Command.READ_ACTIVATIONS, 99, 1, True),
    (Command.READ_ACTIVATIONS, 100, 1, False),
])
def test_address_range(command, address, words, accepted):
    bench = Bench()
    read = command == Command.READ_ACTIVATIONS
    frame = encode_request(command, address, words, None if read else bytes(4 * words))
    answer = encode_response(Status.OK, bytes(4)) if read else OK
    bench.exchange((frame, answer if accepted else encode_response(Status.OUT_OF_RANGE)),
                   (INFO, info_answer()))
    assert len(bench.memory[0]) + len(bench.memory[1]) == (words if accepted and not read else 0)


def test_payload_of_a_refused_frame_is_not_obeyed():
    bench = Bench()
    run = encode_request(Command.RUN)
    bench.exchange((encode_request(Command.WRITE_TAPE, 299, 2, run),
                    encode_response(Status.OUT_OF_RANGE)))
    assert bench.runs == 0


def test_more_bytes_than_an_answer_can_count():
    """64 K words of 4 bytes exist, but a frame's length has 16 bits."""
    bench = Bench(activation_depth=1 << 16)
    bench.exchange((encode_request(Command.READ_ACTIVATIONS, 0, 0x4000),
                    encode_response(Status.OUT_OF_RANGE)))


def test_silence_is_as_long_as_documented():
    bench = Bench()

    async def host(ctx):
        await bench.send(ctx, INFO[:4])
        elapsed = 0
        while not ctx.get(bench.link.o.valid):
            await ctx.tick()
            elapsed += 1
        assert TIMEOUT <= elapsed <= 2 * TIMEOUT

    simulate(bench.link, host, cycles=4 * TIMEOUT)


def test_timeout_of_nothing():
    with pytest.raises(ValueError, match="must be at least one clock cycle, not 0"):
        Link(config(), timeout=0)
