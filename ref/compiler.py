"""Find a compiler of C or C++, on PATH or from PyPI, and run it."""

import importlib.metadata
import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .errors import UserError

#: By language: the variable that names a compiler, the usual names, what ziglang calls its own.
LANGUAGES = {"c": ("CC", ("gcc", "clang", "cc"), "cc"),
             "c++": ("CXX", ("g++", "clang++", "c++"), "c++")}
#: Programs asked for their version answer within this many seconds.
VERSION_TIMEOUT = 60


@dataclass(frozen=True)
class Compiler:
    """A compiler: how to call it, which version it is, and where it comes from."""

    command: tuple[str, ...]
    version: str
    source: str                     # "native" or "ziglang"


def find_compiler(language: str) -> Compiler:
    """A compiler of "c" or "c++": $CC or $CXX, else the first on PATH, else the one of ziglang.

    Raises `UserError` when the variable names something that does not run, or when there is none.
    """
    variable, names, zig = LANGUAGES[language]
    chosen = shlex.split(os.environ.get(variable, ""))
    if chosen:
        version = first_line([*chosen, "--version"])
        if not version:
            raise UserError(f"{variable} is set to '{shlex.join(chosen)}', which does not run; "
                            f"set it to a {language.upper()} compiler or unset it")
        return Compiler(tuple(chosen), version, "native")
    for name in names:
        found = shutil.which(name)
        version = first_line([found, "--version"]) if found else ""
        if found and version:
            return Compiler((found,), version, "native")
    if importlib.util.find_spec("ziglang"):
        version = importlib.metadata.version("ziglang")
        return Compiler((sys.executable, "-m", "ziglang", zig), f"zig {version}", "ziglang")
    raise UserError(f"cannot find a {language.upper()} compiler: none of {', '.join(names)} is on "
                    "PATH; run: pip install ziglang")


def first_line(command: list[str]) -> str:
    """First line a program prints on stdout or stderr; "" when it does not run."""
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              stdin=subprocess.DEVNULL, errors="replace", timeout=VERSION_TIMEOUT)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.strip().splitlines()
    return lines[0] if lines and done.returncode == 0 else ""


def run_step(command: list[str], folder: str | Path, purpose: str) -> None:
    """Run a tool in ``folder``; `UserError` with its last line of complaint and the ``purpose``."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = (result.stderr + result.stdout).strip().splitlines() or ["no message"]
        raise UserError(f"{Path(command[0]).name} failed while preparing {purpose}: {lines[-1]}")
