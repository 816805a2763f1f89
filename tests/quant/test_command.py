"""The command line: files, exit codes, and nothing half-written."""

import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict, fields, replace

import numpy as np
import onnx
import pytest

from quant import PRESETS, Settings, with_settings
from quant import quantize as python_quantize
from quant.__main__ import main
from quant.flags import add_flags
from ref import load_model, logits
from ref.errors import run_command
from ref.file import save_model
from ref.ops import conv2d
from ref.oracles import run_integer_onnx
from tests.quant.graphs import Graph
from tests.quant.networks import depthwise_graph, image_data


@pytest.fixture
def folder(tmp_path):
    depthwise_graph().save(tmp_path)
    data = image_data()

    np.savez(tmp_path / "calib.npz", x=data.x, x_scale=np.float32(1 / 64),
             x_zero_point=np.float32(127.5))
    return tmp_path


def quantize(folder, *extra, network="small.onnx", calib="calib.npz", output="small.q.npz"):
    return run_command(main, ["quantize", str(folder / network), "--calib", str(folder / calib),
                              "-o", str(folder / output), *extra])


def prove_files(folder, network="small.q.npz", output="proof.json"):
    return run_command(main, ["prove", str(folder / network), "--json", str(folder / output)])


def test_quantize_and_export(folder, capsys):
    assert quantize(folder, "--preset", "w6a8") == 0
    printed = capsys.readouterr().out
    assert "w6a8, 7 layers" in printed and "conv0" in printed
    model = load_model(folder / "small.q.npz")
    assert model.metadata["preset"] == "w6a8" and model.metadata["float"] == "small.onnx"
    assert run_command(main, ["export", str(folder / "small.q.npz"), "-f", "integer", "-o",
                              str(folder / "small.int.onnx")]) == 0
    x = image_data(seed=5).x
    found = run_integer_onnx(onnx.load(folder / "small.int.onnx"), x)[model.output_tensor.name]
    assert (found.reshape(len(x), -1) == logits(model, x)).all()


@pytest.mark.parametrize(("options", "extra", "sentence"), [
    ({"network": "none.onnx"}, [], "none.onnx: no such file or directory"),
    ({"calib": "none.npz"}, [], "none.npz"),
    ({"output": "absent/small.q.npz"}, [], "of the output does not exist; create it or choose"),
    ({"output": "."}, [], "is a directory; name a file"),
    ({}, ["--preset", "w9"], "preset 'w9' is unknown; use one of w8a8"),
    ({"network": "tanh.onnx"}, [], "Tanh 'tanh1' is an unsupported operator"),
    ({"network": "calib.npz"}, [], "is not an ONNX network or is damaged"),
])
def test_bad_input_is_one_sentence_and_leaves_nothing(folder, capsys, options, extra, sentence):
    (folder / "tanh").mkdir()
    Graph(("N", 3, 12, 10)).conv(4, 3).add("Tanh").save(folder / "tanh")
    (folder / "tanh" / "small.onnx").rename(folder / "tanh.onnx")
    before = sorted(folder.rglob("*"))
    assert quantize(folder, *extra, **options) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(("extra", "transfer"), [
    ([], "search"), (["--transfer", "0.5"], 0.5), (["--transfer", "0,0.5"], [0, 0.5]),
    (["--transfer", "0.2,1,0.3"], [0.2, 1, 0.3]), (["--transfer", "search"], "search")])
def test_weight_scale_and_transfer(folder, extra, transfer):
    assert quantize(folder, "--weight-scale", "tensor", *extra) == 0
    model = load_model(folder / "small.q.npz")
    settings = model.metadata["settings"]
    assert settings["weight_scale"] == "tensor" and settings["transfer"] == transfer
    again = python_quantize(folder / "small.onnx", folder / "calib.npz", Settings(**settings))
    save_model(again, folder / "again.q.npz")
    assert (folder / "again.q.npz").read_bytes() == (folder / "small.q.npz").read_bytes()


@pytest.mark.parametrize(("extra", "sentence"), [
    (["--transfer", "2"], "the transfer is 2.0; give its exponent t"),
    (["--transfer", "0,0,1.5"], "the transfer is (0.0, 0.0, 1.5); give its exponent t"),
    (["--transfer", "0,0,0,0"], "the transfer is (0.0, 0.0, 0.0, 0.0); give its exponent t"),
    (["--weight-bits", "9"], "9 weight bits are not supported; choose 2 to 8"),
    (["--activation-bits", "1"], "1 activation bits are not supported; choose 2 to 8"),
])
def test_settings_out_of_range(folder, capsys, extra, sentence):
    assert quantize(folder, *extra) == 2
    assert sentence in capsys.readouterr().err
    assert not (folder / "small.q.npz").exists()


