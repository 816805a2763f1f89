"""Sites of multiplier blocks: each used once, a channel's side by side, only where they help."""

from dataclasses import replace

import pytest
from amaranth.back import rtlil

from boards import board
from hw.config import EngineConfig
from hw.floorplan import GROUP, site
from hw.mac_array import MacArray

WIDE = EngineConfig(channels=32, pixels=6, requantizers=32, tape_depth=512, activation_depth=512,
                    single_port=False, strips=4, accumulator_bits=18, weight_bits=4, maximum=False,
                    leaky=False, clips=False, pipelined=True)


def test_every_site_once():
    sites = [site(WIDE, channel, number) for channel in range(32) for number in range(GROUP)]
    names = [board("ulx3s_85f").platform().multiplier_site(*place) for place in sites]
    assert len(set(names)) == 128
    assert names[:4] == ["X13/Y10/MULT18_0", "X14/Y10/MULT18_1", "X17/Y10/MULT18_4",
                         "X18/Y10/MULT18_5"]


@pytest.mark.parametrize("changes", [
    {"pixels": 4}, {"channels": 16, "requantizers": 16}, {"requantizers": 16}, {"weight_bits": 8},
    {"bias_bits": 2}])
def test_elsewhere_they_are_free(changes):
    assert site(replace(WIDE, **changes), 0, 0) is None


def test_a_device_of_fewer_groups():
    assert board("ulx3s_45f").platform().multiplier_site(0, 0, 32) is None


def test_blocks_carry_them():
    text = rtlil.convert(MacArray(WIDE), platform=board("ulx3s_85f").platform(), emit_src=False)
    assert text.count("attribute \\BEL") == 96
    assert text.count('"X17/Y10/MULT18_4"') == 1
