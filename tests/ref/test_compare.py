"""The comparison's numbers, its command line and its messages."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from ref import Data, UserError, load_data, load_model, logits, ops, run, run_layers, save_model
from ref.compare import compare, main
from ref.errors import run_command
from ref.oracles import run_float
from tests.ref.random_models import random_model

SCALE, SAMPLES = 0.25, 45


@pytest.fixture
def model():
    """One fully connected layer whose scores share a scale."""
    model = random_model(np.random.default_rng(11), layers=0, bits=8, identity_input=True)
    result = replace(model.output_tensor, scale=np.array(0.125))
    return replace(model, tensors=model.tensors | {result.name: result},
                   input=replace(model.input, x_scale=np.array(SCALE)))


@pytest.fixture
def data(model):
    """More samples than one batch, labelled with the integer answer but for nine of them."""
    limits = np.iinfo(model.input.dtype)
    x = np.random.default_rng(12).integers(
        limits.min, limits.max, (SAMPLES, *model.input_tensor.shape), endpoint=True,
        dtype=model.input.dtype)
    y = logits(model, x).argmax(axis=1)
    y[::5] += 1
    return Data(x, y, np.array(SCALE), np.array(0.0))


def float_network(model, batch, path):
    """A float convolution that stands for the model's layer, off by a little."""
    layer = model.layers[0]
    rule = layer.requantization
    gain = rule.multiplier / 2.0**rule.shift * 0.125
    weight = layer.weight * gain.reshape(-1, 1, 1, 1) / SCALE
    bias = rule.bias * gain + 0.01
    outputs = len(weight)
    proto = helper.make_model(helper.make_graph(
        [helper.make_node("Conv", ["real", "weight", "bias"], [layer.output]),
         helper.make_node("Flatten", [layer.output], ["scores"])], "float",
        [helper.make_tensor_value_info("real", onnx.TensorProto.FLOAT,
                                       [batch, *model.input_tensor.shape])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [batch, outputs])],
        [numpy_helper.from_array(weight.astype(np.float32), "weight"),
         numpy_helper.from_array(bias.astype(np.float32), "bias")]),
        ir_version=10, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(proto, path)
    return path


def test_accuracy_and_oracles_without_a_float_network(model, data):
    result = compare(model, data)
    assert result["samples"] == SAMPLES and result["metric"] == "top-1"
    assert result["integer"] == pytest.approx(100 * 36 / 45) and result["float"] is None
    assert result["mismatches"] == {"integer-onnx/onnxruntime": 0, "integer-onnx/reference": 0,
                                    "qlinearconv/onnxruntime": 0}
    assert result["oracle_samples"] == {"integer-onnx/onnxruntime": 45, "integer-onnx/reference": 4,
                                        "qlinearconv/onnxruntime": 45}
    assert compare(model, data, reference_samples=45)["oracle_samples"][
        "integer-onnx/reference"] == 45
    assert result["layers"] == [] and result["first_mismatch"] is None
    assert compare(model, data, samples=3)["samples"] == 3
    assert compare(model, Data(data.x, None, data.x_scale, data.x_zero_point))["integer"] is None


@pytest.mark.parametrize("batch", ["N", 1, 7])
def test_layer_errors_against_the_float_network(model, data, batch, tmp_path):
    path = float_network(model, batch, tmp_path / "net.onnx")
    result = compare(model, data, path)
    scores = run_float(path, data.real())["scores"].astype(np.float64)
    assert scores.shape == (SAMPLES, model.output_tensor.shape[0])
    integers = run(model, data.x)[:, :, 0, 0] * 0.125
    error = integers - scores
    (layer,) = result["layers"]
    assert layer["name"] == model.output_tensor.name
    assert layer["snr_db"] == pytest.approx(10 * math.log10((scores**2).sum() / (error**2).sum()))
    assert layer["cosine"] == pytest.approx(
        (scores * integers).sum() / math.sqrt((scores**2).sum() * (integers**2).sum()))
    assert layer["max_error"] == pytest.approx(np.abs(error).max())
    assert result["float"] == pytest.approx(100 * np.mean(scores.argmax(axis=1) == data.y))


def test_command_line(model, data, tmp_path, capsys):
    net, test, out = (str(tmp_path / name) for name in ("net.q.npz", "test.npz", "out.json"))
    save_model(model, net)
    np.savez(test, x=data.x, y=data.y, x_scale=data.x_scale)
    path = str(float_network(model, "N", tmp_path / "net.onnx"))
    assert run_command(main, [net, "--float", path, "--data", test, "--samples", "20",
                              "--json", out]) == 0
    printed = capsys.readouterr().out
    assert "integer-onnx/onnxruntime" in printed and "80.00 %" in printed
    with open(out) as file:
        assert json.load(file) == compare(model, data, path, 20)


