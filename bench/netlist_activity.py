"""How often each net of a mapped netlist toggles, glitches included, many input streams at a time.

A netlist is a module of Yosys' ``write_json`` after `synth_ice40` or `synth_ecp5`, of cells of the
tables below, with one clock. A net's values in all streams are the bits of one integer, so that an
operation on integers serves them all.

Time passes within a cycle. A cell answers after its delay and swallows what is shorter (inertial
delay); wires delay as well, but for those that join neighbouring cells. Delays are about those in
nextpnr's reports, of wires a typical one: no two differ, so what is counted is the glitching of the
logic's own depth, none of placement's.
"""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

#: Outputs of combinational cells and what they depend on, in this order.
PORTS = {
    "SB_LUT4": {"O": ("I0", "I1", "I2", "I3")},
    "SB_CARRY": {"CO": ("I0", "I1", "CI")},
    "LUT4": {"Z": ("A", "B", "C", "D")},
    "PFUMX": {"Z": ("BLUT", "ALUT", "C0")},
    "L6MUX21": {"Z": ("D0", "D1", "SD")},
    "CCU2C": {"S0": ("A0", "B0", "C0", "D0", "CIN"),
              "S1": ("A0", "B0", "C0", "D0", "CIN", "A1", "B1", "C1", "D1"),
              "COUT": ("A0", "B0", "C0", "D0", "CIN", "A1", "B1", "C1", "D1")},
}
#: Picoseconds from a cell's inputs to its output, and along a wire of each family's.
DELAYS = {("SB_LUT4", "O"): 1200, ("SB_CARRY", "CO"): 280, ("LUT4", "Z"): 240, ("PFUMX", "Z"): 150,
          ("L6MUX21", "Z"): 150, ("CCU2C", "S0"): 440, ("CCU2C", "S1"): 440, ("CCU2C", "COUT"): 70}
WIRES = {"ice40": 1800, "ecp5": 800}
#: Outputs and inputs of wires that join neighbouring cells, and what a toggle costs there.
CARRIES = {("SB_CARRY", "CO"), ("CCU2C", "COUT")}
NEAR_INPUTS = {("SB_CARRY", "CI"), ("SB_CARRY", "I0"), ("SB_CARRY", "I1"), ("CCU2C", "CIN"),
               ("PFUMX", "BLUT"), ("PFUMX", "ALUT"), ("L6MUX21", "D0"), ("L6MUX21", "D1")}
NEAR = 0.25
#: Register inputs of data, and of the clock, whose two edges a cycle cost as much.
DATA, CLOCKS = ("D", "DI"), ("C", "CLK")
#: Register inputs to which one wire leads for all eight of a tile, and what a toggle costs at each.
CONTROLS, SHARED = ("E", "R", "S", "CE", "LSR"), 0.125


def is_register(cell: dict[str, Any]) -> bool:
    """Whether the cell is a flip-flop of either family."""
    return cell["type"].startswith(("SB_DFF", "TRELLIS_FF"))


def lookup(table: int, inputs: list[int], ones: int) -> int:
    """The entry of ``table`` that the inputs, lowest first, number in each stream."""
    if not inputs:
        return ones if table & 1 else 0
    half = 1 << len(inputs) - 1
    low, high = table & (1 << half) - 1, table >> half
    select = inputs[-1]
    if low == high or not select:
        return lookup(low, inputs[:-1], ones)
    if select == ones:
        return lookup(high, inputs[:-1], ones)
    zero = lookup(low, inputs[:-1], ones)
    return zero ^ (select & (zero ^ lookup(high, inputs[:-1], ones)))


