"""Proofs for every input at every time: a circuit, what may be assumed of its inputs, what holds.

A `Bench` is an Amaranth module around a component. Its free inputs may take any value in any cycle,
the reset included. Amaranth writes it as RTLIL, and Yosys tries induction: whether the checks hold
at first, and in each cycle that follows one in which they do. Where they do not say enough for that
the model checker in Yosys' own copy of ABC decides: it looks for a failure in the first cycles, and
then goes on by property directed reachability, which finds the inductive invariant by itself (A. R.
Bradley, "SAT-based model checking without unrolling", VMCAI 2011; N. Een, A. Mishchenko, R.
Brayton, "Efficient implementation of property directed reachability", FMCAD 2011). A pipeline is
unrolled.
"""

import inspect
import re
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from amaranth.back import rtlil
from amaranth.hdl import (
    Array,
    Assert,
    Assume,
    Cat,
    ClockDomain,
    Const,
    Elaboratable,
    Fragment,
    Module,
    Mux,
    ShapeLike,
    Signal,
    Value,
    ValueLike,
)
from amaranth.lib import memory

from hw.tools import find_tool
from ref.compiler import run_step

#: From Amaranth's RTLIL to a flat module of plain registers.
PREPARE = """
read_rtlil top.il
read_verilog -sv cells.v
prep -top top -flatten
{forget}
chformal -lower
async2sync
dffunmap
memory_map
opt -full
"""
INDUCTION = """
tee -q -a induction.txt sat -tempinduct -prove-asserts -set-assumes -maxsteps 1 {part} top
"""
#: On to an and-inverter graph and to ABC. ABC leaves a network behind for Yosys to read back; it
#: gets that of a module of one gate, since only the verdict matters.
MODEL_CHECKING = """
formalff -clk2ff
opt -full
techmap
opt -full
aigmap
opt_clean
write_aiger -zinit -symbols top.aig
design -reset
read_verilog gate.v
prep
simplemap
abc -script abc.txt -g AND
"""
ABC_SCRIPT = """
write_blif gate.blif
read_aiger top.aig
fold
strash
{tactic}
write_status status.txt
write_cex -n -f trace.txt
read_blif gate.blif
strash
map
"""
#: Cycles in which failures are looked for first; most show soon, and then that is quickest.
SHALLOW = 12
NOTHING_LEFT = "nothing was left to prove: is the clock connected?"
GATE = "module gate(input a, b, output y); assign y = a & b; endmodule"


class Refuted(AssertionError):
    """A check fails; the message is the trace that leads there."""


@dataclass
class Ram:
    """A memory inside the component: for lemmas about what it holds."""

    rows: Array
    write: memory.WritePort
    read: memory.ReadPort


class FormalPlatform:
    """Makes memories whose collision is undefined return anything at all after one.

    Where the bench `watches` an address, memories keep the word there, and reading any other one
    returns anything. ``family`` selects a device's primitives where a component asks for them.
    """

    def __init__(self, bench: "Bench", family: str | None = None) -> None:
        self.bench = bench
        self.family = family

    def get_memory(self, ram: memory.Memory) -> Elaboratable:
        """Amaranth's hook: how ``ram`` is built."""
        if ram.attrs.get("collision") != "undefined":
            return ram.elaborate(None)
        if self.bench.watched is not None:
            return self.watched_memory(ram)
        m = Module()
        (write,), (read,) = ram.write_ports, ram.read_ports
        data = Value.cast(read.data)
        rows = Array(Signal(ram.shape, name=f"row{k}", reset_less=True) for k in range(ram.depth))
        anything = self.bench.free(len(data), "after_collision")
        self.bench.memories.append(Ram(rows, write, read))
        with m.If(write.en):
            m.d.sync += rows[write.addr].eq(write.data)
        with m.If(read.en):
            collision = write.en & (write.addr == read.addr)
            m.d.sync += data.eq(Mux(collision, anything, Value.cast(rows[read.addr])))
        return m

    def watched_memory(self, ram: memory.Memory) -> Elaboratable:
        """Only the word at the watched address."""
        m = Module()
        (write,), (read,) = ram.write_ports, ram.read_ports
        row = Signal(ram.shape, name="row", reset_less=True)
        data = Value.cast(read.data)
        anything = self.bench.free(len(data), "elsewhere")
        self.bench.memories.append(Ram(Array([row]), write, read))
        written, wanted = (port.en & (port.addr == self.bench.watched) for port in (write, read))
        with m.If(written):
            m.d.sync += row.eq(write.data)
        with m.If(read.en):
            m.d.sync += data.eq(Mux(wanted & ~written, Value.cast(row), anything))
        return m


