"""Comparison with the reference: engines agree, and a planted fault is named where it is."""

from dataclasses import replace

import numpy as np
import pytest

from hw import cxxrtl
from hw.compiler import compile_program
from hw.cxxrtl import RTL_SCRIPT, compile_library, compiled_engine
from hw.pysim import AmaranthEngine
from hw.simulate import make_engine, simulate
from ref import Conv2d, run_layers
from ref.errors import UserError

from .engines import CONFIGS, engine_of, random_program

NAME = "c2p1"
CONFIG = CONFIGS[NAME]


def networks(count):
    """Programs of three convolutions whose results are not all the same."""
    for seed in range(100):
        model, program, x = random_program(seed, CONFIG, samples=1, kinds=("dense", "depthwise"),
                                           layers=3, channels=5, size=6, fully_connected=False)
        if all(isinstance(layer, Conv2d) for layer in model.layers):
            yield model, program, x
            count -= 1
        if not count:
            return


def test_engines_agree():
    """Amaranth's simulator and the compiled engine: the same report, cycle for cycle."""
    for model, program, x in networks(1):
        assert simulate(model, program, x, AmaranthEngine(CONFIG)) == simulate(
            model, program, x, engine_of(NAME))


def test_report():
    model, program, x = random_program(3, CONFIG, samples=3)
    seen, given = [], []
    result = simulate(model, program, x, engine_of(NAME),
                      progress=lambda samples: seen.append(len(samples)) or samples,
                      observe=given.append)
    assert seen == [3] and len(given) == 3
    for name, values in run_layers(model, x).items():
        if name != model.input.tensor:
            assert np.array_equal(np.concatenate([maps[name] for maps in given]), values)
    assert (result["samples"], result["mismatches"], result["first_mismatch"]) == (3, 0, None)
    assert result["macs"] == sum(layer["macs"] for layer in result["layers"])
    assert result["mac_units"] == 2
    cycles = result["cycles_per_inference"]
    assert cycles == sum(layer["cycles"] for layer in result["layers"])
    assert result["mac_utilisation"] == result["macs"] / (2 * cycles)
    assert [layer["name"] for layer in result["layers"]] == [layer.name for layer in model.layers]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_wrong_constant_is_found(number):
    """One bit of a layer's bias flipped on the tape: that layer is the first to differ."""
    found = 0
    for model, program, x in networks(12):
        layer = model.layers[number]
        rule = layer.requantization
        bias = rule.bias.copy()
        bias[0] ^= 1 << (int(layer.proof.bits) - 3)
        other = replace(model, layers=(
            *model.layers[:number], replace(layer, requantization=replace(rule, bias=bias)),
            *model.layers[number + 1:]))
        damaged = replace(program, tape=compile_program(other, CONFIG).tape)
        assert 1 <= np.sum(damaged.tape != program.tape) <= 4
        result = simulate(model, damaged, x, engine_of(NAME))
        if result["mismatches"]:
            found += 1
            text = result["first_mismatch"]
            assert text.startswith(f"the engine differs first in layer 'layer{number}' (Conv2d), "
                                   "sample 0, channel 0, row ")
            assert f"with bias {int(rule.bias[0])}, multiplier " in text
            assert [entry["mismatches"] for entry in result["layers"][:number]] == [0] * number
            assert result["layers"][number]["mismatches"]
    assert found >= 3


def test_no_samples():
    model, program, x = random_program(0, CONFIG)
    with pytest.raises(UserError, match="no sample to simulate; give --samples at least 1"):
        simulate(model, program, x[:0], engine_of(NAME))


def test_hanging_engine():
    """A program that needs more cycles than allowed, in both engines; the next run is right."""
    model, program, x = next(networks(1))
    for engine in (AmaranthEngine(CONFIG), engine_of(NAME)):
        engine.load(1, 0, program.tape)
        with pytest.raises(UserError, match="did not finish within 30 cycles"):
            engine.run(30)
    assert simulate(model, program, x, compiled_engine(CONFIG))["mismatches"] == 0


def test_engine_names():
    _, program, _ = random_program(0, CONFIG)
    assert isinstance(make_engine("amaranth", program, "icebreaker"), AmaranthEngine)
    assert isinstance(make_engine("compiled", program, "icebreaker"), type(engine_of(NAME)))
    with pytest.raises(UserError) as error:
        make_engine("verilog", program, "icebreaker")
    assert str(error.value) == "engine must be one of amaranth, compiled, netlist, not verilog"


def test_library_is_cached(monkeypatch):
    """The same engine is not compiled again; another text is."""
    engine_of(NAME)

    def compile_again(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(cxxrtl, "run_yosys", compile_again)
    compiled_engine(CONFIG)
    with pytest.raises(AssertionError, match="compiled again"):
        compile_library({"top.il": "# another\n"}, RTL_SCRIPT)


def test_tool_failure_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(cxxrtl, "cache_path", lambda *_: tmp_path / "top.so")
    with pytest.raises(UserError, match="yosys failed while preparing the simulation: ERROR"):
        compile_library({"top.il": "this is not RTLIL\n"}, RTL_SCRIPT)
    assert not list(tmp_path.iterdir())
