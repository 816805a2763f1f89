"""AUSN from the quantizer: the split of weights and activations, both roundings, the metrics."""

import dataclasses

import numpy as np
import pytest

from quant import PRESETS, Settings, quantize, with_settings
from quant.activation_codes import activation_codes, coded_steps
from quant.calibrate import BINS, Statistics
from quant.evaluate import evaluate, evaluate_tensors, real_input
from quant.graph import FloatConv
from quant.ranges import FLOOR
from quant.weight_errors import weight_errors
from quant.weights import WIDE_LOSS, LinearCode, round_weights, weight_codes, weight_steps
from ref import (
    AusnCode,
    Conv2d,
    Data,
    MaxPool2d,
    Requantization,
    UserError,
    Window,
    logits,
    run_layers,
)
from ref.onnx_integer import integer_onnx
from ref.oracles import EXECUTORS, run_integer_onnx
from tests.quant.graphs import Graph
from tests.quant.networks import depthwise_network, image_data

AUSN5 = PRESETS["ausn5"]


def convolutions(model):
    return [layer for layer in model.layers if isinstance(layer, Conv2d)]


def noise(model, network, data):
    """Mean squared error of the scores."""
    real = evaluate(network, real_input(network, data, np.float64))[:, :, 0, 0]
    return ((logits(model, data.x) * model.output_tensor.scale - real) ** 2).mean()


def test_the_preset():
    assert AUSN5 == Settings(weight_bits=5, weight_code="ausn", rounding="greedy")
    assert weight_codes(AUSN5) == (AusnCode(2, 2), AusnCode(3, 1))
    assert weight_codes(Settings(weight_bits=3, weight_code="ausn")) == (AusnCode(2, 0),)
    assert weight_codes(Settings(weight_bits=6)) == (LinearCode(6),)


@pytest.mark.parametrize("rounding", ["greedy", "nearest"])
def test_every_layer_has_a_code_and_less_noise_than_with_four_linear_bits(tmp_path, rounding):
    network, data = depthwise_network(tmp_path), image_data()
    models = {code: quantize(network, data, Settings(weight_bits=bits, weight_code=code,
                                                     rounding=rounding))
              for code, bits in (("ausn", 5), ("linear", 4))}
    for layer in convolutions(models["ausn"]):
        assert layer.weight_bits == 5 and layer.weight_code in weight_codes(AUSN5)
        assert np.isin(np.abs(layer.weight.astype(int)), layer.weight_code.levels).all()
    assert noise(models["ausn"], network, data) < noise(models["linear"], network, data)


