# amaranth: UnusedElaboratable=no
"""Boards by name, what they hold, and the clocks their PLLs can make."""

import pytest
from amaranth.vendor import LatticeECP5Platform, LatticeICE40Platform

from boards import BOARDS, board
from boards.pll import Ecp5Pll, Ice40Pll, ecp5_pll, ice40_pll


def test_unknown_board_is_a_sentence_with_the_known_ones():
    with pytest.raises(ValueError, match="unknown board 'arty'; the boards are icebreaker, ulx3s"):
        board("arty")


@pytest.mark.parametrize("name", BOARDS)
def test_board_and_platform_agree(name):
    chosen = board(name)
    platform = chosen.platform()
    assert chosen.name == name
    assert platform.device == chosen.device.name
    assert platform.clock_mhz == chosen.clock_mhz
    assert platform.family == chosen.family == chosen.device.family
    assert platform.lookup(*chosen.uart)
    assert "openFPGALoader" not in platform.required_tools
    kind = {"ice40": LatticeICE40Platform, "ecp5": LatticeECP5Platform}[chosen.family]
    assert isinstance(platform, kind)


def test_platform_takes_another_clock_and_refuses_an_impossible_one():
    assert board("icebreaker").platform(18).clock_mhz == 18
    with pytest.raises(ValueError, match="cannot make 1000 MHz from 12 MHz"):
        board("icebreaker").platform(1000)
    with pytest.raises(ValueError, match="cannot make 7 MHz from 25 MHz"):
        board("ulx3s_85f").platform(7)


@pytest.mark.parametrize(("output", "divf", "divq"), [(24, 63, 5), (48, 63, 4), (16.5, 87, 6),
                                                      (20.25, 53, 5)])
def test_ice40_settings_are_those_of_icepll(output, divf, divq):
    assert ice40_pll(12, output) == Ice40Pll(0, divf, divq, 1, output)


def test_ecp5_settings():
    assert ecp5_pll(25, 50) == Ecp5Pll(1, 2, 12, 50)
    assert ecp5_pll(25, 62.5) == Ecp5Pll(2, 5, 10, 62.5)


def attained(find, wanted):
    """What a settings function reaches, or None when it refuses."""
    try:
        return find(wanted).output_mhz
    except ValueError:
        return None


@pytest.mark.parametrize("wanted", [16, 17.3, 24, 30, 33.3, 50, 57.1, 75, 83, 100, 151.8, 199.4])
def test_settings_are_the_best_of_all_within_the_data_sheets(wanted):
    ice40 = [12 / (r + 1) * (f + 1) / 2 ** q
             for r in range(16) for f in range(128) for q in range(1, 7)
             if 10 <= 12 / (r + 1) <= 133 and 533 <= 12 / (r + 1) * (f + 1) <= 1066
             and 16 <= 12 / (r + 1) * (f + 1) / 2 ** q <= 275]
    ecp5 = [25 / i * f for i in range(1, 129) for f in range(1, 81) for o in range(1, 129)
            if 10 <= 25 / i <= 400 and 400 <= 25 / i * f * o <= 800
            and 10 <= 25 / i * f <= 400]
    for outputs, find in ((ice40, lambda mhz: ice40_pll(12, mhz)),
                          (ecp5, lambda mhz: ecp5_pll(25, mhz))):
        best = min(outputs, key=lambda output: abs(output - wanted))
        if abs(best - wanted) > 0.005 * wanted:
            assert attained(find, wanted) is None
        else:
            assert abs(attained(find, wanted) - wanted) == pytest.approx(abs(best - wanted))


def test_ecp5_settings_reach_what_they_say():
    pll = ecp5_pll(25, 62.5)
    assert 25 / pll.clki_div * pll.clkfb_div == pll.output_mhz
    assert 400 <= pll.output_mhz * pll.clkop_div <= 800
