"""What `inspect` says of a network: sizes, fused operators, ranges, dead channels, refusals."""

import json

import numpy as np
import pytest

from quant.__main__ import main
from quant.inspect import inspect
from ref.data import Data
from ref.errors import UserError, run_command
from tests.quant.graphs import Graph
from tests.quant.networks import depthwise_graph, image_data


def test_sizes_kinds_and_fused_operators(tmp_path):
    report = inspect(depthwise_graph().save(tmp_path))
    layers = list(report["layers"])
    assert [layer["kind"] for layer in layers] == [
        "convolution", "depthwise", "pointwise", "depthwise", "pointwise", "average pool",
        "fully connected"]
    assert [layer["weights"] for layer in layers] == [12 * 27, 108, 144, 108, 144, 0, 60]
    assert [layer["macs"] for layer in layers] == [
        30 * 12 * 27, 30 * 108, 30 * 144, 30 * 108, 30 * 144, 0, 60]
    assert (report["weights"], report["macs"]) == (888, 30 * 828 + 60)
    assert report["input"] == {"name": "input", "shape": [3, 12, 10]} and report["samples"] is None
    assert layers[0]["stride"] == [2, 2] and layers[0]["activation"] == "ReLU6"
    assert [operator.split()[0] for operator in layers[0]["operators"]] == ["Conv", "Mul", "Clip"]
    assert [operator.split()[0] for operator in layers[2]["operators"]] == [
        "Conv", "BatchNormalization", "Clip"]
    assert [operator.split()[0] for operator in layers[6]["operators"]] == ["Flatten", "Gemm"]
    assert sum(len(layer["operators"]) for layer in layers) == sum(report["operators"].values())


def test_branches_and_what_the_host_does(tmp_path):
    graph = Graph(("N", 3, 8, 8))
    graph.conv(4, 3)
    first = graph.last
    graph.add("LeakyRelu", alpha=0.1).conv(4, 4, group=2).add("Add")
    graph.nodes[-1].input.append(first)
    graph.add("GlobalMaxPool").add("Flatten").add("Softmax")
    report = inspect(graph.save(tmp_path))
    assert [(layer["kind"], layer["activation"]) for layer in report["layers"]] == [
        ("pointwise", None), ("depthwise", "leaky ReLU 0.1"), ("grouped", None), ("add", None),
        ("max pool", None)]
    assert [text.split()[0] for text in report["host"]] == ["Flatten", "Softmax"]


def test_ranges_and_dead_channels(tmp_path):
    graph = Graph(("N", 3, 6, 6))
    weight = graph.random.normal(size=(4, 3, 1, 1))
    weight[1] *= 1e-9
    graph.add("Conv", weight.astype(np.float32), np.array([0, 0, 0, -1e3], np.float32))
    graph.add("Relu")
    data = Data(image_data((3, 6, 6)).x, None, np.array(1 / 64), np.array(127.5))
    (layer,) = inspect(graph.save(tmp_path), data)["layers"]
    assert layer["dead"] == [1, 3] and layer["zero_rows"] == [1]
    assert layer["lo"] == 0 < layer["hi"] and 0 < layer["uniformity"] < 1


def test_every_unsupported_operator_is_named(tmp_path):
    graph = Graph(("N", 3, 6, 6)).conv(4, 3).add("Tanh").conv(4, 4).add("Sigmoid")
    with pytest.raises(UserError, match=r"Tanh 'tanh\d+', Sigmoid 'sigmoid\d+' are unsupported"):
        inspect(graph.save(tmp_path))


def test_command(tmp_path, capsys):
    path, data = depthwise_graph().save(tmp_path), image_data()
    np.savez(tmp_path / "calib.npz", x=data.x, x_scale=1 / 64, x_zero_point=127.5)
    assert run_command(main, ["inspect", str(path), "--calib", str(tmp_path / "calib.npz"),
                              "--json", str(tmp_path / "report.json")]) == 0
    printed = capsys.readouterr().out
    assert "888 weights, 24,900 MACs" in printed and "40 calibration samples" in printed
    assert json.loads((tmp_path / "report.json").read_text()) == inspect(
        path, tmp_path / "calib.npz")


def test_names_are_printed_as_they_are(tmp_path, capsys):
    graph = Graph(("N", 3, 6, 6)).conv(4, 3)
    graph.nodes[0].name = "[bold]features[0]"
    assert run_command(main, ["inspect", graph.save(tmp_path)]) == 0
    assert "[bold]features[0]" in capsys.readouterr().out


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["absent.onnx"], "absent.onnx: no such file"),
    (["small.onnx", "--calib", "absent.npz"], "absent.npz"),
    (["small.onnx", "--json", "absent/report.json"], "of the output does not exist"),
])
def test_command_refuses(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    depthwise_graph().save(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run_command(main, ["inspect", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error
    assert sorted(tmp_path.rglob("*")) == before
