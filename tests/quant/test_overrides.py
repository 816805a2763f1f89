"""Overrides of single layers: which layers they reach, what they change, what is refused."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from quant import Settings, quantize
from quant.__main__ import main
from quant.overrides import parse_override
from ref import Conv2d, MaxPool2d, UserError, load_model, run_layers, save_model
from ref.errors import run_command
from ref.onnx_integer import integer_onnx
from ref.oracles import run_integer_onnx
from tests.quant.graphs import Graph
from tests.quant.networks import depthwise_network, image_data


def test_last_matching_override_of_each_setting_wins():
    settings = Settings(overrides={
        "conv.*": {"weight_bits": 6, "activation_bits": 5}, "conv1": {"weight_bits": 3},
        ".*2": {"rounding": "nearest"}})
    found = {name: settings.of(name) for name in ("conv1", "conv12", "other", "xconv1")}
    assert (found["conv1"].weight_bits, found["conv1"].activation_bits) == (3, 5)
    assert (found["conv12"].weight_bits, found["conv12"].rounding) == (6, "nearest")
    assert found["other"] == found["xconv1"] == Settings()      # the whole name must match


def test_layers_have_the_widths_asked_for(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    settings = Settings(overrides={"conv[0-9]": {"weight_bits": 5, "activation_bits": 6},
                                   "conv3": {"weight_bits": 3, "rounding": "nearest"}})
    model = quantize(network, data, settings)
    widths = {layer.name: (layer.weight_bits, model.tensors[layer.output].bits)
              for layer in model.layers if isinstance(layer, Conv2d)}
    for name, (weight_bits, activation_bits) in widths.items():
        asked = settings.of(name)
        last = name == model.layers[-1].name
        assert (weight_bits, activation_bits) == (asked.weight_bits,
                                                  8 if last else asked.activation_bits)
    assert len(set(widths.values())) == 3
    found = run_integer_onnx(integer_onnx(model), data.x)
    assert all(np.array_equal(found[name].reshape(value.shape), value)
               for name, value in run_layers(model, data.x).items() if name in found)


def test_rounding_of_one_layer_changes_that_layer_only(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    plain, mixed = (quantize(network, data, Settings(weight_bits=4, rounding="nearest",
                                                   overrides=overrides))
                    for overrides in ({}, {"conv5": {"rounding": "greedy"}}))
    changed = [layer.name for layer, other in zip(mixed.layers, plain.layers, strict=True)
               if isinstance(layer, Conv2d) and not np.array_equal(layer.weight, other.weight)]
    assert changed == ["conv5"]


def test_joined_maps_have_the_largest_width_asked_for(tmp_path):
    graph = Graph(("N", 3, 12, 10)).conv(6, 3).add("Relu")
    graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).conv(4, 6).add("Relu")
    graph.add("GlobalAveragePool").add("Flatten")
    settings = Settings(activation_bits=4, overrides={"conv0": {"activation_bits": 6}})
    model = quantize(graph.save(tmp_path), image_data(), settings)
    pool = next(layer for layer in model.layers if isinstance(layer, MaxPool2d))
    assert [model.tensors[name].bits for name in (*pool.inputs, pool.output)] == [6, 6]


def test_maps_of_input_integers_keep_the_width_of_the_input(tmp_path):
    graph = Graph(("N", 3, 12, 10)).add("SpaceToDepth", blocksize=2)
    graph.conv(4, 12).add("Relu").conv(4, 4)
    data = image_data()
    data = type(data)(data.x, None, np.array(1 / 64), np.array(0.0))
    model = quantize(graph.save(tmp_path), data, Settings(activation_bits=4))
    assert [tensor.bits for tensor in model.tensors.values()] == [8, 8, 4, 16]


def test_settings_round_trip_through_the_file(tmp_path):
    settings = Settings(overrides={r"conv\d": {"weight_bits": 6, "activation_bits": 7}})
    model = quantize(depthwise_network(tmp_path), image_data(), settings)
    save_model(model, tmp_path / "small.q.npz")
    stored = load_model(tmp_path / "small.q.npz").metadata["settings"]
    assert Settings(**stored) == settings and json.loads(json.dumps(asdict(settings))) == stored


@pytest.mark.parametrize(("settings", "sentence"), [
    ({"weight_bits": 4.0}, "4.0 weight bits are not supported; choose 2 to 8"),
    ({"overrides": {"(": {"weight_bits": 4}}}, r"'\(' is not a regular expression \(missing \)"),
    ({"overrides": {"a": {}}}, "override 'a' sets nothing; a layer's own settings are"),
    ({"overrides": {"a": {"transfer": 0.5}}}, "'a' sets transfer; a layer's own settings are "
                                              "weight_bits, weight_code, activation_bits, "
                                              "activation_code, rounding"),
    ({"overrides": {"a": {"weight_bits": "6"}}}, "the override 'a': '6' weight bits are not"),
    ({"overrides": {"a": {"rounding": "up"}}}, "the override 'a': the rounding 'up' is unknown"),
])
def test_bad_settings_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Settings(**settings)


@pytest.mark.parametrize(("overrides", "sentence"), [
    ({"conv3": {"weight_bits": 6}, "con": {"weight_bits": 6}},
     "the override 'con' matches no layer of 'small'; its layers are conv0, "),
    ({"globalaveragepool.*": {"activation_bits": 7, "weight_bits": 6}},
     "sets weight_bits, and no layer it matches has weights; name others, or leave it out"),
    ({"gemm.*": {"activation_bits": 6}}, "no layer it matches makes new activations"),
])
def test_patterns_that_reach_nothing_are_refused_before_any_work(tmp_path, overrides, sentence):
    stages = []
    with pytest.raises(UserError, match=sentence):
        quantize(depthwise_network(tmp_path), image_data(), Settings(overrides=overrides),
                 progress=lambda stage, done, total: stages.append(stage))
    assert "balance" not in stages


def test_parsed_overrides():
    assert parse_override("a:b.*:weight_bits=6,rounding=greedy") == (
        "a:b.*", {"weight_bits": 6, "rounding": "greedy"})
    for text in ("a", "a:", ":weight_bits=6", "a:weight_bits", "a:weight_bits=", "a:=3"):
        with pytest.raises(UserError, match=f"the override '{text}' is not of the form REGEX:set"):
            parse_override(text)


def test_command_line(tmp_path, capsys):
    depthwise_network(tmp_path)
    data = image_data()
    np.savez(tmp_path / "calib.npz", x=data.x, x_scale=1 / 64, x_zero_point=127.5)
    command = ["quantize", str(tmp_path / "small.onnx"), "--calib", str(tmp_path / "calib.npz"),
               "-o", str(tmp_path / "small.q.npz")]
    assert run_command(main, [*command, "--override", "conv.*:weight_bits=5", "--override",
                              "conv0:weight_bits=8,activation_bits=7"]) == 0
    model = load_model(tmp_path / "small.q.npz")
    assert model.metadata["settings"]["overrides"] == {
        "conv.*": {"weight_bits": 5}, "conv0": {"weight_bits": 8, "activation_bits": 7}}
    assert [layer.weight_bits for layer in model.layers[:2]] == [8, 5]
    for given, sentence in ((["x:weight_bits=5"], "the override 'x' matches no layer"),
                            (["a:weight_bits=5", "a:rounding=greedy"], "'a' is given twice; put")):
        flags = [text for value in given for text in ("--override", value)]
        assert run_command(main, [*command, *flags]) == 2
        assert sentence in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*command, "--override", "x"])
    assert "is not of the form REGEX:setting=value" in capsys.readouterr().err
