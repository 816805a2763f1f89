"""The steps to a bitstream, with programs that play the tools: resumed, refused, interrupted."""

import itertools
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from boards import BOARDS
from hw.bitstream import build_bitstream
from hw.config import EngineConfig
from ref import cache
from ref.errors import UserError

from .fake_tools import NEXTPNR, put_tools

CONFIG = EngineConfig(channels=2, pixels=1, requantizers=1, tape_depth=256, activation_depth=256,
                      single_port=True)
#: What a command line of ours does, without the rest of the build.
COMMAND = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)   # ignored under nohup
from boards import BOARDS
from hw.bitstream import build_bitstream
from ref.errors import run_command
from tests.hw.test_bitstream import CONFIG
sys.exit(run_command(lambda arguments: build_bitstream(BOARDS["icebreaker"], CONFIG) and 0))
"""


@pytest.fixture
def flow(tmp_path, monkeypatch):
    """A cache and temporary files of the test's own and fake tools first on PATH.

    The yielded function sets what the tools do; its attribute ``calls`` is the file that logs them.
    """
    calls = tmp_path / "calls"

    def tools(**bodies):
        calls.write_text("")
        put_tools(tmp_path / "bin", calls, **bodies)

    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    tools()
    tools.calls, tools.folder = calls, tmp_path
    return tools


def build(stage=lambda name: None):
    return build_bitstream(BOARDS["icebreaker"], CONFIG, stage)


def ran(flow):
    return flow.calls.read_text().split()


def test_steps_run_once(flow):
    stages = []
    made = build(stages.append)
    assert stages == ran(flow) == ["yosys", "nextpnr-ice40", "icepack"]
    assert made.path.read_text() == "design\n"
    assert made.timing_met and made.fmax_mhz == 25.5 and made.seed == 1
    assert made.critical_path_ns == [{"from": "a", "to": "b", "type": "logic", "delay": 1.5}]
    assert [tool.source for tool in made.tools] == ["native"] * 3
    assert set(made.seconds) == {"yosys", "nextpnr-ice40", "icepack"}
    assert all(count == {"used": 1, "available": 2} for count in made.resources.values())
    stages.clear()
    assert build(stages.append) == made
    assert stages == [] and len(ran(flow)) == 3
    assert not list((flow.folder / "tmp").iterdir())


def test_seeds_until_the_clock_is_met(flow):
    """The second seed is the best of three that all miss the clock."""
    slow = NEXTPNR + ('\nfmax=5.0; case "$*" in *"--seed 2"*) fmax=6.5;; esac\n'
                      'sed -i "s/25.5/$fmax/" top.report.json; echo "$*" > top.asc')
    flow(nextpnr=slow)
    made = build()
    assert not made.timing_met and (made.fmax_mhz, made.seed) == (6.5, 2)
    assert ran(flow) == ["yosys", *["nextpnr-ice40"] * 3, "icepack"]
    assert "--seed 2" in made.path.read_text()


def test_a_failed_step_is_named_and_runs_again(flow):
    flow(nextpnr="echo 'ERROR: cell type LUT does not fit'; exit 1")
    with pytest.raises(UserError, match=r"nextpnr-ice40 failed with exit code 1: ERROR: cell type "
                                        r"LUT does not fit; its log is (.*)$") as raised:
        build()
    log = Path(str(raised.value).split("its log is ")[1])
    assert "does not fit" in log.read_text()
    flow()
    build()
    assert ran(flow) == ["nextpnr-ice40", "icepack"]      # synthesis is kept


@pytest.mark.parametrize("body", ["exit 0", ": > top.json"])
def test_a_step_without_its_result_is_not_kept(flow, body):
    flow(yosys=body)
    with pytest.raises(UserError, match=r"yosys ended without writing top\.json; its log is"):
        build()
    flow()
    assert build().path.read_text() == "design\n"


def test_a_full_disk_is_told_before_and_after_a_step(flow, monkeypatch):
    """A tool that fills the disk and does not notice leaves nothing in the cache."""
    free = iter([1 << 30, 1 << 30, 5 << 20])
    monkeypatch.setattr(cache.shutil, "disk_usage",
                        lambda folder: shutil._ntuple_diskusage(0, 0, next(free)))
    with pytest.raises(UserError, match=r"the disk of .* has 5 MB free and a build needs 100; free "
                                        r"some space or set XDG_CACHE_HOME to"):
        build()
    assert ran(flow) == ["yosys"]
    free = iter([1 << 30, 7 << 20])
    with pytest.raises(UserError, match=r"7 MB free .* set TMPDIR to"):
        build()
    free = itertools.repeat(1 << 30)
    build()
    assert ran(flow) == ["yosys", "yosys", "nextpnr-ice40", "icepack"]


def test_no_cache(flow, monkeypatch):
    (flow.folder / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(flow.folder / "file"))
    with pytest.raises(UserError, match=r"cannot make the cache folder .*file.shiftwise \(Not a "
                                        r"directory\); set XDG_CACHE_HOME to a folder"):
        build()


def test_two_builds_of_one_design_at_a_time(flow):
    """Each tool writes its result in two halves while the other build's runs."""
    flow(yosys="printf des > top.json; sleep 0.5; echo ign >> top.json",
         nextpnr="sleep 0.2; " + NEXTPNR)
    script = [sys.executable, "-c", COMMAND]
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda _: subprocess.run(script, capture_output=True, text=True,
                                                      check=False), range(2)))
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 2
    assert ran(flow).count("yosys") == 2, "the builds did not overlap: the test shows nothing"
    assert build().path.read_text() == "design\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_build_ends_its_tool_and_goes_on_later(flow, number):
    flow(nextpnr="echo half > top.asc; sleep 30; echo late >> " + str(flow.calls))
    process = subprocess.Popen([sys.executable, "-c", COMMAND], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while "nextpnr-ice40" not in ran(flow) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    _, message = process.communicate(timeout=20)          # the tool would sleep longer
    assert (process.returncode, message) == (130, "interrupted; nothing half-written was kept\n")
    assert ran(flow) == ["yosys", "nextpnr-ice40"]
    assert not list((flow.folder / "tmp").iterdir())
    flow(yosys="exit 1")
    assert build().path.read_text() == "design\n"
    assert ran(flow) == ["nextpnr-ice40", "icepack"]


def test_design_is_the_same_in_every_checkout(flow):
    flow(yosys="cat * > top.json")
    build()
    design, = (flow.folder / "cache" / "shiftwise").glob("*.build/top.json")
    assert b"accelerator" in design.read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in design.read_bytes()
