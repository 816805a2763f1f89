"""The host against a model of the board that damages, loses and delays what passes."""

import random
from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from hw.config import EngineConfig
from hw.frames import Command, Status, crc16, encode_response, info_payload
from hw.host import RETRIES, Host, Info
from hw.program import Placement, Program
from ref.errors import UserError

CONFIG = EngineConfig(channels=4, pixels=2, requantizers=1, tape_depth=2000,
                      activation_depth=2000, single_port=True)


def program(config=CONFIG):
    """A program for `BoardModel`, whose engine reverses the input's pixels in place."""
    rng = np.random.default_rng(1)
    source = Placement("input", 1, (6, 30, 20), signed=False, channels=4, transposed=False)
    return Program(config=config, tape=rng.integers(0, 256, (700, 4), np.uint8),
                   pads=np.full((1, 4), 128, np.uint8), input=source,
                   output=replace(source, tensor="output"), layers=(),
                   activation_words=1 + source.words)


class BoardModel:
    """A port with a board behind it, written from docs/host-link.md and sharing only the CRC.

    ``damage(direction, number, frame)`` maps each frame (``"request"`` or ``"response"``, counted
    from 0) to what arrives of it.
    """

    timeout: float | None = 1.0

    def __init__(self, config=CONFIG, damage=lambda direction, number, frame: frame):
        self.config = config
        self.damage = damage
        self.pending = deque()
        self.tape = np.zeros((config.tape_depth, 4), np.uint8)
        self.activations = np.zeros((config.activation_depth, 4), np.uint8)
        self.requests = self.responses = self.runs = 0
        self.hang = False

    def write(self, data):
        arrived = self.damage("request", self.requests, bytes(data))
        self.requests += 1
        if arrived:
            status, payload = self.serve(arrived)
            response = self.damage("response", self.responses, encode_response(status, payload))
            self.responses += 1
            self.pending.extend(response)
        return len(data)

    def read(self, size):
        return bytes(self.pending.popleft() for _ in range(min(size, len(self.pending))))

    def serve(self, frame):
        """Status and payload for the bytes of one request."""
        if frame[0] != 0x53 or len(frame) < 8:
            return Status.TIMED_OUT, b""
        command, address, words = frame[1], frame[2] | frame[3] << 8, frame[4] | frame[5] << 8
        if crc16(frame[1:6]) != frame[6:8]:
            return Status.DAMAGED, b""
        payload = frame[8:-2]
        if command in (Command.WRITE_TAPE, Command.WRITE_ACTIVATIONS):
            memory = self.tape if command == Command.WRITE_TAPE else self.activations
            if address + words > len(memory):
                return Status.OUT_OF_RANGE, b""
            whole = len(payload) // 4 * 4
            memory[address:address + whole // 4] = np.frombuffer(
                payload[:whole], np.uint8).reshape(-1, 4)
            if len(payload) < 4 * words:
                return Status.TIMED_OUT, b""
            return (Status.OK if crc16(payload) == frame[-2:] else Status.DAMAGED), b""
        if command == Command.RUN:
            self.runs += 1
            area = self.activations[1:1201]
            area[:] = area[::-1].copy()
            return (Status.ENGINE_ERROR, b"") if self.hang else (Status.OK, b"\x39\x05\x00\x00")
        if command == Command.READ_ACTIVATIONS:
            return Status.OK, self.activations[address:address + words].tobytes()
        assert command == Command.INFO
        return Status.OK, info_payload(self.config)


def sample():
    return np.random.default_rng(2).integers(0, 256, (6, 30, 20))


def reversed_pixels(q):
    """What the model's engine makes of ``q``: words reversed, so the two groups change places."""
    placement = program().input
    return placement.unpack(placement.pack(q)[::-1])


def check_inference(board):
    """Load and run once; the memories and the result must be right whatever happened."""
    loaded = program(board.config)
    host = Host(board)
    host.load(loaded)
    result, cycles = host.infer(sample())
    assert cycles == 1337
    assert np.array_equal(result, reversed_pixels(sample()))
    assert np.array_equal(board.tape[:700], loaded.tape)
    assert np.array_equal(board.activations[:1], loaded.pads)


def test_load_and_infer():
    board = BoardModel()
    check_inference(board)
    # INFO, 700 words of tape, 1 of pads, 1200 in, RUN, 1200 out; 256 words a frame
    assert board.requests == 1 + 3 + 1 + 5 + 1 + 5
    assert board.runs == 1


