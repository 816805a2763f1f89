"""The host's end of the link: load a program, run inferences, over any port that moves bytes."""

import struct
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ref.errors import UserError

from .config import EngineConfig
from .frames import RESPONSE, RESPONSE_HEAD, VERSION, Command, Status, crc16, encode_request
from .program import Program

#: Most payload bytes of one frame; a repeated frame costs 5 ms at 2 Mbaud.
FRAME_BYTES = 1024
#: How often a frame is repeated before the line is given up.
RETRIES = 3
#: Seconds without a byte after which nothing of an old frame can still arrive: more than the pause
#: after which the board answers a broken frame (22 ms) and a USB adapter's buffer (16 ms) together.
QUIET = 0.1
#: Most stray bytes read before the port is taken for something else.
STRAY_BYTES = 1 << 18


class Port(Protocol):
    """What of ``serial.Serial`` the host uses."""

    timeout: float | None

    def write(self, data: bytes, /) -> int | None:
        """Send all of ``data``."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; fewer when none came for ``timeout`` seconds."""


@dataclass(frozen=True)
class Info:
    """How a board's engine introduces itself."""

    version: int                         # of the protocol
    channels: int
    pixels: int
    requantizers: int
    digest: int                          # `EngineConfig.digest`

    def __str__(self) -> str:
        """For sentences."""
        return (f"{self.channels} channels, {self.pixels} pixels, {self.requantizers} "
                f"requantizers, fingerprint {self.digest:08x}")


class _LostError(Exception):
    """An exchange that failed on the way and may be tried again; says how."""


class Host:
    """Runs a program on the engine behind ``port``.

    A damaged or unanswered frame is repeated up to `RETRIES` times. The port's ``timeout`` must be
    longer than one inference. Everything raises `UserError` when the board does not answer, answers
    damaged every time, or refuses; errors of the port itself (`OSError`) pass through.
    """

    def __init__(self, port: Port) -> None:
        """Takes over the port, once it is quiet (the board may be answering a former host)."""
        self.port = port
        self._program: Program | None = None
        self._settle()

    def info(self) -> Info:
        """The engine on the board; `UserError` when it speaks another version of the protocol."""
        info = Info(*struct.unpack("<BBBBI", self._request(Command.INFO, 8)))
        if info.version != VERSION:
            raise UserError(f"the board speaks version {info.version} of the host link and this "
                            f"host version {VERSION}; build the bitstream again and load it")
        return info

    def load(self, program: Program) -> None:
        """Write the program's tape and padding words; `UserError` for another engine's bitstream.

        Both stay until the board loses power or another program is loaded.
        """
        info, wanted = self.info(), _introduction(program.config)
        if info != wanted:
            raise UserError(f"the board holds another bitstream ({info}) than this build "
                            f"({wanted}); load this build's bitstream onto the board")
        self._write(Command.WRITE_TAPE, 0, program.tape)
        self._write(Command.WRITE_ACTIVATIONS, 0, program.pads)
        self._program = program

    def infer(self, q: np.ndarray) -> tuple[np.ndarray, int]:
        """One inference: integer input (C, H, W) to integer result (C, H, W), int64, and cycles.

        ``q`` is as `ref.layers.quantize_input` gives it. `load` must have been called.
        """
        if self._program is None:
            raise RuntimeError("Host.load must be called before Host.infer")
        source, target = self._program.input, self._program.output
        words = source.pack(q)
        # A run overwrites its input, so one whose answer was lost is not merely asked again.
        for attempt in range(1 + RETRIES):
            self._write(Command.WRITE_ACTIVATIONS, source.address, words)
            try:
                cycles = int.from_bytes(self._attempt(encode_request(Command.RUN), 4), "little")
                break
            except _LostError as lost:
                self._recover(Command.RUN, attempt, lost)
        return target.unpack(self._read(target.address, target.words)), cycles

    def _write(self, command: Command, address: int, words: np.ndarray) -> None:
        """Write uint8 [n, channels] from word ``address`` on."""
        step = max(FRAME_BYTES // words.shape[1], 1)
        for start in range(0, len(words), step):
            part = words[start:start + step]
            self._request(command, 0, address + start, len(part), part.tobytes())

    def _read(self, address: int, count: int) -> np.ndarray:
        """Activation words, uint8 [count, word bytes]."""
        assert self._program is not None
        word_bytes = self._program.config.word_bytes
        step = max(FRAME_BYTES // word_bytes, 1)
        parts = []
        for start in range(0, count, step):
            part = min(step, count - start)
            parts.append(self._request(Command.READ_ACTIVATIONS, part * word_bytes,
                                       address + start, part))
        return np.frombuffer(b"".join(parts), np.uint8).reshape(count, word_bytes)

    def _request(self, command: Command, answer_bytes: int, address: int = 0, words: int = 0,
                 payload: bytes | None = None) -> bytes:
        """Send a request until its answer, of ``answer_bytes`` of payload, arrives undamaged."""
        frame = encode_request(command, address, words, payload)
        attempt = 0
        while True:
            try:
                return self._attempt(frame, answer_bytes)
            except _LostError as lost:
                self._recover(command, attempt, lost)
            attempt += 1

    def _attempt(self, frame: bytes, answer_bytes: int) -> bytes:
        """Send a frame once; its answer's payload, or `_LostError`."""
        self.port.write(frame)
        head = self.port.read(RESPONSE_HEAD)
        if not head:
            raise _LostError("no answer to")
        if len(head) < RESPONSE_HEAD or head[0] != RESPONSE:
            raise _LostError("a damaged answer to")
        length = int.from_bytes(head[2:4], "little")
        rest = self.port.read(length + 2)
        if len(rest) < length + 2 or crc16(head[1:] + rest[:length]) != rest[length:]:
            raise _LostError("a damaged answer to")
        match head[1]:
            case Status.OK if length == answer_bytes:
                return rest[:length]
            case Status.ENGINE_ERROR:
                raise UserError("the engine hung and was stopped by its watchdog; load the program "
                                "again, and if it hangs again build the bitstream again")
            case Status.UNKNOWN_COMMAND | Status.OUT_OF_RANGE:
                raise UserError(f"the board refuses a request ({Status(head[1]).name}); load the "
                                "bitstream of this build onto the board")
        raise _LostError("no undamaged transfer of")

    def _recover(self, command: Command, attempt: int, lost: _LostError) -> None:
        """Make ready for the next attempt; `UserError` after the last (they count from 0)."""
        if attempt == RETRIES:
            raise UserError(f"{lost} {command.name} in {1 + RETRIES} attempts; check the cable, "
                            "which port the board has, and that this build's bitstream is on it")
        self._settle()

    def _settle(self) -> None:
        """Read and forget until the line is quiet.

        An answer that comes late must not be taken for that to the next request.
        """
        patience, self.port.timeout = self.port.timeout, QUIET
        try:
            for _ in range(STRAY_BYTES // 256):
                if not self.port.read(256):
                    return
        finally:
            self.port.timeout = patience
        raise UserError("the port sends without end and is not this board's; check which port the "
                        "board has")


def _introduction(config: EngineConfig) -> Info:
    """What a board with this engine answers."""
    return Info(VERSION, config.channels, config.pixels, config.requantizers, config.digest())
