"""The kernels of `kernels.c`: compiled once for a processor, loaded, and their arguments."""

from __future__ import annotations

import ctypes
import platform
import tempfile
import threading
from ctypes import POINTER, Structure, c_int64, c_void_p
from functools import cache
from pathlib import Path

import numpy as np

from .atomic import write_atomically
from .cache import cache_path, check_space
from .compiler import find_compiler, run_step
from .errors import UserError

SOURCE = Path(__file__).with_name("kernels.c")
#: For any processor of this kind; integers wrap as in numpy.
PORTABLE = ("-std=c11", "-O3", "-fwrapv", "-w", "-shared", "-fPIC")
#: For this processor, where its kind has more than the kernels can use.
OPTIONS = (*PORTABLE, "-march=native") if platform.machine() in ("x86_64", "AMD64") else PORTABLE
_building = threading.Lock()
#: Bytes that kernels on flattened rows take at once.
CHUNK = 64


class Scale(Structure):
    """From sums to bytes: `struct scale`."""

    _fields_ = [*((name, c_void_p) for name in ("bias", "low", "high", "multiplier", "negative",
                                                "levels")),
                *((name, c_int64) for name in ("rounding", "drop", "shift"))]


class Convolution(Structure):
    """Any convolution: `struct convolution`."""

    _fields_ = [("scale", Scale), ("weight", c_void_p), ("offset", c_void_p),
                *((name, c_int64) for name in ("steps", "groups", "inputs", "outputs", "vectors",
                                               "rows", "columns", "sample", "line", "pixel"))]


class Depthwise(Structure):
    """A depthwise convolution or average pool: `struct depthwise`."""

    _fields_ = [("scale", Scale), ("weight", c_void_p), ("offset", c_void_p),
                *((name, c_int64) for name in ("quads", "blocks", "rows", "length", "sample",
                                               "line"))]


class Maximum(Structure):
    """A maximum pool: `struct maximum`."""

    _fields_ = [("offset", c_void_p),
                *((name, c_int64) for name in ("taps", "rows", "length", "sample", "line"))]


class Sum(Structure):
    """The sum of two maps: `struct sum`."""

    _fields_ = [*((name, c_void_p) for name in ("first", "second", "constant", "low", "high",
                                                "levels")),
                *((name, c_int64) for name in ("blocks", "shift", "offset"))]


class Frame(Structure):
    """Padding around a map: `struct frame`."""

    _fields_ = [("blank", c_void_p),
                *((name, c_int64) for name in ("channels", "height", "width", "top", "bottom",
                                               "left", "right", "phases"))]


#: By function: the structure it takes and how many maps.
FUNCTIONS: dict[str, tuple[type[Structure], int]] = {
    "convolve": (Convolution, 2), "convolve_depthwise": (Depthwise, 2),
    "pool_maximum": (Maximum, 2), "add": (Sum, 3), "frame": (Frame, 2)}


def built() -> bool:
    """Whether the cache holds the kernels for this processor."""
    try:
        return _library_path(OPTIONS).exists()
    except UserError:
        return False


@cache
def kernels(options: tuple[str, ...] = OPTIONS) -> ctypes.CDLL:
    """The compiled kernels, from the cache or built now, which takes seconds.

    Raises `UserError` when there is no compiler, it fails, or nothing can be kept or loaded.
    """
    path = _library_path(options)
    with _building:
        if not path.exists():
            _build(path, options)
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise UserError(f"the evaluator's compiled kernels do not load ({error}); delete {path} "
                        "and try again") from None
    for name, (structure, maps) in FUNCTIONS.items():
        function = getattr(library, name)
        function.argtypes = [POINTER(structure), c_int64, *[c_void_p] * maps]
        function.restype = None
    library.dot_products.restype = library.lanes.restype = c_int64
    return library


@cache
def usable() -> bool:
    """Whether `kernels` gives any; what went wrong once is not tried again."""
    try:
        kernels()
    except (UserError, OSError):
        return False
    return True


def address(array: np.ndarray) -> int:
    """Where an array's contiguous values begin; the array must outlive the use of it."""
    assert array.flags.c_contiguous
    return array.ctypes.data


def _build(path: Path, options: tuple[str, ...]) -> None:
    """Compile the kernels into the cache file ``path``, which appears whole."""
    compiler = find_compiler("c")
    check_space(path.parent)
    with tempfile.TemporaryDirectory(prefix="shiftwise-") as folder:
        (Path(folder) / SOURCE.name).write_bytes(SOURCE.read_bytes())
        run_step([*compiler.command, *options, "-o", path.name, SOURCE.name], folder,
                 "the evaluator's kernels")
        write_atomically(path, (Path(folder) / path.name).read_bytes())


def _library_path(options: tuple[str, ...]) -> Path:
    """The cache file: of the source, the options, and the processor they are for."""
    return cache_path("so", [*_identity(), *options])


@cache
def _identity() -> list[str]:
    """The source, and what tells processors of different instructions apart."""
    parts = [SOURCE.read_text(), platform.system(), platform.machine(), platform.processor()]
    processors = Path("/proc/cpuinfo")
    lines = processors.read_text().splitlines() if processors.exists() else []
    return parts + [line for line in lines if line.startswith(("flags", "Features"))][:1]
