# amaranth: UnusedElaboratable=no
"""The pins: both boards have what the top level asks for, and a clock that fits the line."""

import pytest

from boards import BOARDS
from hw.config import EngineConfig
from hw.top import Top, uart_divisor
from ref.errors import UserError


@pytest.mark.parametrize("name", sorted(BOARDS))
def test_board_has_the_pins(name):
    board = BOARDS[name]
    config = EngineConfig(channels=2, pixels=1, requantizers=1, tape_depth=256,
                          activation_depth=256, single_port=board.family == "ice40")
    platform = board.platform()
    plan = platform.prepare(Top(board, config))
    design = plan.files["top.il"]
    for pin in ("uart_0__rx__io", "uart_0__tx__io", "led_0__io", "led_1__io"):
        assert pin in (design if isinstance(design, str) else design.decode())


@pytest.mark.parametrize("clock_mhz, divisor", [(24.0, 12), (50.0, 25), (8.0, 4), (23.9, 12)])
def test_divisor(clock_mhz, divisor):
    assert uart_divisor(clock_mhz) == divisor


@pytest.mark.parametrize("clock_mhz", [6.0, 25.0, 23.5])
def test_clock_that_does_not_divide(clock_mhz):
    with pytest.raises(UserError) as error:
        uart_divisor(clock_mhz)
    assert str(error.value) == (
        f"a clock of {clock_mhz:g} MHz does not divide to the host link's 2 Mbaud within 1%; "
        "choose a multiple of 2 MHz, 8 MHz or more")