class Bench:
    """A module to put a component into, with free inputs, assumptions and checks.

    ``family`` selects primitives, whose models in Verilog are ``cells``.
    """

    def __init__(self, family: str | None = None, cells: str = "") -> None:
        self.m = Module()
        self.cells = cells
        self.ports: list[Signal] = []
        self.checks: list[ValueLike] = []
        self.lemmas: list[ValueLike] = []
        self.memories: list[Ram] = []
        self.watched: Signal | None = None
        self.started = Signal()     # whether constants have their values: not in the first cycle
        self.platform = FormalPlatform(self, family)

    def add(self, dut: Elaboratable) -> dict[str, Signal]:
        """Put in the component to be proved. Its registers by name, for lemmas about them.

        Those of components inside it come after these' names and a dot. `memories` are then those
        inside it.
        """
        self.m.submodules.dut = fragment = Fragment.get(dut, self.platform)
        return registers(fragment)

    def free(self, shape: ShapeLike, name: str) -> Signal:
        """An input: any value in any cycle."""
        value = Signal(shape, name=f"{name}{len(self.ports)}")
        self.ports.append(Value.cast(value))
        return value

    def constant(self, shape: ShapeLike, name: str) -> Signal:
        """Any value, the same in all cycles between two resets."""
        held, value = Signal(shape, name=f"{name}_held"), Signal(shape, name=name)
        self.m.d.comb += value.eq(Mux(self.started, held, self.free(shape, name)))
        self.m.d.sync += [self.started.eq(1), held.eq(value)]
        return value

    def watch(self, bits: int) -> Signal:
        """An address, any one and always the same: of memories put in from now on it is all kept.

        What is proved of words read from there is then proved of all words, whatever the depth.
        """
        self.watched = self.constant(bits, "watched")
        return self.watched

    def assume(self, condition: ValueLike) -> None:
        """Only runs on which ``condition`` holds in every cycle are looked at."""
        self.m.d.comb += Assume(condition)

    def check(self, condition: ValueLike) -> None:
        """``condition`` has to hold in every cycle."""
        self.checks.append(condition)

    def lemma(self, condition: ValueLike) -> None:
        """``condition`` has to hold too: it says of registers inside what makes checks inductive.
        """
        self.lemmas.append(condition)

    def before(self, value: ValueLike, cycles: int = 1) -> Signal:
        """``value`` as it was ``cycles`` cycles ago; 0 before that, and since a reset."""
        for _ in range(cycles):
            later = Signal.like(value, name="before")
            self.m.d.sync += later.eq(value)
            value = later
        return value

    def prove(self, *, lemmas: bool = True, parts: int = 1) -> None:
        """Every check holds in every cycle from reset on; else raise `Refuted` with a trace.

        Without ``lemmas`` a mistake is refuted by what the checks say of it alone, and induction
        is not tried. In ``parts``, each a question for the solver, many checks are proved much
        sooner than at once.
        """
        checks = [Value.cast(check).bool()
                  for check in self.checks + (self.lemmas if lemmas else [])]
        # One output: then all checks may be assumed of the cycle before to prove each.
        part, held = Const(0), Signal(init=1)
        if parts > 1:
            part = self.free(range(parts), "part")
            self.m.d.sync += held.eq(Cat(checks).all())
            self.m.d.comb += Assume(held)
        size = -(-len(checks) // parts)
        self.m.d.comb += Assert(Cat(
            (part != number) | Cat(checks[number * size:(number + 1) * size]).all()
            for number in range(parts)).all())
        sources = self._sources()
        questions = "".join(INDUCTION.format(part=f"-set {part.name} {number}" if parts > 1 else "")
                            for number in range(parts))
        induction = ""
        if lemmas:
            induction = run(PREPARE.format(forget="") + questions, sources)["induction.txt"]
        if induction.count("SUCCESS") < parts:
            decide(sources, "", f"bmc3 -F {SHALLOW}", "pdr")
        elif "for assert: 1'1 when" in induction:
            raise RuntimeError(NOTHING_LEFT)

    def prove_pipeline(self, depth: int) -> None:
        """Every check holds in cycle ``depth``, whatever registers inside ``dut`` hold in cycle 0.

        Without reset. That is a proof for all time, since cycle 0 may be any cycle; it succeeds
        where results depend on the last ``depth`` cycles alone. The circuit is unrolled, so that
        whatever it and its specification compute alike merges, even multipliers.
        """
        self.m.d.comb += [Assert(~self.before(Const(1), depth) | condition)
                          for condition in self.checks]
        self.m.domains.sync = domain = ClockDomain(reset_less=True)
        self.ports.append(domain.clk)       # Amaranth adds this port only to its own domain
        decide(self._sources(), "setattr -unset init w:dut.*",
               f"frames -F {depth + 1} -i\niprove\npdr")

    def _sources(self) -> dict[str, str]:
        fragment = Fragment.get(self.m, self.platform)      # memories add ports
        return {"top.il": rtlil.convert(fragment, ports=self.ports, emit_src=False),
                "cells.v": self.cells, "gate.v": GATE}


def registers(fragment: Fragment) -> dict[str, Signal]:
    """The registers of ``fragment`` and of those inside it, whose names come in front.

    Of several with one name (or none: ``$signal``), in the order of their assignment, the second
    has #1 behind it, the third #2.
    """
    own: dict[str, Signal] = {}
    assigned = {id(signal): signal for statement in fragment.statements.get("sync", ())
                for signal in statement._lhs_signals()}
    for signal in assigned.values():
        number = sum(other.name == signal.name for other in own.values())
        own[f"{signal.name}#{number}" if number else signal.name] = signal
    return own | {f"{name}.{inner}": signal for part, name, _ in fragment.subfragments
                  for inner, signal in registers(part).items()}


def decide(sources: dict[str, str], forget: str, *tactics: str) -> None:
    """Raise `Refuted` unless the model checker proves the checks, by the first tactic that can."""
    script = PREPARE.format(forget=forget) + MODEL_CHECKING
    for tactic in tactics:
        files = run(script, {**sources, "abc.txt": ABC_SCRIPT.format(tactic=tactic)})
        verdict = files["status.txt"].split()[0]
        if verdict == "snl_SAT":
            raise Refuted(waveforms(files["trace.txt"], files["top.aig"]))
        if files["top.aig"].split(" ", 6)[5] == "0":
            raise RuntimeError(NOTHING_LEFT)
        if verdict == "snl_UNSAT":
            return
    raise RuntimeError(f"the model checker did not decide: {verdict}")


def run(script: str, sources: dict[str, str]) -> dict[str, str]:
    """All files, by name, after Yosys ran ``script`` beside ``sources``."""
    with tempfile.TemporaryDirectory(prefix="shiftwise-") as name:
        folder = Path(name)
        for file, text in {**sources, "script.ys": script}.items():
            (folder / file).write_text(text)
        run_step([*find_tool("yosys").command, "-q", "script.ys"], folder, "the proof")
        return {path.name: path.read_text("latin-1") for path in folder.iterdir()}


def waveforms(trace: str, graph: str) -> str:
    """A counterexample as a table: each signal's value in each cycle.

    Where ABC numbers inputs and registers, the and-inverter ``graph`` tells their names.
    """
    names = dict(re.findall(r"(?m)^([il]\d+) (\S+)$", graph))
    trace = re.sub(r"(?m)\b([pl])[io](\d+)(?=\b|_)", lambda found: names.get(
        f"{'i' if found[1] == 'p' else 'l'}{int(found[2])}", found[0]), trace)
    values: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for name, bit, cycle, value in re.findall(r"(\S+?)(?:\[(\d+)\])?@(\d+)=([01])", trace):
        values[name][int(cycle)] |= int(value) << int(bit or 0)
    return "a check fails in the last cycle of:\n" + "\n".join(
        f"{name:30}" + " ".join(f"{value:3x}" for _, value in sorted(cycles.items()))
        for name, cycles in sorted(values.items()) if any(cycles.values()))


def broken(module: ModuleType, right: str, wrong: str) -> ModuleType:
    """A copy of ``module`` in whose source ``right``, which occurs once, is replaced by ``wrong``.

    A proof of such a copy has to fail.
    """
    source = inspect.getsource(module)
    assert source.count(right) == 1, f"{module.__name__} has {source.count(right)} times: {right}"
    copy = ModuleType(module.__name__)
    copy.__dict__.update(__package__=module.__package__, __file__=module.__file__)
    exec(compile(source.replace(right, wrong), f"<broken {module.__name__}>", "exec"),
         copy.__dict__)
    return copy