def test_a_dump_that_differs_is_named_saved_and_met_again(model, data, tmp_path, capsys,
                                                          monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = model.output_tensor
    maps = {name: values.astype(np.int16) for name, values in run_layers(model, data.x).items()}
    true = int(maps[result.name][35, 2, 0, 0])
    maps[result.name][35, 2, 0, 0] += 1
    save_model(model, "net.q.npz")
    np.savez("test.npz", x=data.x, y=data.y, x_scale=data.x_scale)
    np.savez("maps.npz", **maps)
    command = ["net.q.npz", "--data", "test.npz"]
    assert main([*command, "--html", "page.html"]) == 0
    assert "the same integers" in Path("page.html").read_text()
    assert main([*command, "--dump", "maps.npz", "--html", "page.html"]) == 1
    message = capsys.readouterr().err
    layer = model.layers[-1]
    accumulator = int(ops.conv2d(run_layers(model, data.x[35:36])[layer.inputs[0]], layer.weight,
                                 layer.window, layer.pad_value, layer.groups)[0, 2, 0, 0]
                      + layer.requantization.bias[2])
    assert (f"maps.npz differs first in layer {layer.name!r} (Conv2d), sample 35, channel 2, row "
            f"0, column 0: {true + 1} instead of {true} (accumulator {accumulator} ") in message
    assert "Not equal" in Path("page.html").read_text() and "a reproducer is in mismatch" in message
    stored = json.loads(Path("mismatch/mismatch.json").read_text())
    assert (stored["given"], stored["expected"], stored["differing"]) == (true + 1, true, 1)
    stored = np.load("mismatch/maps.npz")
    assert np.array_equal(stored["given"], maps[result.name][35])
    alone = load_model("mismatch/layer.q.npz")
    again = run(alone, load_data("mismatch/data.npz").x)
    assert np.array_equal(again[0], stored["expected"])
    assert main(["mismatch/layer.q.npz", "--data", "mismatch/data.npz"]) == 0


def test_few_samples_of_large_maps_are_held(model, data, monkeypatch):
    whole = compare(model, data)
    monkeypatch.setattr("ref.compare.BATCH_VALUES", 1)
    assert compare(model, data) == whole


def test_dumps_that_do_not_fit_are_refused(model, data, tmp_path):
    name, path = model.output_tensor.name, tmp_path / "maps.npz"
    for arrays, words in (({"other": np.zeros((1, 2), int)}, "has no such tensor"),
                          ({name: np.zeros((1, 2, 1, 1), int)}, "is integers of shape"),
                          ({name: np.zeros((1, *model.output_tensor.shape))}, "is float64"),
                          ({}, "holds no feature maps")):
        np.savez(path, **arrays)
        with pytest.raises(UserError, match=words):
            compare(model, data, dumps=[path])


def test_errors_are_one_sentence(model, data, tmp_path, capsys):
    net, test = str(tmp_path / "net.q.npz"), str(tmp_path / "test.npz")
    np.savez(test, x=data.x.astype(np.int32), x_scale=data.x_scale)
    assert run_command(main, [net, "--data", test]) == 2
    assert capsys.readouterr().err.startswith(f"error: {net}: no such file or directory;")
    save_model(model, net)
    assert run_command(main, [net, "--data", test]) == 2
    assert "was quantized for" in capsys.readouterr().err
    with pytest.raises(UserError, match="was quantized for"):
        run_command(main, [net, "--data", test, "--debug"])
    np.savez(test, x=data.x, x_scale=data.x_scale)
    foreign = tmp_path / "foreign.onnx"
    foreign.write_bytes(b"not a network at all")
    assert run_command(main, [net, "--data", test, "--float", str(foreign)]) == 2
    error = capsys.readouterr().err
    assert "is not an ONNX file" in error and error.count("\n") == 1


def test_a_float_network_of_another_shape_is_refused(model, data, tmp_path):
    other = random_model(np.random.default_rng(13), layers=0, bits=8, identity_input=True)
    assert other.input_tensor.shape != model.input_tensor.shape
    path = float_network(other, "N", tmp_path / "net.onnx")
    with pytest.raises(UserError, match="onnxruntime cannot run the network"):
        compare(model, data, path)
