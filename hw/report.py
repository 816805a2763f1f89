"""The build report as one HTML page that needs nothing else: no network, script or other file."""

import math
import re
import shlex
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from boards import BOARDS

from .config import EngineConfig

#: Parts of a device used beyond this share are marked: routing gets hard there.
NEARLY_FULL = 0.9
#: The user's own program that loads a bitstream into a board; ``{}`` is the file.
LOADERS = {"icebreaker": "iceprog {}", **dict.fromkeys(
    ("ulx3s_25f", "ulx3s_45f", "ulx3s_85f"), "openFPGALoader -b ulx3s {}")}
#: Where Yosys's names of derived cells leave the name of the signal they came from.
DERIVED = re.compile(r"_(?:SB_|LUT4|TRELLIS_|CCU2C|PFUMX|L6MUX|MULT18|DP16KD|ALU54|LC$|DFFLC)")
#: What the engine's parameters (`EngineConfig`) mean.
PARAMETERS = {
    "channels": "output channels computed at a time; bytes of an activation word",
    "pixels": "neighbouring output pixels computed at a time",
    "requantizers": "results scaled to 8 bits per cycle",
    "tape_depth": "words of weight memory",
    "activation_depth": "words of feature map memory",
    "single_port": "feature map memory reads or writes in a cycle, not both",
    "accumulator_bits": "bits of a sum of products",
    "bias_bits": "more bits of a sum with its bias",
    "multiplier_slice": "bits of the scale multiplied per cycle",
    "weight_bits": "bits of a weight",
    "table_pixels": "of these pixels, those multiplied by lookup tables",
    "maximum": "max pooling is built in",
    "leaky": "multipliers for negative sums are built in",
    "clips": "results' bounds other than those of bytes are built in",
    "shifts": "places by which results are scaled down",
    "pipelined": "more registers, and multiplexers behind them",
    "mixed": "every other channel is multiplied by shifting and adding",
}


@dataclass(frozen=True)
class Layer:
    """One layer's row and its column in the chart. Shares are 0 to 1, ``start`` too."""

    number: int             # from 1, in order of execution
    name: str
    cycles: int
    predicted: int
    macs: int
    utilisation: float      # of the multipliers, while the layer runs
    microseconds: float
    start: float            # share of the inference's cycles before this layer
    share: float            # share of the inference's cycles in this layer
    idle: int               # products that could have been made in these cycles and were not


@dataclass(frozen=True)
class Amount:
    """So much of something that is limited, such as LUTs or bytes of a memory."""

    name: str
    used: int
    available: int

    @property
    def share(self) -> float:
        """Used of available; full where none is available and some is used."""
        return self.used / self.available if self.available else float(self.used > 0)

    @property
    def nearly_full(self) -> bool:
        """More than `NEARLY_FULL` is used."""
        return self.share > NEARLY_FULL


@dataclass(frozen=True)
class Hop:
    """Neighbouring cells of the critical path that were made from one signal. Times in ns."""

    name: str
    cells: int
    logic: float
    routing: float          # of the wires that lead into these cells
    arrival: float          # from the clock edge to the last of these cells


def render(report: dict[str, Any]) -> str:
    """The page for a report of `hw.build.make_report`; ``report`` holds its keys.

    Text from the report, such as names of networks and layers, is escaped. Raises `KeyError` when a
    key is missing.
    """
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                              undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"count": count, "significant": significant, "percent": percent,
                            "decimals": decimals, "counted": counted}
    board = BOARDS.get(report["board"])
    engine = report["engine"]
    config = EngineConfig(**engine)
    rows = layers(report)
    prefix, hops = critical_hops(report["critical_path"])
    loader = LOADERS.get(report["board"])
    return environment.get_template("report.html.j2").render(
        report=report,
        board=board.title if board else f"{report['board']} ({report['device']})",
        layers=rows, summary=summary(rows, report),
        gain=gain(report["accuracy"]),
        resources=[Amount(kind, **amount) for kind, amount in report["resources"].items()],
        nearly_full=NEARLY_FULL,
        memory=[Amount("weight tape", report["memory"]["tape_bytes"],
                       config.tape_depth * config.tape_bytes),
                Amount("feature maps", report["memory"]["activation_bytes"],
                       config.activation_depth * config.word_bytes)],
        prefix=prefix, hops=hops, path_ns=hops[-1].arrival if hops else 0.0,
        period_ns=1e3 / report["clock_mhz"],
        parameters=[(name, value, PARAMETERS.get(name, "")) for name, value in engine.items()],
        load_command=loader.format(shlex.quote(report["bitstream"])) if loader else None)


