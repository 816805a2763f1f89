# amaranth: UnusedElaboratable=no
"""The measure of switching activity: what it counts on small netlists, and lanes that stand still.
"""

import json

import numpy as np
import pytest

from bench.ausn_area import synthesize
from bench.netlist_activity import NEAR, SHARED, Netlist, is_register, weights
from hw.ausn.held import HeldTile
from hw.ausn.plan import ausn_plan
from hw.ausn.still import StillTile
from ref.ausn import AusnCode

AUSN5 = (AusnCode(2, 2),)


def cell(kind, parameters=None, **pins):
    """A cell of `write_json`; capital letters that drive are O and Q."""
    return {"type": kind, "parameters": parameters or {},
            "connections": {name: [net] for name, net in pins.items()},
            "port_directions": {name: "output" if name in "OQ" else "input" for name in pins}}


#: An exclusive or of an input and of itself through a table, which is 0 but for a glitch, into an
#: output and a register.
A, COPY, GLITCH, HELD, ENABLE = 2, 3, 4, 5, 6
TOP = {
    "ports": {"a": {"direction": "input", "bits": [A]}, "e": {"direction": "input",
                                                               "bits": [ENABLE]},
              "glitch": {"direction": "output", "bits": [GLITCH]}},
    "cells": {
        "copy": cell("SB_LUT4", {"LUT_INIT": "10"}, I0=A, O=COPY),
        "xor": cell("SB_LUT4", {"LUT_INIT": "0110"}, I0=A, I1=COPY, O=GLITCH),
        "held": cell("SB_DFFE", D=COPY, E=ENABLE, C=7, Q=HELD)}}


def test_glitches_toggle_and_settle():
    circuit = Netlist(TOP, "ice40", streams=2)
    for value in (0b01, 0b11, 0b10):             # one bit of each stream
        circuit.tick({"a": [value], "e": [0b11]})
    assert (circuit.toggles[A], circuit.toggles[COPY]) == (3, 3)
    assert (circuit.toggles[GLITCH], circuit.settled[GLITCH]) == (6, 0)
    assert circuit.toggles[HELD] == 2            # 00, 01, 11


def test_weights_count_drivers_and_readers():
    assert weights(TOP) == {A: 2, COPY: 1 + 1 + 1, GLITCH: 1 + 1, HELD: 1, ENABLE: SHARED}
    alone = {**TOP, "cells": {name: TOP["cells"][name] for name in ("copy", "held")}}
    assert weights(alone)[COPY] == 1 + NEAR      # the register behind the table, in its cell


@pytest.mark.parametrize(("tile", "family", "method"), [
    (StillTile, None, "plain"), (HeldTile, "ecp5", "narrow")])
def test_lanes_stand_still_for_zeros(tile, family, method):
    """Weights go on changing: no register does, nor any table behind one."""
    random = np.random.default_rng(0)
    dut = tile(ausn_plan(AUSN5, family), 1, 1)
    circuit = Netlist(json.loads(synthesize(dut, family or "ice40", method))["modules"]["top"],
                      family or "ice40", streams=1)

    def step(x):
        code = int(random.integers(32))
        circuit.tick({"x": [x >> k & 1 for k in range(8)],
                      "code": [code >> k & 1 for k in range(5)], "valid": [1],
                      "first": [0], "last": [0], "rst": [0]})

    for _ in range(20):
        step(int(random.integers(1, 256)))
    for _ in range(8):
        step(0)
    circuit.clear()
    for _ in range(20):
        step(0)
    registers = {one["connections"]["Q"][0] for one in circuit.registers}
    assert not [net for net in registers if circuit.toggles[net]]
    # What decodes the weight still moves, in front of all registers.
    moving = [output for output in circuit.outputs if circuit.toggles[output.net]]
    assert moving and not [one for one in moving if registers & set(one.inputs)]


def test_registers_are_known():
    assert is_register(TOP["cells"]["held"])
    assert not is_register(TOP["cells"]["copy"])