def test_greedy_rounding_loses_less_than_nearest(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    greedy, nearest = (quantize(network, data, dataclasses.replace(AUSN5, rounding=rounding))
                       for rounding in ("greedy", "nearest"))
    assert noise(greedy, network, data) < 0.7 * noise(nearest, network, data)


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_network_that_mixes_all_kinds_of_weights_is_exact_everywhere(tmp_path, executor):
    network, data = depthwise_network(tmp_path), image_data(seed=2).head(8)
    overrides = {"conv0": {"weight_code": "linear"}, "conv3": {"weight_bits": 4},
                 "conv10": {"weight_bits": 8}}
    model = quantize(network, image_data(),
                     dataclasses.replace(AUSN5, weight_scale="tensor", overrides=overrides))
    made = convolutions(model)
    assert {layer.weight.dtype for layer in made} == {np.dtype("int8"), np.dtype("int16")}
    assert made[0].weight_code is None and made[1].weight_code.bits == 3
    maps = run_layers(model, data.x)
    del maps[model.input.tensor]
    values = run_integer_onnx(integer_onnx(model), data.x, executor, maps)
    for name, expected in maps.items():
        assert np.array_equal(values[name].reshape(expected.shape), expected), name


def test_the_split_follows_the_distribution():
    random = np.random.default_rng(0)
    energy = np.ones((1, 4096))

    def chosen(weight):
        return min(weight_codes(AUSN5), key=lambda code: weight_steps(weight, code, energy)[1])

    assert chosen(random.normal(size=(1, 4096))) == AusnCode(2, 2)
    many_ranges = random.normal(size=(1, 4096)) * np.exp(random.normal(size=(1, 4096)))
    assert chosen(many_ranges) == AusnCode(3, 1)


def test_what_a_step_loses_is_the_error_of_the_nearest_levels():
    random, code = np.random.default_rng(1), AusnCode(2, 1)
    weight, energy = random.normal(size=(3, 40)), random.uniform(1, 2, (3, 40))
    step, lost = weight_steps(weight, code, energy)
    error = weight - round_weights(weight, step, code) * step[:, None]
    assert np.allclose(lost, (error ** 2 * energy).sum(axis=1))
    largest = np.abs(weight).max(axis=1) / step
    assert (largest >= code.largest - 1e-9).all() and (largest <= 5 * code.largest).all()


def test_error_metrics_by_hand():
    """Levels up to 4 with steps of 2 at the end: beyond 5 is clipping."""
    weight = np.array([[4.9, 5.1, 3.5, 0.0]]).reshape(1, 4, 1, 1)
    layer = FloatConv("a", ("x",), "y", Window((1, 1)), weight, np.zeros(1), 1, None)
    rule = Requantization(np.zeros(1, int), np.array([1]), 16, np.array([0]), np.array([9]))
    made = Conv2d("a", ("x",), "y", np.array([[4, 4, 4, 0]], np.int8).reshape(1, 4, 1, 1), 3,
                  Window((1, 1)), 1, np.zeros(4, int), rule, None, AusnCode(2, 0))
    errors = weight_errors(layer, made, np.ones(4), np.array([2.0 ** 16]), np.ones(4))
    total = float((weight ** 2).sum())
    assert np.isclose(errors["clipping"], 1.1 ** 2 / total)
    assert np.isclose(errors["rounding"], (0.9 ** 2 + 0.5 ** 2) / total)


def test_bad_settings():
    with pytest.raises(UserError, match="weight code 'log' is unknown; use one of linear, ausn"):
        Settings(weight_code="log")
    with pytest.raises(UserError, match="AUSN weights of 2 bits do not exist; choose 3 to 8 weight "
                                        "bits, or linear ones"):
        Settings(weight_bits=2, weight_code="ausn")
    with pytest.raises(UserError, match="override 'a': AUSN weights of 2 bits do not exist"):
        with_settings(AUSN5, overrides={"a": {"weight_bits": 2}})


def coded(model):
    """Codes of the activations by tensor name."""
    return {layer.output: layer.requantization.code for layer in model.layers
            if layer.requantization.code is not None}


def test_activations_have_less_noise_than_linear_ones_of_as_many_bits(tmp_path):
    network, data = depthwise_network(tmp_path, cap=None, channels=32), image_data()
    models = {code: quantize(network, data, Settings(activation_bits=4, activation_code=code))
              for code in ("linear", "ausn")}
    codes = coded(models["ausn"])
    rectified = [layer.output for layer in network.layers[:-1]]
    assert list(codes) == rectified and set(codes.values()) <= set(activation_codes(4))
    maps = {code: run_layers(model, data.x) for code, model in models.items()}
    signal_over_noise: dict[str, list[float]] = {code: [] for code in models}
    for name, real in evaluate_tensors(network, real_input(network, data, np.float64)):
        if name in codes:
            assert np.isin(maps["ausn"][name], codes[name].bytes).all()
            assert models["ausn"].tensors[name].bits == 8
            for code, model in models.items():
                found = maps[code][name] * model.tensors[name].scale.reshape(-1, 1, 1)
                signal_over_noise[code].append(np.log10((real ** 2).sum()
                                                        / ((real - found) ** 2).sum()))
    assert np.mean(signal_over_noise["ausn"]) > np.mean(signal_over_noise["linear"])


def test_only_maps_without_a_sign_are_coded(tmp_path):
    graph = Graph(("N", 3, 12, 10))
    graph.conv(8, 3, 3).add("Relu").conv(8, 8)
    signed = graph.last
    graph.conv(8, 8).add("Relu").add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    graph.add("GlobalAveragePool").add("Flatten").add("Gemm", graph.random.normal(size=(8, 5)))
    settings = Settings(activation_bits=5, activation_code="ausn")
    model = quantize(graph.save(tmp_path), image_data(), settings)
    codes = {layer.output: getattr(getattr(layer, "requantization", layer), "code", None)
             for layer in model.layers}
    bits = {name: model.tensors[name].bits for name in codes}
    assert codes[signed] is None and bits[signed] == 5 and model.tensors[signed].signed
    assert sum(code is not None for code in codes.values()) == 3
    pool = next(layer for layer in model.layers if isinstance(layer, MaxPool2d))
    assert [bits[name] for name in (*pool.inputs, pool.output)] == [8, 8]
    values = run_integer_onnx(integer_onnx(model), image_data().x[:4])
    assert np.array_equal(values[model.output_tensor.name], logits(model, image_data().x[:4]))


def statistics(*channels):
    """Of channels of values >= 0."""
    values = np.array(channels)
    histogram = np.stack([np.histogram(one, BINS, (0, one.max() or 1))[0] for one in values])
    return Statistics(np.zeros(len(values)), values.max(axis=1), values.mean(axis=1),
                      (values ** 2).mean(axis=1), histogram)


@pytest.mark.parametrize("method", ["mse", "max", "percentile"])
def test_code_and_steps_of_maps(method):
    random = np.random.default_rng(0)
    even = random.uniform(0, 1, 20000)
    long_tail = np.exp(random.normal(0, 1.5, 20000))
    code, step = coded_steps([statistics(even)], method, 4, apart=False)
    assert code == AusnCode(1, 3) and step * code.bytes[-1] == pytest.approx(1, abs=0.1)
    half_normal = np.abs(random.normal(size=20000))
    assert coded_steps([statistics(half_normal)], method, 4, apart=False)[0] == AusnCode(2, 2)
    assert coded_steps([statistics(long_tail)], method, 4, apart=False)[0] == AusnCode(3, 1)
    assert coded_steps([statistics(long_tail)], method, 4, apart=False, lanes=True)[0] == (
        AusnCode(2, 2))
    _, apart = coded_steps([statistics(even, 8 * even, 0 * even)], method, 4, apart=True)
    assert apart[1] == pytest.approx(8 * apart[0]) and apart[2] == apart[1] * FLOOR
    _, shared = coded_steps([statistics(even), statistics(8 * even)], method, 4, apart=False)
    assert shared == pytest.approx(apart[1], rel=0.1)


def test_codes_of_activations_are_bytes():
    assert [len(activation_codes(bits)) for bits in range(2, 8)] == [2, 3, 3, 2, 2, 2]
    assert activation_codes(4, lanes=True) == (AusnCode(2, 2),)


@pytest.mark.parametrize(("changes", "sentence"), [
    ({"activation_code": "log"}, "the activation code 'log' is unknown; use one of linear, ausn"),
    ({"activation_code": "ausn"}, "AUSN activations of 8 bits do not exist; choose 2 to 7 "
                                  "activation bits, or linear ones")])
def test_bad_activation_settings(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        Settings(**changes)


@pytest.mark.parametrize(("octaves", "expected"), [(0, np.int8), (4, np.int8), (6, np.int16)])
def test_integers_wider_than_a_byte_only_where_they_halve_the_loss(tmp_path, octaves, expected):
    """Large inputs meet small weights, which count as much as the large ones."""
    random = np.random.default_rng(0)
    size = 2.0 ** (octaves * random.uniform(-1, 0, 64))
    weight = random.normal(size=(64, 40)) / size[:, None]
    x = random.integers(0, 256, (50, 64)) * size
    graph = Graph(("N", 64)).add("Gemm", weight, np.zeros(40))
    data = Data(x.astype(np.uint8), None, np.array(1.0), np.array(0.0))
    settings = dataclasses.replace(AUSN5, weight_scale="tensor", rounding="nearest")
    layer, = quantize(graph.save(tmp_path), data, settings).layers
    energy = np.tile((data.x.astype(float) ** 2).mean(axis=0), 40)[None]
    losses = [weight_steps(weight.T.reshape(1, -1), code, energy)[1]
              for code in weight_codes(AUSN5)]
    assert layer.weight.dtype == expected
    assert (losses[1] < WIDE_LOSS * losses[0]) == (expected == np.int16)
    assert octaves != 4 or losses[1] < losses[0]


def test_clipping_weighs_more_the_finer_the_code(monkeypatch):
    tail = statistics(np.exp(np.random.default_rng(0).normal(0, 0.7, 20000)))

    def reach(bits):
        code, step = coded_steps([tail], "mse", bits, apart=False)
        return step * code.bytes[-1]

    weighed = reach(7), reach(4)
    monkeypatch.setattr("quant.activation_codes.EQUAL_LEVELS", 1 << 7)
    assert weighed[0] > reach(7) and weighed[1] == reach(4)