def layers(report: dict[str, Any]) -> list[Layer]:
    """The layers with what follows from their cycles."""
    cycles = [layer["cycles"] for layer in report["layers"]]
    total = max(sum(cycles), 1)
    units = report["mac_units"]
    return [Layer(number=number, name=layer["name"], cycles=layer["cycles"],
                  predicted=layer["predicted_cycles"], macs=layer["macs"],
                  utilisation=layer["macs"] / max(layer["cycles"] * units, 1),
                  microseconds=layer["cycles"] / report["clock_mhz"],
                  start=before / total, share=layer["cycles"] / total,
                  idle=layer["cycles"] * units - layer["macs"])
            for number, (layer, before)
            in enumerate(zip(report["layers"], accumulate(cycles, initial=0), strict=False), 1)]


def summary(rows: list[Layer], report: dict[str, Any]) -> list[str]:
    """Sentences that say what the chart of two or more layers shows."""
    if len(rows) < 2:
        return []
    by_share = sorted(rows, key=lambda row: -row.share)
    half = 1 + sum(total < 0.5 for total in accumulate(row.share for row in by_share))
    wasted = max(rows, key=lambda row: row.idle)
    differing = sum(row.cycles != row.predicted for row in rows)
    total_idle = max(sum(row.idle for row in rows), 1)
    return [
        f"Half of the cycles or more go to {half} of {len(rows)} layers; the longest is "
        f"{by_share[0].name} ({percent(by_share[0].share)}).",
        f"Of all the time in which multipliers wait, the largest part, "
        f"{percent(wasted.idle / total_idle)}, is in {wasted.name}.",
        f"With every multiplier busy in every cycle the network would take "
        f"{count(-(-report['macs'] // report['mac_units']))} cycles.",
        "The cycle model predicted every layer exactly." if not differing else
        f"The cycle model missed {differing} of {len(rows)} layers."]


def gain(accuracy: dict[str, Any]) -> float | None:
    """Percentage points from float to integer; None unless both were measured."""
    if accuracy["float"] is None or accuracy["integer"] is None:
        return None
    return accuracy["integer"] - accuracy["float"]


def critical_hops(parts: list[dict[str, Any]]) -> tuple[str, list[Hop]]:
    """The critical path by signal: the modules that all are in ("" or "a.b."), and its hops.

    ``parts`` are nextpnr's: ``from`` and ``to`` cells, ``type`` ("routing", else logic), ``delay``
    in ns.
    """
    names = [DERIVED.split(part["to"])[0] for part in parts]
    prefix = common_modules(names)
    hops: list[Hop] = []
    arrival = 0.0
    for name, pairs in groupby(zip(names, parts, strict=True), key=lambda pair: pair[0]):
        group = [part for _, part in pairs]
        routing = sum(part["delay"] for part in group if part["type"] == "routing")
        logic = sum(part["delay"] for part in group if part["type"] != "routing")
        arrival += routing + logic
        hops.append(Hop(name.removeprefix(prefix), len({part["to"] for part in group}),
                        logic, routing, arrival))
    return prefix, hops


def common_modules(names: list[str]) -> str:
    """The modules, each with its dot, that begin all of the hierarchical ``names``."""
    common = ""
    for modules in zip(*(name.split(".")[:-1] for name in names), strict=False):
        if any(one != other for one, other in pairwise(modules)):
            break
        common += f"{modules[0]}."
    return common


def count(number: int) -> str:
    """Thousands separated: 13,298."""
    return f"{number:,}"


def counted(number: int, noun: str, nouns: str = "") -> str:
    """A number of things: 1 layer, 29 layers; ``nouns`` is an irregular plural."""
    return f"{count(number)} {noun if number == 1 else nouns or f'{noun}s'}"


def significant(number: float) -> str:
    """At least three significant digits, thousands separated: 0.554, 8.04, 1,805."""
    if number <= 0 or not math.isfinite(number):
        return f"{number:g}"
    return f"{number:,.{min(max(2 - math.floor(math.log10(number)), 0), 9)}f}"


def percent(share: float) -> str:
    """A share of 1 with one decimal: 58.6 %."""
    return f"{100 * share:.1f} %"


def decimals(number: float) -> str:
    """Up to two decimals, no trailing zeros: 24, 27.33."""
    return f"{number:,.2f}".rstrip("0").rstrip(".")
