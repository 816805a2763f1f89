"""Finding a compiler, with small scripts that play it."""

from __future__ import annotations

import sys

import pytest

from ref import compiler
from ref.compiler import Compiler, find_compiler, run_step
from ref.errors import UserError


@pytest.fixture
def path(tmp_path, monkeypatch):
    """A folder that is all of PATH, and a function that puts a program there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)

    def add(name, body, where=folder):
        program = where / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
        return str(program)

    return add


@pytest.mark.parametrize(("language", "variable", "names", "zig"), [
    ("c", "CC", ("gcc", "clang", "cc"), "cc"), ("c++", "CXX", ("g++", "clang++", "c++"), "c++")])
def test_compilers_in_order(path, monkeypatch, tmp_path, language, variable, names, zig):
    found = find_compiler(language)
    assert found.source == "ziglang" and found.version.startswith("zig ")
    assert found.command == (sys.executable, "-m", "ziglang", zig)
    path(names[2], "echo last 1")
    path(names[1], "echo clang 2")
    assert find_compiler(language).version == "clang 2"
    gcc = path(names[0], "echo first 3")
    assert find_compiler(language) == Compiler((gcc,), "first 3", "native")
    path(names[0], "echo broken; exit 1")
    assert find_compiler(language).version == "clang 2"
    chosen = path("mine", "echo mine 4 $1", tmp_path)
    monkeypatch.setenv(variable, f"{chosen} -m64")
    assert find_compiler(language) == Compiler((chosen, "-m64"), "mine 4 -m64", "native")
    monkeypatch.setenv(variable, "no-such-compiler")
    with pytest.raises(UserError, match=f"{variable} is set to 'no-such-compiler', which does not"):
        find_compiler(language)


def test_no_compiler_at_all(path, monkeypatch):
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"find a C\+\+ compiler: none of g\+\+, .*install ziglang"):
        find_compiler("c++")


def test_a_step_that_fails_says_its_last_line_and_the_purpose(path, tmp_path):
    program = path("tool", "echo first; echo second >&2; exit 3")
    with pytest.raises(UserError, match="tool failed while preparing the cake: first"):
        run_step([program], tmp_path, "the cake")
