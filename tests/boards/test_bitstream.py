"""A small design with all that a platform adds becomes a bitstream on each board."""

import json

import pytest
from amaranth.hdl import Assert, Module, Print, Signal
from amaranth.lib import io, memory, wiring

from boards import BOARDS, board
from hw.tools import find_tools, run_tool


class Echo(wiring.Component):
    """UART pins around a block RAM and, on iCE40, an SPRAM; with a check and a print."""

    def __init__(self, uart, large):
        self.uart, self.large = uart, large
        super().__init__({})

    def elaborate(self, platform):
        m = Module()
        pins = platform.request(*self.uart, dir="-")
        m.submodules.rx = rx = io.Buffer("i", pins.rx)
        m.submodules.tx = tx = io.Buffer("o", pins.tx)
        count = Signal(24)
        m.d.sync += count.eq(count + 1)
        parity = rx.i
        styles = {"ram": {"ram_style": "block", "collision": "undefined"}}
        if self.large:
            styles["large"] = {"ram_style": "huge"}
        for name, attrs in styles.items():
            m.submodules[name] = ram = memory.Memory(shape=16, depth=256, init=[], attrs=attrs)
            read, write = ram.read_port(), ram.write_port()
            m.d.comb += [read.addr.eq(count), write.addr.eq(count[8:]), read.en.eq(~rx.i),
                         write.en.eq(rx.i), write.data.eq(count)]
            parity = parity ^ read.data.xor()
        m.d.sync += [tx.o.eq(parity), Print(count), Assert(count != 5)]
        return m


def prepare(chosen):
    """Build plan of the design for a board."""
    return chosen.platform().prepare(Echo(chosen.uart, chosen.budget.sprams > 0))


@pytest.mark.parametrize("name", BOARDS)
def test_plan_has_our_defaults(name):
    files = prepare(board(name)).files
    assert "COLLISION_X_MASK" in files["top.ys"] and "chformal -remove" in files["top.ys"]
    assert "--report top.report.json --seed 1" in files["build_top.sh"]
    constraints = files.get("top.pcf") or files["top.lpf"]
    family = board(name).family
    assert {"ice40": "set_frequency cd_sync.clock 24.0",
            "ecp5": 'FREQUENCY NET "cd_sync.clock" 50000000.0 HZ;'}[family] in constraints


@pytest.mark.long
@pytest.mark.parametrize("name", BOARDS)
def test_bitstream(name, tmp_path):
    chosen = board(name)
    tools = find_tools(chosen.family)
    with tools.active():
        prepare(chosen).extract(tmp_path)
    run_tool(["sh", "build_top.sh"], tmp_path, tmp_path / "log", 500, tools.environment())
    assert (tmp_path / f"top{chosen.bitstream_suffix}").stat().st_size > 10_000
    report = json.loads((tmp_path / "top.report.json").read_text())
    [clock] = [fmax for net, fmax in report["fmax"].items() if "clk" in net or "clock" in net]
    assert clock["constraint"] == pytest.approx(chosen.clock_mhz, rel=1e-3)
    assert clock["achieved"] > chosen.clock_mhz
    used = {kind: report["utilization"][cell] for kind, cell in chosen.device.cells}
    capacity = chosen.budget
    assert used["LUT4"]["available"] == capacity.lut4
    if chosen.family == "ice40":
        assert [used[kind]["used"] for kind in ("BRAM", "SPRAM", "SB_MAC16")] == [1, 1, 0]
        assert [used[kind]["available"] for kind in ("BRAM", "SPRAM", "SB_MAC16")] == [
            capacity.block_rams, capacity.sprams, capacity.multipliers]
    else:
        assert [used[kind]["used"] for kind in ("DP16KD", "MULT18X18D")] == [1, 0]
        assert [used[kind]["available"] for kind in ("DP16KD", "MULT18X18D")] == [
            capacity.block_rams, capacity.multipliers]
    # Checks and prints are gone, and a read that meets a write needs no extra logic (it took 40).
    assert used["LUT4"]["used"] < 90
    netlist = (tmp_path / "top.json").read_text()
    assert "$check" not in netlist and "$print" not in netlist
