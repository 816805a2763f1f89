"""The command line: files, exit codes, and nothing half-written."""

import numpy as np
import onnx
import pytest

from quant.__main__ import main
from ref import load_model, logits
from ref.errors import run_command
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
    ([], "search"), (["--transfer", "0.5"], 0.5), (["--transfer", "search"], "search")])
def test_weight_scale_and_transfer(folder, extra, transfer):
    assert quantize(folder, "--weight-scale", "tensor", *extra) == 0
    settings = load_model(folder / "small.q.npz").metadata["settings"]
    assert settings["weight_scale"] == "tensor" and settings["transfer"] == transfer


def test_transfer_out_of_range(folder, capsys):
    assert quantize(folder, "--transfer", "2") == 2
    assert "the transfer exponent t is 2.0; choose it" in capsys.readouterr().err
    assert not (folder / "small.q.npz").exists()


def test_transfer_must_be_a_number(folder, capsys):
    with pytest.raises(SystemExit):
        quantize(folder, "--transfer", "much")
    assert "--transfer: must be a number or search, not much" in capsys.readouterr().err


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