@dataclass
class Output:
    """One output of a combinational cell: its net, the nets it depends on, and its delay."""

    kind: str
    port: str
    tables: tuple[int, ...]
    inputs: list[int | str]
    net: int
    delay: int
    #: When streams toggle that have not yet: time to their mask.
    pending: dict[int, int] = field(default_factory=dict)

    def value(self, inputs: list[int], ones: int) -> int:
        """The output for these inputs."""
        if self.kind in ("SB_LUT4", "LUT4"):
            return lookup(self.tables[0], inputs, ones)
        if self.kind == "SB_CARRY":
            a, b, carry = inputs
            return (a & b) | (a | b) & carry
        if self.kind in ("PFUMX", "L6MUX21"):
            return inputs[0] ^ (inputs[2] & (inputs[0] ^ inputs[1]))
        carry = inputs[4]
        for half, own in enumerate((inputs[:4], inputs[5:])):
            passes = lookup(self.tables[half], own, ones)
            if self.port == f"S{half}":
                return passes ^ carry
            carry = (passes & carry) | (~passes & lookup(self.tables[half] & 15, own[:2], ones))
        return carry


class Netlist:
    """A module in simulation: set inputs, let a clock edge pass, count."""

    def __init__(self, top: dict[str, Any], family: str, streams: int) -> None:
        self.top = top
        self.ones = (1 << streams) - 1
        self.wire = WIRES[family]
        self.registers = [cell for cell in top["cells"].values() if is_register(cell)]
        #: What drivers make of each net, and what has arrived at its readers.
        self.values: dict[int | str, int] = defaultdict(int, {"1": self.ones})
        self.arrived: dict[int | str, int] = defaultdict(int, {"1": self.ones})
        #: How often each net has toggled in all streams, and how often if cells had no delay.
        self.toggles: dict[int, int] = defaultdict(int)
        self.settled: dict[int, int] = defaultdict(int)
        self.outputs = [self._output(cell, port, needs) for cell in top["cells"].values()
                        if not is_register(cell) for port, needs in PORTS[cell["type"]].items()
                        if cell["connections"].get(port)]
        self.readers: dict[int | str, list[Output]] = defaultdict(list)
        for output in self.outputs:
            for net in set(output.inputs):
                self.readers[net].append(output)
        self.near = {output.net for output in self.outputs
                     if (output.kind, output.port) in CARRIES}
        self._settle({}, self.outputs)
        self.clear()

    @staticmethod
    def _output(cell: dict[str, Any], port: str, needs: tuple[str, ...]) -> Output:
        names = {"SB_LUT4": ("LUT_INIT",), "LUT4": ("INIT",), "CCU2C": ("INIT0", "INIT1")}
        tables = tuple(int(cell["parameters"][name].replace("x", "0"), 2)
                       for name in names.get(cell["type"], ()))
        pins = cell["connections"]
        return Output(cell["type"], port, tables, [(pins.get(name) or ["0"])[0] for name in needs],
                      pins[port][0], DELAYS[cell["type"], port])

    def clear(self) -> None:
        """Forget what has been counted."""
        self.toggles.clear()
        self.settled.clear()

    def get(self, name: str) -> list[int]:
        """A port's bits, lowest first, all streams' each."""
        return [self.values[net] for net in self.top["ports"][name]["bits"]]

    def tick(self, inputs: dict[str, list[int]]) -> None:
        """One clock edge, with which the input ports change to these bits, and what follows."""
        before = dict(self.values)
        changed = {cell["connections"]["Q"][0]: self._after(cell) for cell in self.registers}
        for name, bits in inputs.items():
            changed |= dict(zip(self.top["ports"][name]["bits"], bits, strict=True))
        self._settle({net: self.values[net] ^ value for net, value in changed.items()}, [])
        for net, value in self.values.items():
            if isinstance(net, int):
                self.settled[net] += (before.get(net, 0) ^ value).bit_count()

    def _settle(self, flips: dict[int, int], waiting: list[Output]) -> None:
        """Let ``flips`` (net to streams) happen and all that follows, ``waiting`` cells first."""
        times: list[int] = [0]
        departures: dict[int, dict[int, int]] = defaultdict(dict, {0: flips})
        arrivals: dict[int, dict[int, int]] = defaultdict(dict)
        answers: dict[int, list[Output]] = defaultdict(list)
        while times:
            now = heapq.heappop(times)
            while times and times[0] == now:
                heapq.heappop(times)
            leaving = departures.pop(now, {})
            for output in answers.pop(now, []):
                leaving[output.net] = output.pending.pop(now, 0)
            for net, mask in leaving.items():
                if mask:
                    self.values[net] ^= mask
                    self.toggles[net] += mask.bit_count()
                    there = now + (0 if net in self.near else self.wire)
                    arrivals[there][net] = mask
                    heapq.heappush(times, there)
            reached: dict[int, Output] = {id(output): output for output in waiting}
            for net, mask in arrivals.pop(now, {}).items():
                self.arrived[net] ^= mask
                reached |= {id(output): output for output in self.readers[net]}
            waiting = []
            for output in reached.values():
                value = output.value([self.arrived[net] for net in output.inputs], self.ones)
                wanted = value ^ self.values[output.net]
                known = 0
                for time, mask in output.pending.items():
                    output.pending[time] = mask & wanted
                    known |= mask
                if fresh := wanted & ~known:
                    then = now + output.delay
                    output.pending[then] = output.pending.get(then, 0) | fresh
                    answers[then].append(output)
                    heapq.heappush(times, then)

    def _after(self, cell: dict[str, Any]) -> int:
        """What a register holds after the edge: reset first, then enable, where it has them."""
        def pin(name: str, default: str) -> int:
            return self.values[cell["connections"].get(name, [default])[0]]
        kind, held = cell["type"], pin("Q", "0")
        if kind == "TRELLIS_FF":
            options = cell["parameters"]
            enable = {"1": self.ones, "CE": pin("CE", "1"),
                      "INV": self.ones & ~pin("CE", "0")}[options["CEMUX"].strip()]
            reset = pin("LSR", "0")
            if options.get("LSRMUX") == "INV":
                reset = self.ones & ~pin("LSR", "1")
            loaded, sets = pin("DI", "0"), options["REGSET"].strip() == "SET"
        else:
            enable = pin("E", "1")
            reset = pin("S" if "SS" in kind else "R", "0") & enable
            loaded, sets = pin("D", "0"), "SS" in kind
        value = held ^ (enable & (held ^ loaded))
        return value | reset if sets else value & ~reset


