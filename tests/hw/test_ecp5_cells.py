# amaranth: UnusedElaboratable=no
"""What is made of ECP5's cells by hand is proved equal to the same component as it is written."""

import pytest
from amaranth.back import rtlil
from amaranth.hdl import Cat, Elaboratable, Module, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from boards import board
from hw.adder import ChoosingAdder
from hw.copies import copied
from hw.cxxrtl import run_yosys, yosys_share
from hw.multiplier import Multiplier
from hw.netlist import FAMILIES, cell_models
from hw.selector import Selector
from hw.tools import find_tool
from ref.errors import UserError


class AsWritten(Elaboratable):
    """A component without a platform, whatever it is built for."""

    def __init__(self, component):
        self.component = component

    def elaborate(self, platform):
        return self.component.elaborate(None)


class Comparison(wiring.Component):
    """``wrong`` while two components give different outputs for the same, allowed, inputs."""

    def __init__(self, gold, gate, allowed):
        self.gold, self.gate, self.allowed = gold, gate, allowed
        self.inputs = {name: member for name, member in gate.signature.members.items()
                       if member.flow is In}
        super().__init__(self.inputs | {"wrong": Out(1)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.gold = AsWritten(self.gold)
        m.submodules.gate = self.gate
        for name in self.inputs:
            for component in (self.gold, self.gate):
                m.d.comb += getattr(component, name).eq(getattr(self, name))
        m.d.comb += self.wrong.eq((self.gold.o != self.gate.o) & self.allowed(self))
        return m


def prove(gold, gate, allowed=lambda inputs: 1, latency=0):
    """Prove by SAT that outputs are equal wherever inputs are allowed; `UserError` if not.

    Whatever the state is at first: ``latency`` cycles later it follows from the inputs.
    """
    yosys = find_tool("yosys")
    text = rtlil.convert(Comparison(gold, gate, allowed), emit_src=False,
                         platform=board("ulx3s_85f").platform())
    library = "".join((yosys_share(yosys) / name).read_text() for name in FAMILIES["ecp5"][1])
    script = "\n".join(["read_rtlil top.il", "read_verilog -sv cells.v", "hierarchy -top top",
                        "proc", "flatten", "opt_clean",
                        f"sat -verify -seq {latency + 1} -prove-skip {latency} -prove wrong 0 top",
                        "write_rtlil out.il"])
    run_yosys(yosys, script, {"top.il": text, "cells.v": cell_models(text, library)}, "out.il")


@pytest.mark.parametrize("alternative", [False, True])
@pytest.mark.parametrize("width", [1, 5, 18])
def test_choosing_adder(width, alternative):
    prove(ChoosingAdder(width, alternative=alternative),
          ChoosingAdder(width, alternative=alternative))


@pytest.mark.parametrize("count", range(1, 17))
def test_selector(count):
    prove(Selector(2, count), Selector(2, count), lambda inputs: inputs.index < count)


@pytest.mark.parametrize("a, b", [
    (unsigned(5), signed(4)), (signed(4), unsigned(5)), (signed(3), signed(3))])
def test_multiplier(a, b):
    prove(Multiplier(a, b), Multiplier(a, b), latency=Multiplier.latency)


def test_multiplier_of_other_signs_is_refuted():
    with pytest.raises(UserError):
        prove(Multiplier(unsigned(4), signed(4)), Multiplier(signed(4), signed(4)),
              latency=Multiplier.latency)


class Copies(wiring.Component):
    """Copies of a register, side by side."""

    def __init__(self):
        super().__init__({"i": In(3), "o": Out(6)})

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.o.eq(Cat(copied(m, platform, self.i, 2)))
        return m


def test_copies():
    prove(Copies(), Copies(), latency=1)


def test_selector_beyond_its_inputs_is_refuted():
    with pytest.raises(UserError):
        prove(Selector(2, 4), Selector(2, 3))
