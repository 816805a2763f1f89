"""Quantized small networks against their float originals, and the rules every model keeps."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quant import (
    Settings,
    balance,
    calibrate,
    import_onnx,
    prepare,
    prove,
    quantize,
    with_settings,
)
from quant.evaluate import evaluate, evaluate_tensors, real_input
from ref import Conv2d, Data, UserError, logits, quantize_input, run_layers, save_model
from ref.onnx_integer import integer_onnx
from ref.oracles import run_integer_onnx
from tests.quant.graphs import Graph
from tests.quant.networks import depthwise_graph, depthwise_network, image_data


def snr(real, found):
    """Signal over noise in dB."""
    return 10 * np.log10((real ** 2).sum() / ((real - found) ** 2).sum())


def dequantized(model, name, integers):
    return integers * np.reshape(model.tensors[name].scale, (-1, 1, 1))


@pytest.mark.parametrize("cap", [None, 6.0])
def test_every_tensor_dequantizes_to_the_float_tensor_of_its_name(tmp_path, cap):
    network, data = depthwise_network(tmp_path, cap=cap), image_data()
    model = quantize(network, data)
    maps = run_layers(model, data.x)
    for name, real in evaluate_tensors(network, real_input(network, data, np.float64)):
        assert snr(real, dequantized(model, name, maps[name])) > 28, name


def test_integer_onnx_agrees(tmp_path):
    model, data = quantize(depthwise_network(tmp_path), image_data()), image_data(seed=2)
    found = run_integer_onnx(integer_onnx(model), data.x)[model.output_tensor.name]
    assert np.array_equal(found.reshape(len(data), -1), logits(model, data.x))


@pytest.mark.parametrize("preset", ["w8a8", "w6a8", "w5a8", "w4a8", "w4a4"])
def test_rules_of_the_integer_contract(tmp_path, preset):
    model = quantize(depthwise_network(tmp_path), image_data(), preset)
    largest = (1 << (int(preset[1]) - 1)) - 1
    for layer in model.layers:
        rule = layer.requantization
        assert (rule.multiplier % 2 == 1).all() and rule.multiplier.max() < 1 << 15
        assert np.abs(rule.bias).max() < 1 << 23 and layer.proof.bits <= 24
        if isinstance(layer, Conv2d):
            assert layer.weight_bits == int(preset[1])
            assert np.abs(layer.weight.astype(int)).max() <= largest
    assert model.metadata["preset"] == preset
    assert model.metadata["settings"]["transfer"] == ("search" if preset in ("w5a8", "w4a8")
                                                      else 0.2)
    assert model.output_tensor.signed and model.output_tensor.scale.shape == ()
    inner = [tensor for name, tensor in model.tensors.items() if name.startswith("clip")]
    assert all(not tensor.signed and tensor.bits == int(preset[3]) for tensor in inner)


@pytest.mark.parametrize("bits", [2, 3])
def test_few_bits_are_exact_too(tmp_path, bits):
    settings = with_settings(Settings(activation_bits=bits), weight_bits=bits)
    model, data = quantize(depthwise_network(tmp_path), image_data(), settings), image_data(seed=2)
    weights = {int(value) for layer in model.layers if isinstance(layer, Conv2d)
               for value in np.unique(layer.weight)}
    assert weights == set(range(1 - (1 << (bits - 1)), 1 << (bits - 1)))
    found = run_integer_onnx(integer_onnx(model), data.x)[model.output_tensor.name]
    assert np.array_equal(found.reshape(len(data), -1), logits(model, data.x))


def test_scales_per_channel_into_depthwise_layers_and_pools(tmp_path):
    network, data = depthwise_network(tmp_path, cap=None), image_data()
    model = quantize(network, data, Settings(transfer=0.0, calibration="max"))
    calibration = calibrate(network, data, "max")
    readers = {layer.input: layer for layer in network.layers}
    for name, tensor in model.tensors.items():
        if name in (network.input, network.output):
            continue
        free = getattr(readers[name], "channelwise", True)
        if free:
            reach = calibration.tensors[name].hi
            alive = reach > reach.max() / 100
            assert np.allclose(tensor.scale[alive] * 255, reach[alive], rtol=1e-6)
        elif getattr(network.layers[-2], "output", "") != name:
            assert tensor.scale.shape == ()     # t = 0: nothing was transferred


def test_caps_become_clip_bounds(tmp_path):
    network, data = depthwise_network(tmp_path, cap=0.5), image_data()
    model = quantize(network, data)
    for layer, original in zip(model.layers, network.layers, strict=True):
        if isinstance(layer, Conv2d) and original.activation is not None:
            scale = model.tensors[layer.output].scale
            upper = layer.requantization.hi * scale
            assert (layer.requantization.lo == 0).all()
            assert (upper <= 0.5 + scale / 2 + 1e-12).all()


@pytest.mark.parametrize(("dtype", "zero", "scale"), [
    ("uint8", 128.0, 1 / 64), ("uint8", [120.0, 128.0, 127.5], [1 / 64, 1 / 50, 1 / 70]),
    ("int8", -3.0, 1 / 64), ("int16", 0.0, 1 / 8000), ("int16", 500.0, 1 / 8000)])
def test_input_scale_and_zero_point_fold_into_the_first_layer(tmp_path, dtype, zero, scale):
    network = depthwise_network(tmp_path, cap=None)
    x = image_data().x.astype(np.int32)
    if dtype != "uint8":
        x = (x - 128) * (1 if dtype == "int8" else 128)
    data = Data(x.astype(dtype), None, np.array(scale), np.array(zero))
    model = quantize(network, data)
    natural = dtype != "int16"
    assert (model.input.multiplier, model.input.shift) == (1, 0) or not natural
    if natural:
        assert np.array_equal(quantize_input(model, data.x), data.x)
    stem = network.layers[0].output
    real = dict(evaluate_tensors(network, real_input(network, data, np.float64)))[stem]
    found = dequantized(model, stem, run_layers(model, data.x)[stem])
    limit = 40 if natural else 33
    assert snr(real, found) > limit
    assert snr(real[:, :, -1], found[:, :, -1]) > limit - 4     # the padded border as well


def test_wide_input_that_is_never_negative_is_unsigned(tmp_path):
    data = image_data()
    wide = Data(data.x.astype(np.int16) * 100, None, np.array(1e-4), np.array(0.0))
    model = quantize(depthwise_network(tmp_path), wide)
    assert not model.input_tensor.signed and quantize_input(model, wide.x).max() > 127
    small = Data(data.x.astype(np.uint16), None, np.array(1e-2), np.array(0.0))
    assert quantize(depthwise_network(tmp_path), small).input.multiplier == 1


def test_network_that_starts_with_a_pool(tmp_path):
    graph = Graph(("N", 3, 12, 10)).add("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    graph.conv(6, 3, 3).add("Relu").add("GlobalAveragePool").add("Flatten")
    network = import_onnx(graph.save(tmp_path))
    data = image_data()
    model = quantize(network, data)
    real = evaluate(network, real_input(network, data))[:, :, 0, 0]
    assert snr(real, logits(model, data.x) * model.output_tensor.scale) > 30


def test_scores_from_a_mean_share_one_scale(tmp_path):
    graph = depthwise_graph()
    del graph.nodes[-2:]
    graph.last = graph.nodes[-1].output[0]
    model = quantize(graph.save(tmp_path), image_data())
    assert model.output_tensor.scale.shape == ()


def test_scores_share_one_scale_where_one_class_cannot_be_that_fine(tmp_path):
    graph = Graph(("N", 2)).add("Gemm", np.array([[100.0, 0.1, 0.2], [-100.0, 0.1, 0.1]]))
    column = np.random.default_rng(0).integers(0, 256, (50, 1)).astype(np.uint8)
    data = Data(np.repeat(column, 2, axis=1), None, np.array(1.0), np.array(0.0))
    model = quantize(graph.save(tmp_path), data)
    assert model.output_tensor.scale.shape == () and model.output_tensor.scale > 100 / 127


def test_dead_channels_do_not_disturb_the_others(tmp_path):
    graph = depthwise_graph(cap=None)
    stem = next(tensor for tensor in graph.constants if tensor.dims[:1] == [12])
    weight = np.frombuffer(stem.raw_data, np.float32).reshape(12, 3, 3, 3).copy()
    weight[::2] *= 1e-13
    stem.raw_data = weight.tobytes()
    bias = graph.constants[1]
    values = np.frombuffer(bias.raw_data, np.float32).copy()
    values[0::4], values[2::4] = -1e-13, -100.0
    bias.raw_data = values.tobytes()
    network, data = import_onnx(graph.save(tmp_path)), image_data()
    model = quantize(network, data)
    scale = model.tensors[network.layers[0].output].scale
    assert scale.min() > scale.max() / 1000
    # Constant channels have constants no larger than the living ones' sums: no wider accumulator.
    assert all(layer.proof.bits <= 20 for layer in model.layers)
    real = evaluate(network, real_input(network, data))[:, :, 0, 0]
    assert snr(real, logits(model, data.x) * model.output_tensor.scale) > 28


@settings(max_examples=10, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_channel_is_too_small(tmp_path, data):
    """Channels of any layer scaled by down to 1e-14: constants stay small, the others exact."""
    graph = depthwise_graph(cap=None, seed=data.draw(st.integers(0, 99)))
    for tensor in graph.constants:
        if len(tensor.dims) == 4 and tensor.dims[0] == 12:
            dead = data.draw(st.lists(st.booleans(), min_size=12, max_size=12))
            factor = 10.0 ** data.draw(st.integers(-14, -3))
            weight = np.frombuffer(tensor.raw_data, np.float32).reshape(tensor.dims)
            scale = np.where(dead, factor, 1.0).reshape(-1, *(1,) * (len(tensor.dims) - 1))
            tensor.raw_data = (weight * scale).astype(np.float32).tobytes()
    network, image = import_onnx(graph.save(tmp_path)), image_data()
    model = quantize(network, image)
    for name in [layer.output for layer in network.layers]:
        scale = np.atleast_1d(model.tensors[name].scale)
        assert scale.max() <= scale.min() * 2 ** 20, name
    assert all(layer.proof.bits <= 24 for layer in model.layers)
    real = evaluate(network, real_input(network, image))[:, :, 0, 0]
    found = logits(model, image.x) * model.output_tensor.scale
    assert snr(real, found) > 25


def test_accumulators_beyond_24_bits_are_made_to_fit(tmp_path):
    graph = Graph(("N", 2000)).add("Gemm", np.ones((2000, 3)) * [1.0, 0.5, -1.0])
    data = Data(np.random.default_rng(0).integers(0, 256, (50, 2000)).astype(np.uint8), None,
                np.array(1.0), np.array(0.0))
    network = import_onnx(graph.save(tmp_path))
    model = quantize(network, data)
    assert model.layers[0].proof.bits <= 24
    real = evaluate(network, real_input(network, data))[:, :, 0, 0]
    assert snr(real, logits(model, data.x) * model.output_tensor.scale) > 35


def test_sum_that_cannot_fit_is_refused(tmp_path):
    graph = Graph(("N", 1, 400, 400)).add("GlobalAveragePool")
    data = Data(np.full((1, 1, 400, 400), 9, np.uint8), None, np.array(1.0), np.array(0.0))
    with pytest.raises(UserError, match=re.escape(
            "layer 'globalaveragepool0' needs an accumulator of 27 bits, and 24 are allowed; use a "
            "smaller pooling window or fewer activation bits, or allow wider ones")):
        quantize(graph.save(tmp_path), data)


def test_bias_correction_removes_a_mean_error(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    real = evaluate(network, real_input(network, data))[:, :, 0, 0]
    error = {}
    for correct in (False, True):
        model = quantize(network, data, Settings(weight_bits=4, rounding="nearest",
                                                  bias_correction=correct))
        error[correct] = np.abs(
            (logits(model, data.x) * model.output_tensor.scale - real).mean(axis=0)).mean()
    assert error[True] < 0.7 * error[False]


def test_proofs_are_those_of_the_model(tmp_path):
    model = quantize(depthwise_network(tmp_path), image_data())
    proofs = prove(model)
    assert list(proofs) == [layer.name for layer in model.layers]
    for layer in model.layers:
        assert (proofs[layer.name].lo, proofs[layer.name].hi) == (layer.proof.lo, layer.proof.hi)


def test_same_bytes_twice(tmp_path):
    path = depthwise_graph().save(tmp_path)
    for name in ("a", "b"):
        save_model(quantize(path, image_data()), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_arrays_are_calibration_data_too(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    model = quantize(network, data.x)
    plain = quantize(network, Data(data.x, None, np.ones(()), np.zeros(())))
    assert np.array_equal(logits(model, data.x), logits(plain, data.x))


@pytest.mark.parametrize(("calib", "preset", "sentence"), [
    (image_data((3, 12, 11)), "w8a8", "the data's samples have shape (3, 12, 11), and the network "
     "'small' takes (3, 12, 10); store x with the network's own input shape"),
    (image_data(), "w9a9", "preset 'w9a9' is unknown; use one of w8a8, w6a8, w5a8, w4a8"),
    (np.zeros((4, 3, 12, 10), bool), "w8a8", "the calibration array is bool of shape (4, 3, 12, "
     "10); give integers of at most 32 bits or floats, whose first axis holds the samples"),
    (Data(image_data().x, None, np.array(1e38), np.array(0.0)), "w8a8",
     "is not finite on the calibration data; check the network and the data's scale"),
    (Data(image_data().x, None, np.array(1.0), np.array(-1000.0)), "w8a8",
     "layer 'conv0' pads the input with zero, which is integer -1000 of the input's 0..255; store "
     "x with a zero point inside"),
    (image_data(), Settings(calibration="mode"), "calibration method 'mode' is unknown; use one of "
     "max, percentile, mse"),
])
def test_what_is_refused(tmp_path, calib, preset, sentence):
    network = depthwise_network(tmp_path, cap=None)
    with pytest.raises(UserError, match=re.escape(sentence)), np.errstate(all="ignore"):
        quantize(network, calib, preset)


@pytest.mark.parametrize("settings", [Settings(), Settings(weight_bits=4, rounding="greedy"),
                                      Settings(weight_scale="tensor", transfer="search")], ids=str)
def test_step_by_step_is_the_same(tmp_path, settings):
    path, data = depthwise_graph().save(tmp_path), image_data()
    whole = quantize(path, data, settings)
    network = prepare(import_onnx(path), data)
    balanced = balance(network, calibrate(network, data, settings.calibration), settings)
    steps = quantize(balanced, data, settings)
    # The name of the file is all that a balanced network does not know; 1 / factor is rounded.
    report = steps.metadata["balance"]
    for name, entry in whole.metadata["balance"].items():
        assert np.allclose(list(entry.values()), list(report[name].values()), rtol=1e-12)
    metadata = whole.metadata | {"float": "small"}
    save_model(replace(steps, metadata=metadata), tmp_path / "steps.npz")
    save_model(replace(whole, metadata=metadata), tmp_path / "whole.npz")
    assert (tmp_path / "steps.npz").read_bytes() == (tmp_path / "whole.npz").read_bytes()


def test_a_balanced_network_must_be_prepared(tmp_path):
    graph = Graph(("N", 3, 4, 4)).add("MaxPool", kernel_shape=[2, 2]).conv(4, 3)
    network, data = import_onnx(graph.save(tmp_path)), image_data((3, 4, 4))
    with pytest.raises(UserError, match="needs a convolution before all that reads its input"):
        quantize(balance(network, calibrate(network, data), Settings()), data)
    network = prepare(network, data)
    balanced = balance(network, calibrate(network, data), Settings())
    assert len(quantize(balanced, data).layers) == 3
