"""Building and loading the kernels, and when an evaluation uses them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ref import UserError, run, run_layers
from ref import kernels as kernels_module
from ref.arithmetic import Arithmetic
from ref.compiled import Plan
from ref.kernels import OPTIONS, built, kernels, usable
from tests.ref.random_models import random_model, random_samples

RUN = sys.modules[run.__module__]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, and nothing known of kernels, before the test and after it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernels.cache_clear()
    usable.cache_clear()
    yield tmp_path / "shiftwise"
    kernels.cache_clear()
    usable.cache_clear()


@pytest.fixture
def case():
    model = random_model(np.random.default_rng(1), layers=3)
    return model, random_samples(np.random.default_rng(2), model, 3)


@pytest.fixture
def plans(monkeypatch):
    """The models that were run by kernels."""
    used = []

    def counted(plan, model, x, names):
        used.append(model)
        return original(plan, model, x, names)

    original = Plan.run
    monkeypatch.setattr(Plan, "run", counted)
    return used


def no_compiler(language):
    raise UserError(f"cannot find a {language.upper()} compiler")


def test_without_a_compiler_numpy_gives_the_integers(cache, case, plans, monkeypatch):
    calls = []
    monkeypatch.setattr(kernels_module, "find_compiler",
                        lambda language: calls.append(language) or no_compiler(language))
    monkeypatch.setattr(RUN, "WORTH_BUILDING", 0)
    model, x = case
    for _ in range(2):
        assert np.array_equal(run(model, x), run(model, x, "numpy"))
    assert not plans and calls == ["c"]                     # it is asked for once
    with pytest.raises(UserError, match="cannot find a C compiler"):
        run(model, x, "compiled")
    assert not list(cache.iterdir())


def test_a_compiler_that_fails_is_a_sentence_and_leaves_numpy(cache, case, monkeypatch):
    monkeypatch.setenv("CC", str(cache.parent / "compiler"))
    program = cache.parent / "compiler"
    program.write_text("#!/bin/sh\ntest $1 = --version && echo 1 || { echo no memory; exit 1; }\n")
    program.chmod(0o755)
    model, x = case
    with pytest.raises(UserError, match="compiler failed while preparing the evaluator's kernels: "
                                        "no memory"):
        run(model, x, "compiled")
    monkeypatch.setattr(RUN, "WORTH_BUILDING", 0)
    assert np.array_equal(run(model, x), run(model, x, "numpy"))
    assert not list(cache.iterdir())


def test_damaged_kernels_are_a_sentence_and_leave_numpy(cache, case, monkeypatch):
    library = kernels_module._library_path(OPTIONS)
    library.write_bytes(b"\x7fELF")
    model, x = case
    with pytest.raises(UserError, match=r"kernels do not load \(.*\); delete .*\.so and try again"):
        run(model, x, "compiled")
    monkeypatch.setattr(RUN, "WORTH_USING", 0)
    assert built()
    assert np.array_equal(run(model, x), run(model, x, "numpy"))


def test_work_decides_where_the_engine_is_automatic(case, plans, monkeypatch):
    """Small work takes numpy; what is built is used from less work on than what is not."""
    model, x = case
    for is_built, using, building, compiled in [
            (True, 0, 1 << 60, True), (True, 1 << 60, 0, False), (False, 0, 1 << 60, False),
            (False, 1 << 60, 0, True)]:
        monkeypatch.setattr(RUN, "built", lambda answer=is_built: answer)
        monkeypatch.setattr(RUN, "WORTH_USING", using)
        monkeypatch.setattr(RUN, "WORTH_BUILDING", building)
        if not compiled:
            monkeypatch.setattr(RUN, "usable", lambda: pytest.fail("asked for nothing"))
        else:
            monkeypatch.setattr(RUN, "usable", usable)
        plans.clear()
        maps, result = run_layers(model, x), run(model, x)
        assert plans == [model] * (2 * compiled)
        assert np.array_equal(result, maps[model.output_tensor.name])


def test_other_arithmetics_are_numpys(case, plans):
    model, x = case
    truncates = Arithmetic(truncates=True)
    maps = run_layers(model, x, truncates, "compiled")
    expected = run_layers(model, x, truncates, "numpy")
    assert not plans and all(np.array_equal(maps[name], expected[name]) for name in maps)


def test_two_processes_build_at_once(cache):
    root = Path(__file__).parents[2]
    script = ("from ref.kernels import PORTABLE, kernels; "
              "print(kernels((*PORTABLE, '-O0')).lanes())")
    processes = [subprocess.Popen([sys.executable, "-c", script], cwd=root, env=os.environ,
                                  stdout=subprocess.PIPE) for _ in range(2)]
    answers = [process.communicate()[0] for process in processes]
    assert answers[0] == answers[1] != b""
    assert [path.suffix for path in cache.iterdir()] == [".so"]


def test_an_unknown_engine_is_a_sentence(case):
    with pytest.raises(UserError, match="one of auto, numpy, compiled, not fast"):
        run(*case, "fast")
