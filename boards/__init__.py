"""Boards by name: platform, clock and budget of each."""

from .board import Board
from .device import ECP5_25F, ECP5_45F, ECP5_85F, ICE40UP5K, Budget, Device
from .icebreaker import Icebreaker
from .ulx3s import Ulx3s25F, Ulx3s45F, Ulx3s85F

BOARDS = {board.name: board for board in (
    Board("icebreaker", "iCEBreaker (iCE40UP5K)", ICE40UP5K, 24.0, Icebreaker),
    Board("ulx3s_25f", "ULX3S (ECP5-25F)", ECP5_25F, 50.0, Ulx3s25F, bitstream_suffix=".bit"),
    Board("ulx3s_45f", "ULX3S (ECP5-45F)", ECP5_45F, 50.0, Ulx3s45F, bitstream_suffix=".bit"),
    Board("ulx3s_85f", "ULX3S (ECP5-85F)", ECP5_85F, 50.0, Ulx3s85F, bitstream_suffix=".bit"),
)}

__all__ = ["BOARDS", "Board", "Budget", "Device", "board"]


def board(name: str) -> Board:
    """The board called ``name``; `ValueError` with the known names when there is none."""
    if name not in BOARDS:
        raise ValueError(f"unknown board '{name}'; the boards are {', '.join(sorted(BOARDS))}")
    return BOARDS[name]
