"""The analysis: each of its numbers measured another way, its page, and its command."""

import json
import math
import shutil
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from quant import Settings, analyze, quantize
from quant.__main__ import main
from quant.analysis_page import render
from quant.coarser import Coarser
from quant.evaluate import evaluate, evaluate_layer, evaluate_tensors, reevaluate
from quant.graph import FloatConv
from quant.import_onnx import import_onnx
from quant.tables import print_analysis
from quant.twin import Twin
from ref.errors import UserError, run_command
from ref.file import load_model, save_model
from ref.model import Conv2d
from ref.run import run_layers
from tests.quant.graphs import Graph
from tests.quant.networks import depthwise_graph, depthwise_network, image_data
from tests.quant.test_branches import residual_graph
from tests.quant.test_quantize import snr


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    network, data = depthwise_network(tmp_path_factory.mktemp("net")), image_data()
    model = quantize(network, data, Settings(weight_bits=6))
    return network, data, model


def close(one, other):
    return math.isclose(one, other, rel_tol=1e-4)


def test_isolated_and_cumulative_errors(setting):
    network, data, model = setting
    report = analyze(model, network, data, samples=len(data))
    twin = Twin(model, network)
    real = twin.real_input(data)
    exact = dict(evaluate_tensors(twin.network, real))
    integers = run_layers(model, data.x)
    for layer in report["layers"]:
        name = layer["output"]
        scale = model.tensors[name].scale.reshape(-1, 1, 1)
        assert close(layer["cumulative"]["snr_db"], snr(exact[name], integers[name] * scale))
        alone = evaluate(twin.with_weights({layer["name"]}), real, twin.rounding({name}))
        assert close(layer["isolated_db"], snr(exact[network.output], alone))
    full = report["accuracy"]["rows"]["full"]["snr_db"]
    assert close(report["layers"][-1]["cumulative"]["snr_db"], full)
    assert report["samples"] == len(data) == report["accuracy"]["samples"]


def test_what_is_said_of_each_layer(setting):
    network, data, model = setting
    report = analyze(model, network, data)
    assert report["samples"] == 16 and report["bits"] == [8, 6, 4]
    assert report["calibration_samples"] == 40
    assert report["settings"]["weight_bits"] == 6
    values = dict(evaluate_tensors(network, Twin(model, network).single.input_gain.reshape(-1, 1, 1)
                                   * data.head(16).real()))
    for layer, made in zip(report["layers"], model.layers, strict=True):
        value, tensor = values[layer["output"]], model.tensors[layer["output"]]
        assert layer["weight_bits"] == getattr(made, "weight_bits", None)
        assert layer["accumulator"] == {"bits": made.proof.bits, "lo": made.proof.lo,
                                        "hi": made.proof.hi}
        assert close(layer["range"]["hi"], float(value.max()))
        assert layer["range"]["largest"] == tensor.hi * tensor.scale.max()
        assert close(layer["uniformity"]["activations"],
                     float(np.sqrt((value ** 2).mean()) / np.abs(value).max()))
        assert layer["balance"] == model.metadata["balance"].get(layer["output"])
        assert layer["weight_errors"] == model.metadata["weight_errors"].get(layer["name"])
        errors = layer["activation_errors"]
        rounded = Twin(model, network).rounding()(layer["output"], value)
        assert close(errors["clipping"] + errors["rounding"],
                     float(((rounded - value) ** 2).sum() / (value ** 2).sum()))
    assert json.loads(json.dumps(report)) == report