def flipped(frame, bit):
    return bytes(byte ^ (1 << bit % 8 if at == bit // 8 else 0) for at, byte in enumerate(frame))


@pytest.mark.parametrize("direction", ["request", "response"])
@pytest.mark.parametrize("seed", range(6))
def test_damage_is_repaired(direction, seed):
    """One frame in four loses a byte, gains one, is cut, is lost or has a bit flipped."""
    rng = random.Random(seed)
    damaged = 0

    def damage(which, number, frame):
        nonlocal damaged
        if which != direction or number % 4 != seed % 4:
            return frame
        damaged += 1
        at = rng.randrange(len(frame))
        return rng.choice([frame[:at] + frame[at + 1:], frame[:at], b"", flipped(frame, 8 * at + 3),
                           frame[:at] + b"\x53" + frame[at:]])

    board = BoardModel(damage=damage)
    check_inference(board)
    assert damaged >= 4


def test_lost_answer_of_a_run_writes_the_input_again():
    """The engine overwrote its input, so repeating RUN alone would give something else."""
    board = BoardModel(damage=lambda which, number, frame:
                       b"" if which == "response" and number == 10 else frame)
    check_inference(board)
    assert board.runs == 2


def test_late_answer_is_not_taken_for_the_next():
    """An unasked answer waits in the port when the host arrives, and one more comes in between."""
    board = BoardModel(damage=lambda which, number, frame:
                       frame + encode_response(Status.TIMED_OUT)
                       if which == "response" and number == 2 else frame)
    board.pending.extend(encode_response(Status.OUT_OF_RANGE))
    check_inference(board)


def test_info():
    assert Host(BoardModel()).info() == Info(1, 4, 2, 1, CONFIG.digest())


def test_port_timeout_is_restored():
    board = BoardModel(damage=lambda which, number, frame: b"" if number == 0 else frame)
    Host(board).info()
    assert board.timeout == 1.0


@pytest.mark.parametrize("damage, sentence", [
    (lambda which, number, frame: b"",
     "no answer to INFO in 4 attempts; check the cable, which port the board has, and that this "
     "build's bitstream is on it"),
    (lambda which, number, frame: flipped(frame, 9) if which == "response" else frame,
     "a damaged answer to INFO in 4 attempts; check the cable, which port the board has, and that "
     "this build's bitstream is on it"),
    (lambda which, number, frame: flipped(frame, 9) if which == "request" else frame,
     "no undamaged transfer of INFO in 4 attempts; check the cable, which port the board has, and "
     "that this build's bitstream is on it"),
])
def test_gives_up(damage, sentence):
    board = BoardModel(damage=damage)
    with pytest.raises(UserError) as error:
        Host(board).load(program())
    assert str(error.value) == sentence
    assert board.requests == 1 + RETRIES


def test_gives_up_on_run():
    """A run whose answer never arrives is tried as often as any other frame."""
    board = BoardModel(damage=lambda which, number, frame:
                       b"" if which == "response" and len(frame) == 10 else frame)
    host = Host(board)
    host.load(program())
    with pytest.raises(UserError, match="no answer to RUN in 4 attempts"):
        host.infer(sample())
    assert board.runs == 1 + RETRIES


def test_other_bitstream():
    other = replace(CONFIG, activation_depth=1999)
    with pytest.raises(UserError) as error:
        Host(BoardModel(other)).load(program())
    assert str(error.value) == (
        f"the board holds another bitstream (4 channels, 2 pixels, 1 requantizers, fingerprint "
        f"{other.digest():08x}) than this build (4 channels, 2 pixels, 1 requantizers, fingerprint "
        f"{CONFIG.digest():08x}); load this build's bitstream onto the board")


def test_other_version():
    board = BoardModel(damage=lambda which, number, frame: frame if which == "request" else
                       encode_response(Status.OK, b"\x02" + frame[5:12]))
    with pytest.raises(UserError, match="the board speaks version 2 of the host link and this host "
                                        "version 1; build the bitstream again and load it"):
        Host(board).info()


def test_engine_error():
    board = BoardModel()
    board.hang = True
    host = Host(board)
    host.load(program())
    with pytest.raises(UserError, match="the engine hung and was stopped by its watchdog"):
        host.infer(sample())


def test_refused_request():
    large = replace(program(), tape=np.zeros((2001, 4), np.uint8))
    with pytest.raises(UserError, match=r"the board refuses a request \(OUT_OF_RANGE\)"):
        Host(BoardModel()).load(large)


def test_port_that_never_falls_silent():
    class Noise(BoardModel):
        def read(self, size):
            return bytes(size)

    with pytest.raises(UserError, match="the port sends without end"):
        Host(Noise())