def weights(top: dict[str, Any]) -> dict[int, float]:
    """What a toggle costs of each net: 1 for the cell that drives it, 1 for each input.

    What drives the module's own inputs is not in it, and costs nothing; each of its outputs leads
    to one more input.

    Wires between neighbours cost `NEAR` at either end: the carry's own, those into multiplexers
    behind tables, and from a table to the register in its own logic cell, which reads it alone.
    Enables and resets of registers cost `SHARED`: a tile's eight registers have them in common.
    Operands of an iCE40 carry come by the wires of the table in the same logic cell.
    """
    drivers: dict[int, tuple[str, str]] = {
        bit: ("", name) for name, port in top["ports"].items() if port["direction"] == "input"
        for bit in port["bits"]}
    outputs = Counter(bit for port in top["ports"].values() if port["direction"] == "output"
                      for bit in port["bits"])
    readers: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for cell in top["cells"].values():
        for port, bits in cell["connections"].items():
            for bit in bits:
                if not isinstance(bit, int) or port in CLOCKS:
                    continue
                if cell["port_directions"][port] == "output":
                    drivers[bit] = (cell["type"], port)
                else:
                    readers[bit].append((cell["type"], port))

    def cost(driver: tuple[str, str], reader: tuple[str, str], alone: bool) -> float:
        kind, port = reader
        if port in CONTROLS and kind.startswith(("SB_DFF", "TRELLIS_FF")):
            return SHARED
        if driver in CARRIES:
            near = reader in NEAR_INPUTS or reader == ("SB_LUT4", "I3")
        else:
            near = kind == "SB_CARRY" or (driver[0] in PORTS and (
                reader in NEAR_INPUTS or (alone and port in DATA)))
        return NEAR if near else 1.0

    return {net: (NEAR if driver in CARRIES else 1.0 if driver[0] else 0.0) + outputs[net]
            + sum(cost(driver, reader, len(readers[net]) == 1) for reader in readers[net])
            for net, driver in drivers.items()}