def test_values_beyond_the_calibrated_range_are_clipped(tmp_path):
    network, data = depthwise_network(tmp_path, cap=None), image_data()
    calm = replace(data, x=(128 + (data.x.astype(int) - 128) // 4).astype(np.uint8))
    model = quantize(network, calm)
    values = dict(evaluate_tensors(network, data.head(16).real()))
    layers = analyze(model, network, data)["layers"][:-1]
    for layer in layers:
        value, tensor = values[layer["output"]], model.tensors[layer["output"]]
        beyond = value > (tensor.hi + 0.5) * tensor.scale.reshape(-1, 1, 1)
        rounded = Twin(model, network).rounding()(layer["output"], value)
        error = (rounded - value) ** 2 / (value ** 2).sum()
        assert close(layer["activation_errors"]["clipping"], float(error[beyond].sum()))
        assert close(layer["activation_errors"]["rounding"], float(error[~beyond].sum()))
    assert any(layer["activation_errors"]["clipping"] > layer["activation_errors"]["rounding"]
               for layer in layers)


def test_fewer_bits_cost_more(setting):
    network, data, model = setting
    for layer in analyze(model, network, data)["layers"]:
        for kind in ("weights", "activations"):
            tried = list(layer["sensitivity"][kind].values())
            assert tried == sorted(tried, reverse=True) and len(tried) in (0, 3)
            assert not tried or 8 < tried[0] - tried[2] < 50
        assert bool(layer["sensitivity"]["weights"]) == bool(layer["weights"])


@pytest.mark.parametrize("scale", ["channel", "tensor"])
def test_a_coarser_layer_has_so_many_levels(tmp_path, scale):
    network, data = depthwise_network(tmp_path), image_data()
    twin = Twin(quantize(network, data, Settings(weight_scale=scale)), network)
    maps = {network.input: twin.real_input(data)}
    maps |= dict(evaluate_tensors(twin.network, maps[network.input]))
    for layer in twin.network.layers:
        coarser = Coarser(layer, twin, maps, (3,))
        value = coarser.rounded(maps[layer.output], 3)
        for channel in range(value.shape[1]):
            assert len(np.unique(value[:, channel])) <= 8
        if not isinstance(layer, FloatConv):
            continue
        for row in coarser.weights[3].weight:       # -3 .. 3, in steps that the input's scales give
            source = np.abs(row).reshape(len(row), -1)
            assert all(len(np.unique(np.round(one / (one.max() or 1), 6))) <= 4 for one in source)
        if not any(layer.window.pads):              # the mean error went into the bias
            means = [evaluate_layer(replace(one, activation=None), maps[layer.input])
                     .mean(axis=(0, 2, 3)) for one in (layer, coarser.weights[3])]
            assert np.allclose(*means, rtol=1e-3, atol=1e-3)


def test_a_coarser_result_may_have_a_wider_range_than_the_model(tmp_path):
    network, data = depthwise_network(tmp_path, cap=None), image_data()
    calm = replace(data, x=(128 + (data.x.astype(int) - 128) // 4).astype(np.uint8))
    twin = Twin(quantize(network, calm, Settings(activation_bits=3)), network)
    maps = {network.input: twin.real_input(data)}
    maps |= dict(evaluate_tensors(twin.network, maps[network.input]))
    layer = twin.network.layers[0]
    value = maps[layer.output]
    coarser = Coarser(layer, twin, maps, (8, 3))
    assert snr(value, twin.rounding()(layer.output, value)) < snr(
        value, coarser.rounded(value, 3)) < 35 < snr(value, coarser.rounded(value, 8))


def test_only_what_depends_on_a_change_is_evaluated_again(tmp_path):
    network, data = import_onnx(residual_graph().save(tmp_path)), image_data()
    twin = Twin(quantize(network, data), network)
    x = twin.real_input(data)
    maps = {network.input: x} | dict(evaluate_tensors(twin.network, x))
    for layer in twin.network.layers:
        rounding = twin.rounding({layer.output})
        expected = evaluate(twin.network, x, rounding)
        changed = rounding(layer.output, maps[layer.output])
        assert np.array_equal(reevaluate(twin.network, maps, layer.output, changed), expected)


def test_batches_do_not_matter(setting, monkeypatch):
    network, data, model = setting
    whole = analyze(model, network, data)["layers"]
    monkeypatch.setattr(sys.modules["quant.analyze"], "BATCH_VALUES", 100_000)
    for one, other in zip(whole, analyze(model, network, data)["layers"], strict=True):
        assert close(one["isolated_db"], other["isolated_db"])
        assert close(one["cumulative"]["snr_db"], other["cumulative"]["snr_db"])
        assert one["range"] == other["range"]


def test_progress(setting):
    network, data, model = setting
    heard = []
    analyze(model, network, data, progress=lambda *told: heard.append(told))
    assert heard[:3] == [("accuracy", 0, 1), ("accuracy", 1, 1), ("analyze", 0, 7)]
    assert heard[3:] == [("analyze", done, 7) for done in range(1, 8)]


def test_findings(setting):
    network, data, model = setting
    report = analyze(model, network, data)
    text = "\n".join(report["findings"])
    worst = min((layer for layer in report["layers"] if layer["weights"]),
                key=lambda layer: layer["sensitivity"]["weights"]["4"])
    assert f"Most sensitive to few bits of its weights is {worst['name']} (" in text
    widest = max(layer.proof.bits for layer in model.layers)
    assert f"The widest accumulator has {widest} bits" in text


def test_findings_about_accumulators(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    model = quantize(network, data, Settings(accumulator_bits=16))
    report = analyze(model, network, data)
    narrowed = model.metadata["narrowed_channels"]
    assert narrowed and report["narrowed_channels"] == narrowed
    assert (f"Weights became coarser to fit the accumulator in {len(narrowed)} layers: "
            f"{', '.join(narrowed)}." in report["findings"])
    assert not any("wider than asked" in sentence for sentence in report["findings"])


class Page(HTMLParser):
    """Collects text, and fails on tags that do not nest and on anything from elsewhere."""

    VOID = ("meta", "br", "line", "rect", "circle", "polyline")

    def __init__(self):
        super().__init__()
        self.open, self.text, self.counts = [], [], {}

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "link", "img", "iframe") and not {
            name for name, _ in attributes} & {"src", "href", "onload", "onclick"}
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_page_is_whole_and_escaped(setting):
    network, data, model = setting
    report = analyze(model, network, data)
    report["layers"][1]["name"] = '<script>alert("x")</script>'
    page = Page()
    page.feed(render(report))
    text = "".join(page.text)
    assert not page.open and '<script>alert("x")</script>' in text
    assert page.counts["svg"] == 7 and "nan" not in text and "None" not in text
    for layer in report["layers"]:
        assert f"{layer['isolated_db']:.1f}" in text
    assert "not measured" in text                    # these data have no labels


def test_page_of_a_network_without_error(tmp_path):
    """A max pool of 8-bit integers: nothing is summed, nothing rounded."""
    network = import_onnx(Graph(("N", 3, 4, 4)).add("MaxPool", kernel_shape=[2, 2]).save(tmp_path))
    data = replace(image_data((3, 4, 4)), x_zero_point=np.array(0.0))
    report = analyze(quantize(network, data), network, data)
    assert report["layers"][0]["cumulative"]["snr_db"] is None
    page = Page()
    page.feed(render(report))
    assert not page.open
    print_analysis(report, Console(width=100))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    path, data = tmp_path_factory.mktemp("prepared"), image_data()
    depthwise_graph().save(path)
    np.savez(path / "calib.npz", x=data.x, x_scale=1 / 64, x_zero_point=127.5)
    np.savez(path / "test.npz", x=data.x[:20], y=np.zeros(20, np.int64), x_scale=1 / 64,
             x_zero_point=127.5)
    save_model(quantize(path / "small.onnx", path / "calib.npz"), path / "small.q.npz")
    return path


@pytest.fixture
def folder(prepared, tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(prepared, tmp_path / "folder"))
    return tmp_path / "folder"


def test_command(folder, capsys):
    assert run_command(main, ["analyze", "small.onnx", "--calib", "calib.npz", "--data", "test.npz",
                              "--samples", "5", "--weight-bits", "5", "-o", "out"]) == 0
    printed = capsys.readouterr().out
    assert printed.index("top-1 on 20 samples") < printed.index("dB on 5 samples")
    report = json.loads((folder / "out" / "analysis.json").read_text())
    assert report["layers"][0]["weight_bits"] == 5 and report["samples"] == 5
    page = (folder / "out" / "analysis.html").read_text()
    assert page == render(report)
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        "analysis.html", "analysis.json"]


def test_command_on_an_integer_model_is_the_same_analysis(folder):
    assert run_command(main, ["analyze", "small.onnx", "--calib", "calib.npz", "-o", "one"]) == 0
    assert run_command(main, ["analyze", "small.q.npz", "--float", "small.onnx", "--data",
                              "calib.npz", "-o", "other"]) == 0
    one, other = ((folder / name / "analysis.json").read_text() for name in ("one", "other"))
    assert one == other
    assert isinstance(load_model(folder / "small.q.npz").layers[0], Conv2d)


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["small.onnx"], "is a float network; give --calib CALIB.npz"),
    (["small.onnx", "--calib", "calib.npz", "--float", "small.onnx"], "and no --float"),
    (["small.q.npz", "--float", "small.onnx"], "give --float NET.onnx"),
    (["small.q.npz", "--float", "small.onnx", "--data", "test.npz", "--preset", "w4a8"],
     "leave out --preset, or give"),
    (["small.q.npz", "--float", "small.onnx", "--data", "test.npz", "--calib", "calib.npz"],
     "leave out --calib, or give"),
    (["small.onnx", "--calib", "calib.npz", "-o", "calib.npz"], "calib.npz is a file"),
    (["small.onnx", "--calib", "calib.npz", "-o", "absent/out"], "does not exist; create it"),
    (["small.onnx", "--calib", "calib.npz", "--samples", "0"], "ask for at least one"),
    (["small.onnx", "--calib", "calib.npz", "--data", "absent.npz"], "absent.npz"),
    (["small.onnx", "--calib", "calib.npz", "--preset", "w9"], "preset 'w9' is unknown"),
])
def test_command_refuses(folder, capsys, arguments, sentence):
    before = sorted(folder.rglob("*"))
    assert run_command(main, ["analyze", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and sentence in error and error.count("\n") == 1
    assert sorted(folder.rglob("*")) == before


def test_another_network_is_refused(folder, tmp_path):
    other = depthwise_network(tmp_path, channels=8)
    with pytest.raises(UserError, match="give the network the model was made from"):
        analyze(folder / "small.q.npz", other, folder / "test.npz")
