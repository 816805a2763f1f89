"""A model's parts in its float network: all together they are the integer network."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from quant import PRESETS, Settings, quantize
from quant.__main__ import main
from quant.accuracy import accuracy_report
from quant.evaluate import evaluate, evaluate_tensors, real_input
from quant.graph import FloatConv
from quant.import_onnx import import_onnx
from quant.twin import Twin
from ref.data import Data
from ref.errors import UserError, run_command
from ref.file import save_model
from ref.model import Conv2d
from ref.run import run, run_layers
from tests.quant.graphs import Graph
from tests.quant.networks import depthwise_graph, depthwise_network, image_data
from tests.quant.test_branches import join

SETTINGS = [Settings(), Settings(weight_bits=4, rounding="greedy"), Settings(transfer=1.0),
            Settings(weight_scale="tensor", transfer="search"), Settings(activation_bits=6),
            Settings(activation_bits=4, activation_code="ausn"), PRESETS["ausn5"]]


def branched_network(tmp_path):
    graph = Graph(("N", 3, 12, 10)).conv(8, 3, 3, pads=[1, 1, 1, 1]).add("Relu")
    source = graph.last
    graph.conv(8, 8).add("LeakyRelu", alpha=0.125)
    join(graph, "Add", source, graph.last).add("Relu").add("MaxPool", kernel_shape=[2, 2],
                                                           strides=[2, 2])
    graph.conv(6, 8).add("GlobalAveragePool").add("Flatten")
    return import_onnx(graph.save(tmp_path))


def even_data(shape=(3, 12, 10)):
    """Data whose zero is an integer: padding then is the same in both networks."""
    return replace(image_data(shape), x_zero_point=np.array(128.0))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_weights_and_activations_together_are_the_integer_network(tmp_path, settings):
    network, data = depthwise_network(tmp_path), even_data()
    model = quantize(network, data, settings)
    twin = Twin(model, network)
    both = evaluate(twin.with_weights(), twin.rounded_input(data).astype(np.float64),
                    twin.rounding())
    assert np.array_equal(np.rint(both / model.output_tensor.scale), run(model, data.x))


@pytest.mark.parametrize("wide", [False, True], ids=["uint8", "int16"])
def test_a_branched_network_too(tmp_path, wide):
    network, data = branched_network(tmp_path), even_data()
    if wide:
        data = replace(data, x=data.x.astype(np.int16) * 31, x_scale=np.array(1 / 2000),
                       x_zero_point=np.array(0.0))
    model = quantize(network, data)
    maps = run_layers(model, data.x)
    twin = Twin(model, network)
    for name, value in evaluate_tensors(twin.with_weights(), twin.rounded_input(data)
                                        .astype(np.float64), twin.rounding()):
        integers = np.rint(value / model.tensors[name].scale.reshape(-1, 1, 1))
        # The multipliers of a sum and of a leaky ReLU are rounded, so a few integers differ by one.
        assert np.abs(integers - maps[name]).max() <= 1
        assert (integers != maps[name]).mean() < 0.1


def test_an_input_in_two_planes(tmp_path):
    network, data = depthwise_network(tmp_path), even_data()
    data = replace(data, x=(data.x.astype(np.int16) - 128) * 31, x_scale=np.array(1 / 2000),
                   x_zero_point=np.array(0.0))
    model = quantize(network, data, Settings(input_bits=13))
    assert model.input.low_bits == 4
    twin = Twin(model, network)
    assert np.allclose(evaluate(twin.network, twin.real_input(data)),
                       evaluate(network, real_input(network, data)), rtol=1e-4, atol=1e-4)
    both = evaluate(twin.with_weights(), twin.rounded_input(data).astype(np.float64),
                    twin.rounding())
    assert np.array_equal(np.rint(both / model.output_tensor.scale), run(model, data.x))


def test_chosen_layers_only(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    model = quantize(network, data, Settings(weight_bits=4))
    chosen = model.layers[2]
    twin = Twin(model, network)
    changed = twin.with_weights({chosen.name})
    for before, after in zip(network.layers, changed.layers, strict=True):
        if isinstance(before, FloatConv):
            assert np.array_equal(before.weight, after.weight) == (before.name != chosen.name)
    rounding = twin.rounding({chosen.output})
    value = np.full((1, 12, 1, 1), 0.7)
    assert rounding("another", value) is value
    assert (rounding(chosen.output, value) != value).any()


def test_gained_lost_and_changed(tmp_path):
    graph = Graph(("N", 16))
    graph.add("Gemm", graph.random.normal(size=(16, 12)), np.zeros(12)).add("Relu")
    network = import_onnx(graph.add("Gemm", graph.random.normal(size=(12, 5))).save(tmp_path))
    x = graph.random.integers(-100, 100, (200, 16)).astype(np.int8)
    data = Data(x, None, np.array(0.01), np.array(0.0))
    labels = evaluate(network, real_input(network, data)).reshape(200, -1).argmax(axis=1)
    labels[:50] = (labels[:50] + 1) % 5             # the float network gets these wrong
    data = replace(data, y=labels)
    model = quantize(network, data, Settings(weight_bits=3, rounding="nearest"))
    report = accuracy_report(model, data, network)
    rows = report["rows"]
    assert report["samples"] == 200 and report["metric"] == "top-1"
    assert list(rows) == ["float", "weights", "activations", "full"]
    assert rows["float"] == {"value": 75.0}
    answers = run(model, data.x).reshape(200, -1).argmax(axis=1)
    full = rows["full"]
    assert full["value"] == 100 * (answers == labels).mean()
    assert full["gained"] == (answers == labels)[:50].sum() > 0
    assert full["lost"] == (answers != labels)[50:].sum() > full["gained"]
    assert full["changed"] > full["gained"] + full["lost"]      # from one wrong class to another
    assert rows["activations"]["snr_db"] > 30 > rows["weights"]["snr_db"]


def test_batches_do_not_matter(tmp_path, monkeypatch):
    network, data = depthwise_network(tmp_path), image_data()
    model = quantize(network, data)
    data = replace(data, y=np.zeros(len(data), np.int64))
    whole = accuracy_report(model, data, network)
    monkeypatch.setattr("quant.accuracy.BATCH", 7)
    heard = []
    parts = accuracy_report(model, data, network, lambda *told: heard.append(told))
    assert heard == [("accuracy", done, 6) for done in range(7)]
    for kind, row in whole["rows"].items():
        assert parts["rows"][kind] == pytest.approx(row)


def test_without_labels_or_without_the_float_network(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    model = quantize(network, data)
    rows = accuracy_report(model, data, network)["rows"]
    assert rows["full"]["value"] is None and rows["full"]["changed"] is None
    assert rows["full"]["snr_db"] > 20
    labelled = replace(data, y=np.zeros(len(data), np.int64))
    rows = accuracy_report(model, labelled)["rows"]
    assert list(rows) == ["full"] and set(rows["full"]) == {"value"}
    with pytest.raises(UserError, match="no labels that fit"):
        accuracy_report(model, data)


def test_another_network_is_refused(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    model = quantize(network, data)
    for other in (depthwise_network(tmp_path, channels=8), branched_network(tmp_path)):
        with pytest.raises(UserError, match="give the network the model was made from"):
            Twin(model, other)


def test_a_convolution_the_quantizer_put_first(tmp_path):
    graph = Graph(("N", 3, 4, 4)).add("MaxPool", kernel_shape=[2, 2]).conv(4, 3)
    network = import_onnx(graph.save(tmp_path))
    data = even_data((3, 4, 4))
    model = quantize(network, data)
    assert isinstance(model.layers[0], Conv2d)
    twin = Twin(model, network)
    assert [layer.name for layer in twin.network.layers] == [layer.name for layer in model.layers]
    both = evaluate(twin.with_weights(), twin.rounded_input(data).astype(np.float64),
                    twin.rounding())
    assert np.array_equal(np.rint(both / model.output_tensor.scale.reshape(-1, 1, 1)),
                          run(model, data.x))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path, data = tmp_path_factory.mktemp("prepared"), image_data()
    depthwise_graph().save(path)
    np.savez(path / "test.npz", x=data.x, y=np.zeros(len(data), np.int64), x_scale=1 / 64,
             x_zero_point=127.5)
    save_model(quantize(path / "small.onnx", path / "test.npz"), path / "small.q.npz")
    return path


@pytest.fixture
def folder(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(prepared, tmp_path / "folder"))
    return tmp_path / "folder"


def test_eval(folder, capsys):
    assert run_command(main, ["eval", "small.q.npz", "--data", "test.npz", "--float", "small.onnx",
                              "--samples", "30", "--json", "accuracy.json"]) == 0
    printed = capsys.readouterr().out
    assert "top-1 on 30 samples" in printed and "only weights in integers" in printed
    report = json.loads((folder / "accuracy.json").read_text())
    assert report["samples"] == 30 and list(report["rows"]) == [
        "float", "weights", "activations", "full"]


def test_quantize_reports_accuracy_first(folder, capsys):
    assert run_command(main, ["quantize", "small.onnx", "--calib", "test.npz", "--data",
                              "test.npz", "-o", "new.q.npz"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("top-1 on 40 samples") < printed.index("7 layers")


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["small.q.npz", "--data", "absent.npz"], "absent.npz"),
    (["small.onnx", "--data", "test.npz"], "is not a quantized model"),
    (["small.q.npz", "--data", "test.npz", "--float", "small.q.npz"], "is not an ONNX network"),
    (["small.q.npz", "--data", "test.npz", "--samples", "0"], "ask for at least one"),
    (["small.q.npz", "--data", "test.npz", "--json", "absent/a.json"], "does not exist"),
])
def test_eval_refuses(folder, capsys, arguments, sentence):
    before = sorted(folder.rglob("*"))
    assert run_command(main, ["eval", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error
    assert sorted(folder.rglob("*")) == before
