"""From an engine to a bitstream: elaborate, synthesize, place and route, pack; resumable."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from boards import Board
from ref.atomic import write_atomically
from ref.cache import cache_path, check_space
from ref.errors import UserError

from .config import EngineConfig
from .floorplan import floorplan, placement_script
from .tools import Tool, Tools, find_tools, run_tool
from .top import Top

#: Most lanes for which the usual options of nextpnr do.
STATIC_LANES = 192
#: Placement seeds tried, in order, until one meets the clock.
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Bitstream:
    """A routed and packed design."""

    path: Path                              # in the cache
    clock_mhz: float                        # built for
    fmax_mhz: float                         # reached, as nextpnr reports
    seed: int
    resources: dict[str, dict[str, int]]    # kind: used, available
    critical_path_ns: list[dict[str, Any]]  # from, to, type, delay of each part
    seconds: dict[str, float]               # per tool, of the run that made it
    tools: Tools

    @property
    def timing_met(self) -> bool:
        """The routed design runs at the clock it was built for."""
        return self.fmax_mhz >= self.clock_mhz


def build_bitstream(board: Board, config: EngineConfig,
                    stage: Callable[[str], None] = lambda name: None,
                    seeds: tuple[int, ...] = SEEDS) -> Bitstream:
    """The bitstream of an engine with its host link on ``board``.

    Finished steps are kept in the cache under a digest of the design and the tools, so an
    interrupted build goes on where it stopped. Tools run in a folder of this process's own and
    results enter the cache in one step each, so builds of the same design may run at a time.
    ``stage`` hears the name of each step before it starts. Tries ``seeds`` until the clock is met;
    when none meets it the quickest is returned. Raises `UserError` when a tool fails, for example
    because the design does not fit, and when the disk is full.
    """
    tools = find_tools(board.family)
    platform = board.platform()
    if config.mac_units > STATIC_LANES:
        platform.nextpnr_opts = platform.widest_opts
    with tools.active():
        # Without source lines: an edited comment or another checkout is the same design.
        plan = platform.prepare(
            Top(board, config), "top", emit_src=False,
            script_after_synth=placement_script(floorplan(config, board.device.sites)))
    versions = [f"{tool.version} {tool.source}" for tool in tools]
    folder = cache_path("build", [plan.digest().hex(), *versions])
    folder.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="shiftwise-") as work:
        plan.extract(work)
        commands = json.loads(plan.files["build_top.json"])["commands"]
        run = _Runner(folder, Path(work), tools, stage)
        return run_steps(board, platform.clock_mhz, commands, run, seeds)


def run_steps(board: Board, clock_mhz: float, commands: list[list[str]],
              run: "_Runner", seeds: tuple[int, ...] = SEEDS) -> Bitstream:
    """Run synthesis, then place and route for one seed after the other, then the packer."""
    tools = run.tools
    synthesize, route, pack = (command[1:] for command in commands)
    seconds = {tools.yosys.name: run.step(tools.yosys, synthesize, "top.json", "top.json")}
    best: tuple[float, int] = (0.0, 0)
    routed = route[-1]                      # nextpnr's result: top.asc or top.config
    for seed in seeds:
        arguments = [*with_seed(route, seed), "--timing-allow-fail"]
        seconds[tools.nextpnr.name] = seconds.get(tools.nextpnr.name, 0) + run.step(
            tools.nextpnr, arguments, routed, f"seed{seed}-{routed}", "top.report.json",
            f"seed{seed}-report.json")
        clock = run.report(seed)["fmax"]
        fmax = min((domain["achieved"] for domain in clock.values()), default=0.0)
        best = max(best, (fmax, -seed))
        if fmax >= clock_mhz:
            break
    fmax, seed = best[0], -best[1]
    shutil.copy(run.folder / f"seed{seed}-{routed}", run.work / routed)
    result = f"top{board.bitstream_suffix}"
    seconds[tools.packer.name] = run.step(tools.packer, pack, result, f"seed{seed}-{result}")
    report = run.report(seed)
    return Bitstream(
        path=run.folder / f"seed{seed}-{result}", clock_mhz=clock_mhz, fmax_mhz=fmax, seed=seed,
        resources={kind: {key: report["utilization"][cell][key] for key in ("used", "available")}
                   for kind, cell in board.device.cells},
        critical_path_ns=critical_path(report), seconds=seconds, tools=tools)


def with_seed(arguments: list[str], seed: int) -> list[str]:
    """nextpnr's arguments with another placement seed."""
    place = arguments.index("--seed") + 1
    return [*arguments[:place], str(seed), *arguments[place + 1:]]


def critical_path(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The parts of the longest path inside the clock domain, from nextpnr's report."""
    paths = [path for path in report["critical_paths"] if path["from"] == path["to"]]
    if not paths:
        return []
    longest = max(paths, key=lambda path: sum(part["delay"] for part in path["path"]))
    return [{"from": part["from"]["cell"], "to": part["to"]["cell"], "type": part["type"],
             "delay": part["delay"]} for part in longest["path"]]


class _Runner:
    """Runs steps in the folder ``work`` and keeps their results in ``folder`` for later builds."""

    def __init__(self, folder: Path, work: Path, tools: Tools,
                 stage: Callable[[str], None]) -> None:
        self.folder = folder
        self.work = work
        self.tools = tools
        self.environment = tools.environment()
        self.stage = stage

    def step(self, tool: Tool, arguments: list[str], *files: str) -> float:
        """Run a tool unless its results are kept; seconds it took when it ran.

        ``files`` are pairs: the name the tool writes, the name under which the result is kept.
        Either way the results lie in ``work``, too.
        """
        pairs = list(zip(files[::2], files[1::2], strict=True))
        note = self.folder / f"{pairs[0][1]}.seconds"       # written last: all results are there
        if note.exists():
            for written, kept in pairs:
                shutil.copy(self.folder / kept, self.work / written)
            return float(note.read_text())
        self.stage(tool.name)
        check_space(self.folder)
        log = self.folder / f"{tool.name}.log"
        seconds = round(run_tool([*tool.command, *arguments], self.work, log,
                                 environment=self.environment), 2)
        check_space(self.folder)            # not all tools notice that their disk is full
        for written, kept in pairs:
            result = self.work / written
            if not result.exists() or not result.stat().st_size:
                raise UserError(f"{tool.name} ended without writing {written}; its log is {log}")
            write_atomically(self.folder / kept, result.read_bytes())
        write_atomically(note, str(seconds).encode())
        return seconds

    def report(self, seed: int) -> dict[str, Any]:
        """nextpnr's report of a seed."""
        return json.loads((self.folder / f"seed{seed}-report.json").read_text())