def test_flags_change_the_preset(folder):
    assert quantize(folder, "--preset", "w6a8", "--weight-bits", "8", "--activation-bits", "7",
                    "--calibration", "max", "--no-bias-correction") == 0
    metadata = load_model(folder / "small.q.npz").metadata
    assert metadata["preset"] == "custom"
    assert metadata["settings"] == asdict(Settings(
        weight_bits=8, activation_bits=7, calibration="max", bias_correction=False))


def test_every_setting_has_a_flag():
    parser = ArgumentParser()
    add_flags(parser)
    given = vars(parser.parse_args([]))
    assert given.pop("preset") is None and set(given.values()) == {None}
    assert set(given) == {field.name for field in fields(Settings)}


@pytest.mark.parametrize(("given", "follows"), [
    ({"weight_bits": 4}, {"rounding": "greedy"}),
    ({"weight_bits": 4, "rounding": "nearest"}, {}),
    ({"accumulator_bits": 16}, {"rounding": "greedy"}),
    ({"accumulator_bits": 16, "weight_bits": 7}, {"rounding": "greedy"}),
    ({"accumulator_bits": 20}, {}),
    ({"weight_scale": "tensor"}, {"transfer": "search"}),
    ({"weight_scale": "tensor", "transfer": 0.3}, {}),
])
def test_what_follows_from_a_setting(given, follows):
    assert with_settings(PRESETS["w8a8"], **given) == replace(PRESETS["w8a8"], **given | follows)


def test_prove_prints_and_writes_what_each_witness_reaches(folder, capsys):
    assert quantize(folder) == 0
    model = load_model(folder / "small.q.npz")
    assert prove_files(folder) == 0
    assert "every accumulator within" in capsys.readouterr().out
    report = json.loads((folder / "proof.json").read_text())
    assert report["widest"] == max(layer.proof.bits for layer in model.layers)
    for layer, entry in zip(model.layers, report["layers"], strict=True):
        assert entry["name"] == layer.name and entry["holds"]
        assert (entry["lo"], entry["hi"]) == (layer.proof.lo, layer.proof.hi)
        assert entry["reached"] in (layer.proof.lo, layer.proof.hi)


def test_prove_says_when_a_witness_falls_short(folder, monkeypatch, capsys):
    assert quantize(folder) == 0
    monkeypatch.setattr(sys.modules["ref.bounds"], "conv2d",
                        lambda *operands: conv2d(*operands) - 1)
    assert prove_files(folder) == 1
    assert "NO" in capsys.readouterr().out
    assert not any(layer["holds"]
                   for layer in json.loads((folder / "proof.json").read_text())["layers"])


@pytest.mark.parametrize(("network", "output", "sentence"), [
    ("small.onnx", "proof.json", "is not a quantized model (NET.q.npz)"),
    ("small.q.npz", "absent/proof.json", "of the output does not exist"),
])
def test_prove_refuses(folder, capsys, network, output, sentence):
    assert quantize(folder) == 0
    before = sorted(folder.rglob("*"))
    assert prove_files(folder, network, output) == 2
    assert sentence in capsys.readouterr().err
    assert sorted(folder.rglob("*")) == before


def test_transfer_must_be_a_number(folder, capsys):
    with pytest.raises(SystemExit):
        quantize(folder, "--transfer", "much")
    assert "--transfer: must be numbers T[,U[,V]] or search, not much" in capsys.readouterr().err


def test_debug_keeps_the_traceback(folder):
    with pytest.raises(OSError):
        quantize(folder, "--debug", network="none.onnx")


def test_full_disk_keeps_the_old_file(folder, monkeypatch, capsys):
    (folder / "small.q.npz").write_bytes(b"old")

    def no_space(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_space)
    before = sorted(folder.iterdir())
    assert quantize(folder) == 2
    assert "no space left on device" in capsys.readouterr().err
    assert sorted(folder.iterdir()) == before
    assert (folder / "small.q.npz").read_bytes() == b"old"


@pytest.mark.parametrize("name", ["small.onnx", "calib.npz"])
def test_an_input_is_not_replaced(folder, capsys, name):
    before = (folder / name).read_bytes()
    assert quantize(folder, output=name) == 2
    assert "is an input of the command, too, and would be replaced" in capsys.readouterr().err
    assert (folder / name).read_bytes() == before
    assert quantize(folder) == 0
    network = (folder / "small.q.npz").read_bytes()
    arguments = ["-f", "integer", "-o", str(folder / "small.q.npz")]
    assert run_command(main, ["export", str(folder / "small.q.npz"), *arguments]) == 2
    assert prove_files(folder, output="small.q.npz") == 2
    assert (folder / "small.q.npz").read_bytes() == network
