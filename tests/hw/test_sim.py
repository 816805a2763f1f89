"""`python -m hw.sim`: its JSON, its exit codes, a planted fault, and bad input."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hw.sim
from hw.fit import ICE40_ARRAY
from hw.simulate import ENGINES
from ref.compare import main as compare
from ref.errors import run_command
from ref.file import save_model

from .engines import random_program

KEYS = {"samples": int, "engine": str, "board": str, "mismatches": int,
        "first_mismatch": type(None), "cycles_per_inference": int, "macs": int, "mac_units": int,
        "mac_utilisation": float, "layers": list}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory: a quantized network of three layers and two samples for it."""
    model, _, x = random_program(4, ICE40_ARRAY, samples=2, kinds=("dense", "depthwise"),
                                 layers=3, channels=5, size=8, fully_connected=False)
    monkeypatch.chdir(tmp_path)
    save_model(model, "net.q.npz")
    np.savez("test.npz", x=x, x_scale=model.input.x_scale,
             x_zero_point=model.input.x_zero_point)
    return tmp_path


def sim(*more):
    return run_command(hw.sim.main, ["net.q.npz", "--data", "test.npz", "--json", "result.json",
                                     *more])


def check(engine, samples):
    result = json.loads(Path("result.json").read_text())
    assert {key: type(value) for key, value in result.items()} == KEYS
    assert (result["engine"], result["samples"], result["mismatches"]) == (engine, samples, 0)
    assert len(result["layers"]) == 3
    for layer in result["layers"]:
        assert layer["cycles"] == layer["predicted_cycles"] > 0
    assert result["cycles_per_inference"] == sum(layer["cycles"] for layer in result["layers"])


@pytest.mark.parametrize("engine", ["amaranth", "compiled",
                                    pytest.param("netlist", marks=pytest.mark.long)])
def test_engines(folder, capsys, engine):
    assert engine in ENGINES
    assert sim("--engine", engine, "--samples", "1") == 0
    check(engine, 1)
    assert "1 sample, 0 mismatches" in " ".join(capsys.readouterr().out.split())


def test_a_mismatch_is_exit_code_1(folder, monkeypatch, capsys):
    """Signs of the last group's last weights turned."""
    fit = hw.sim.fit_program

    def damaged(model, board, lanes):
        program = fit(model, board, lanes)
        tape = program.tape.copy()
        tape[-4:, 0] ^= 255
        return replace(program, tape=tape)

    monkeypatch.setattr(hw.sim, "fit_program", damaged)
    assert sim("--engine", "amaranth", "--samples", "1") == 1
    result = json.loads(Path("result.json").read_text())
    last = result["layers"][-1]
    assert [layer["mismatches"] for layer in result["layers"][:-1]] == [0, 0]
    assert result["mismatches"] == last["mismatches"] > 0
    assert result["first_mismatch"].startswith(
        f"the engine differs first in layer {last['name']!r} (Conv2d), sample 0, channel ")
    captured = capsys.readouterr()
    assert "first mismatch: the engine differs first in" in " ".join(captured.out.split())
    assert captured.err.endswith("a reproducer is in mismatch\n")
    assert json.loads(Path("mismatch/mismatch.json").read_text())["layer"] == last["name"]
    assert sim("--engine", "amaranth", "--samples", "2", "--dump", "maps.npz") == 1
    assert compare(["net.q.npz", "--data", "test.npz", "--samples", "1", "--dump",
                    "maps.npz"]) == 1
    assert "maps.npz differs first in layer " in capsys.readouterr().err


def test_stop_after_a_layer_with_waves(folder, capsys):
    """The first layers alone take as long as they do in the whole network; VCD is a text file."""
    assert sim("--engine", "amaranth", "--samples", "1") == 0
    whole = json.loads(Path("result.json").read_text())["layers"]
    assert sim("--engine", "amaranth", "--samples", "1", "--stop-after", whole[1]["name"],
               "--vcd", "waves.vcd") == 0
    part = json.loads(Path("result.json").read_text())["layers"]
    assert part == whole[:2]
    text = Path("waves.vcd").read_text()
    assert "$enddefinitions" in text and "window_memory" not in text and "windows" in text


@pytest.mark.parametrize("arguments, sentence", [
    (["--samples", "0"], "--samples must be at least 1, not 0"),
    (["--board", "arty"], "unknown board 'arty'; the boards are icebreaker, "),
    (["--lanes", "12"], "there is no array of 12 lanes for network random on icebreaker, which has "
     "8 multiplier blocks and 5280 lookup tables; there are arrays of 16 lanes (--lanes)"),
    (["--json", "none/result.json"], "the directory none of the output does not exist; create it"),
    (["--json", "."], "the output . is a directory; name a file"),
    (["--stop-after", "no"], "has no layer 'no'; its layers are layer0, layer1, layer2"),
    (["--vcd", "none/waves.vcd"], "the directory none of the output does not exist; create it"),
    (["--data", "none.npz"], "none.npz: no such file or directory; check the path"),
    (["--data", "net.q.npz"], "net.q.npz holds no array named x"),
    (["--data", "other.npz"], "other.npz's samples have shape (1, 2, 3), and the network "),
])
def test_bad_input(folder, monkeypatch, capsys, arguments, sentence):
    monkeypatch.setattr(hw.sim, "make_engine", None)          # before anything is simulated
    np.savez("other.npz", x=np.zeros((4, 1, 2, 3), np.uint8))
    assert sim(*arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and sentence in message and message.count("\n") == 1
    assert not (folder / "result.json").exists()


@pytest.mark.parametrize("content", [b"", b"hello\n", "half"])
def test_damaged_network(folder, capsys, content):
    whole = (folder / "net.q.npz").read_bytes()
    (folder / "net.q.npz").write_bytes(whole[:len(whole) // 2] if content == "half" else content)
    assert sim() == 2
    assert capsys.readouterr().err.startswith(
        "error: net.q.npz is not a quantized model (NET.q.npz): not an .npz archive, or cut short")
