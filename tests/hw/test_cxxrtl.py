"""The compiled simulation's library in the cache: whole or not there, and refused when damaged."""

from pathlib import Path

import pytest

from hw import cxxrtl
from hw.cxxrtl import CompiledEngine, compile_library
from hw.tools import Tool
from ref.compiler import Compiler
from ref.errors import UserError

from .engines import CONFIGS


@pytest.fixture
def tools(tmp_path, monkeypatch):
    """An empty cache, and tools that do nothing: `run_yosys` gives no C++, `run_step` a library."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cxxrtl, "find_tool", lambda name: Tool(name, (name,), "1", "native"))
    monkeypatch.setattr(cxxrtl, "find_compiler", lambda _: Compiler(("c++",), "1", "native"))
    monkeypatch.setattr(cxxrtl, "run_yosys", lambda *_: "")
    monkeypatch.setattr(cxxrtl, "run_step",
                        lambda command, folder, _: Path(folder, "top.so").write_bytes(b"library"))
    return tmp_path / "cache" / "shiftwise"


def test_library_appears_whole(tools):
    library = compile_library({"top.il": "text"}, "script")
    assert library.read_bytes() == b"library"
    assert list(tools.iterdir()) == [library]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_nothing_half_written_in_the_cache(tools, monkeypatch, error):
    def stop(descriptor):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", stop)
        with pytest.raises((KeyboardInterrupt, OSError)) as raised:
            compile_library({"top.il": "text"}, "script")
    assert not list(tools.iterdir())
    if raised.type is not KeyboardInterrupt:
        assert raised.value.filename.startswith(str(tools))
        assert raised.value.filename.endswith(".so")          # not the temporary file's name
    assert compile_library({"top.il": "text"}, "script").exists()


def test_damaged_library_is_a_sentence(tmp_path):
    (tmp_path / "top.so").write_bytes(b"\x7fELF")
    with pytest.raises(UserError, match=r"the compiled simulation does not load \(.*\); delete .*"
                                        r"top\.so and try again"):
        CompiledEngine(tmp_path / "top.so", CONFIGS["c4p3"])
