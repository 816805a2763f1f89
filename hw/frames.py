"""The frames of the host link: layout, commands, statuses and their CRC (docs/host-link.md)."""

import struct
from binascii import crc_hqx
from enum import IntEnum

from .config import EngineConfig

#: Increased whenever a host of the old version would misunderstand the board.
VERSION = 1
#: First byte of a request.
REQUEST = 0x53
#: First byte of a response.
RESPONSE = 0x52
#: Bytes of a response before its payload: mark, status, payload length.
RESPONSE_HEAD = 4


class Command(IntEnum):
    """What a request asks for."""

    INFO = 0                             # which engine is this?
    WRITE_ACTIVATIONS = 1
    WRITE_TAPE = 2
    RUN = 3                              # one inference; answered when it ended
    READ_ACTIVATIONS = 4


class Status(IntEnum):
    """How a request ended."""

    OK = 0
    DAMAGED = 1                          # a CRC did not match
    UNKNOWN_COMMAND = 2
    TIMED_OUT = 3                        # the line fell silent inside a frame
    OUT_OF_RANGE = 4                     # words beyond the end of the memory
    ENGINE_ERROR = 5                     # the watchdog ended the inference


def crc16(data: bytes) -> bytes:
    """CRC-16/IBM-3740 of ``data`` as the two bytes that follow it, most significant first."""
    return crc_hqx(data, 0xFFFF).to_bytes(2, "big")


def encode_request(command: int, address: int = 0, words: int = 0,
                   payload: bytes | None = None) -> bytes:
    """A request frame; ``address`` and ``words`` have 16 bits, None is no payload.

    A WRITE without words still has a payload, of no bytes.
    """
    head = struct.pack("<BHH", command, address, words)
    frame = bytes([REQUEST]) + head + crc16(head)
    return frame if payload is None else frame + payload + crc16(payload)


def encode_response(status: int, payload: bytes = b"") -> bytes:
    """A response frame; ``payload`` is at most 65535 bytes."""
    body = struct.pack("<BH", status, len(payload)) + payload
    return bytes([RESPONSE]) + body + crc16(body)


def info_payload(config: EngineConfig) -> bytes:
    """The eight bytes with which an engine of ``config`` answers INFO."""
    return struct.pack("<BBBBI", VERSION, config.channels, config.pixels, config.requantizers,
                       config.digest())
