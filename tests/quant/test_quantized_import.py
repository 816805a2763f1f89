"""Already quantized ONNX: what onnxruntime's quantizer and our own exports write, taken over."""

from __future__ import annotations

import logging

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from quant import Settings, import_onnx, quantize
from quant.evaluate import evaluate
from quant.exports import FORMATS
from quant.graph import FloatConv, FloatMaxPool, Leaky
from ref import Conv2d, Data, Model, run
from tests.quant.graphs import Graph, run_float
from tests.quant.networks import depthwise_graph, image_data
from tests.quant.test_branches import join, leaky_graph, residual_graph, scores, squares_graph
from tests.quant.test_import import check
from tests.quant.test_quantize import snr


def transposed_graph() -> Graph:
    """Scores by a Gemm whose weights are (outputs, features)."""
    graph = Graph(("N", 3, 12, 10)).conv(8, 3, 3).add("Relu").add("GlobalAveragePool")
    weight = graph.random.normal(size=(5, 8)) * np.linspace(0.1, 3, 5)[:, None]
    return graph.add("Flatten").add("Gemm", weight, graph.random.normal(size=5), transB=1)


NETWORKS = {"depthwise": depthwise_graph, "relu": lambda: depthwise_graph(cap=None),
            "residual": residual_graph, "leaky": leaky_graph,
            "squares": lambda: squares_graph("node"), "transposed": transposed_graph,
            "slices": lambda: squares_graph("slices")}
SYMMETRIC = {"ActivationSymmetric": True, "WeightSymmetric": True}
ASYMMETRIC = {"ActivationSymmetric": False, "WeightSymmetric": True}
QDQ, OPERATORS = QuantFormat.QDQ, QuantFormat.QOperator
SIGNED, UNSIGNED = QuantType.QInt8, QuantType.QUInt8


def data_for(name: str, seed: int = 1) -> Data:
    return image_data((3, 12, 8) if name in ("squares", "slices") else (3, 12, 10), seed=seed)


def real_input(data: Data) -> np.ndarray:
    return data.real().astype(np.float32)


class Reader(CalibrationDataReader):
    """Samples one by one."""

    def __init__(self, data: Data) -> None:
        self.samples = iter(real_input(data)[:20, None])

    def get_next(self):
        sample = next(self.samples, None)
        return None if sample is None else {"input": sample}


def quantized_by_onnxruntime(folder, name: str, form: QuantFormat, activations: QuantType,
                             options: dict, per_channel: bool = True,
                             weights: QuantType = SIGNED) -> str:
    """Path of one of `NETWORKS` after onnxruntime's static quantization."""
    logging.getLogger().setLevel(logging.ERROR)
    folded, path = str(folder / "folded.onnx"), str(folder / "quantized.onnx")
    quant_pre_process(NETWORKS[name]().save(folder), folded, skip_symbolic_shape=True)
    quantize_static(folded, path, Reader(data_for(name)), quant_format=form,
                    per_channel=per_channel, activation_type=activations, weight_type=weights,
                    extra_options=options)
    return path


def run_quantized(path: str, data: Data, optimized: bool = True) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"input": real_input(data)})[0]


def result(model: Model, data: Data) -> np.ndarray:
    scale = model.output_tensor.scale.reshape(-1, 1, 1)
    return (run(model, data.x) * scale).reshape(len(data.x), -1)


CASES = [
    ("depthwise", QDQ, UNSIGNED, ASYMMETRIC, True), ("depthwise", QDQ, SIGNED, ASYMMETRIC, False),
    ("depthwise", OPERATORS, UNSIGNED, ASYMMETRIC, True), ("relu", QDQ, SIGNED, SYMMETRIC, True),
    ("relu", OPERATORS, UNSIGNED, ASYMMETRIC, False),
    ("residual", QDQ, SIGNED, SYMMETRIC, True), ("residual", QDQ, UNSIGNED, SYMMETRIC, False),
    ("residual", OPERATORS, UNSIGNED, SYMMETRIC, True),
    ("leaky", QDQ, SIGNED, SYMMETRIC, True), ("leaky", OPERATORS, UNSIGNED, SYMMETRIC, True),
    ("transposed", OPERATORS, UNSIGNED, ASYMMETRIC, True),
    ("slices", QDQ, SIGNED, SYMMETRIC, True),
    ("squares", QDQ, SIGNED, SYMMETRIC, True), ("squares", OPERATORS, UNSIGNED, SYMMETRIC, False)]


@pytest.mark.parametrize(("name", "form", "activations", "options", "per_channel"), CASES)
def test_what_onnxruntime_quantized(tmp_path, name, form, activations, options, per_channel):
    path = quantized_by_onnxruntime(tmp_path, name, form, activations, options, per_channel)
    network, data = import_onnx(path), data_for(name, seed=9)
    model = quantize(network, data_for(name))
    assert len(model.layers) == len(import_onnx(tmp_path / "small.onnx").layers)
    file, ours = run_quantized(path, data), result(model, data)
    exact = run_float(str(tmp_path / "small.onnx"), real_input(data))
    assert snr(file, ours) > 40
    assert abs(snr(exact, ours) - snr(exact, file)) < 1.5
    assert (file.argmax(axis=1) == ours.argmax(axis=1)).mean() >= 0.95


@pytest.mark.parametrize(("form", "weights"), [(QDQ, SIGNED), (OPERATORS, SIGNED),
                                               (OPERATORS, UNSIGNED)])
def test_integers_of_weights_and_scales_of_maps_are_kept(tmp_path, form, weights):
    path = quantized_by_onnxruntime(tmp_path, "depthwise", form, UNSIGNED, ASYMMETRIC, True,
                                    weights)
    model = quantize(import_onnx(path), data_for("depthwise"))
    proto = onnx.load(path)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    stored = {key: value for key, value in constants.items()
              if key.endswith("_quantized") and value.ndim > 1}
    layers = [layer for layer in model.layers if isinstance(layer, Conv2d)]
    assert len(layers) == len(stored) == 6
    wanted = set()
    for key, value in stored.items():
        zero = constants[key.replace("_quantized", "_zero_point")]
        assert (zero == (128 if value.dtype == np.uint8 else 0)).all()
        value = (value.T if value.ndim == 2 else value).astype(np.int64) - zero.flat[0]
        wanted.add(tuple(np.maximum(value, -127).ravel()))
    assert {tuple(layer.weight.ravel()) for layer in layers} == wanted
    assert any(value.dtype == np.uint8 for value in stored.values()) == (weights == UNSIGNED)
    assert all(own == channels for own, channels in model.metadata["kept_channels"].values())
    scales = {float(constants[node.input[1]]) for node in proto.graph.node
              if node.op_type == "QuantizeLinear"} | {
        float(constants[name]) for node in proto.graph.node for name in node.input
        if node.op_type.startswith("Q") and name.endswith("_scale") and constants[name].ndim == 0}
    for layer in layers[:-1]:       # the scores have a zero point in the file
        assert float(model.tensors[layer.output].scale) in scales


@pytest.mark.parametrize("preset", ["w8a8", "w4a8"])
@pytest.mark.parametrize("name", ["depthwise", "squares", "leaky"])
def test_round_trip(tmp_path, name, preset):
    """Our own export, imported again, has the same integers: all of them."""
    data = data_for(name)
    model = quantize(import_onnx(NETWORKS[name]().save(tmp_path)), data, preset)
    again = quantize(import_onnx(exported(model, tmp_path)), data)
    assert len(again.layers) == len(model.layers)
    for layer, other in zip(model.layers, again.layers, strict=True):
        assert type(layer) is type(other)
        if isinstance(layer, Conv2d):
            assert np.array_equal(layer.weight, other.weight)
            assert layer.weight_bits == other.weight_bits
            assert np.array_equal(layer.pad_value, other.pad_value)
        rule = getattr(layer, "requantization", None)
        for field in () if rule is None else ("bias", "multiplier", "shift", "lo", "hi",
                                              "multiplier_negative"):
            assert np.array_equal(getattr(rule, field),
                                  getattr(other.requantization, field)), (layer.name, field)
    assert np.array_equal(run(model, data.x), run(again, data.x))


def test_round_trip_of_sums(tmp_path):
    """Channels of a sum with unlike ratios come back as a layer of their own; weights stay."""
    data = data_for("residual")
    model = quantize(import_onnx(residual_graph().save(tmp_path)), data, Settings(
        activation_bits=6))
    again = quantize(import_onnx(exported(model, tmp_path)), data)
    found = [layer.weight.tobytes() for layer in again.layers if isinstance(layer, Conv2d)]
    assert all(layer.weight.tobytes() in found for layer in model.layers
               if isinstance(layer, Conv2d))
    assert snr(result(model, data), result(again, data)) > 30
    third = quantize(import_onnx(exported(again, tmp_path)), data)      # and out once more
    assert np.array_equal(run(again, data.x), run(third, data.x))


def exported(model: Model, folder) -> str:
    (folder / "own.onnx").write_bytes(FORMATS["qdq"](model))
    return str(folder / "own.onnx")


def test_float_weights_that_are_quantized_in_the_graph(tmp_path):
    """As quantization-aware training exports them: a QuantizeLinear on the weights."""
    graph = quantized_start()
    weight = graph.random.integers(-127, 128, (4, 6, 1, 1)) / 64
    last, graph.last = graph.last, graph.constant(weight)
    graph.add("QuantizeLinear", 1 / 64, np.int8(0)).add("DequantizeLinear", 1 / 64, np.int8(0))
    join(graph, "Conv", last, graph.last)
    network = import_onnx(scores(graph, 4).save(tmp_path))
    layer = network.layers[1]
    assert isinstance(layer, FloatConv) and np.array_equal(layer.weight_step, np.full(4, 1 / 64))
    model = quantize(network, image_data())
    assert np.array_equal(model.layers[1].weight, weight * 64)


def quantized_start(scale=0.05, kind=np.uint8) -> Graph:
    """A convolution whose map is quantized."""
    graph = Graph(("N", 3, 12, 10)).conv(6, 3, 3)
    return graph.add("QuantizeLinear", scale, kind(0)).add("DequantizeLinear", scale, kind(0))


def test_integers_from_zero_up_rectify(tmp_path):
    """Exporters leave a ReLU out where its map's integers saturate at 0."""
    path = quantized_start().conv(5, 6).save(tmp_path)
    network, x = import_onnx(path), image_data().real().astype(np.float32)[:3]
    assert network.layers[0].activation == "relu" and not network.stored["conv0_out"].signed
    file = run_float(path, x)
    assert snr(file, evaluate(network, x)) > 25
    model = quantize(network, image_data())
    assert float(model.tensors["conv0_out"].scale) == float(np.float32(0.05))


def test_a_map_with_two_roundings(tmp_path):
    """Two readers with scales of their own: the second gets a layer that makes its integers."""
    graph = quantized_start(0.05, np.int8)
    first, source = graph.last, graph.nodes[0].output[0]
    graph.last = source
    graph.add("QuantizeLinear", 0.2, np.int8(0)).add("DequantizeLinear", 0.2, np.int8(0))
    join(graph, "Add", first, graph.last)
    path = scores(graph, 6).save(tmp_path)
    network = import_onnx(path)
    assert sorted(float(one.step[0]) for one in network.stored.values()) == [
        float(np.float32(0.05)), float(np.float32(0.2))]
    data = image_data()
    assert snr(run_float(path, real_input(data)), result(quantize(network, data), data)) > 28


def test_integers_may_be_moved_and_pooled(tmp_path):
    graph = Graph(("N", 3, 12, 10)).conv(6, 3, 3).add("QuantizeLinear", 0.05, np.uint8(0))
    graph.add("MaxPool", kernel_shape=[2, 2]).add("Flatten")
    graph.add("DequantizeLinear", 0.05, np.uint8(0))
    path = graph.add("Gemm", graph.random.normal(size=(6 * 9 * 7, 5))).save(tmp_path)
    network, data = import_onnx(path), image_data()
    assert isinstance(network.layers[1], FloatMaxPool)
    model = quantize(network, data)
    assert model.tensors[network.layers[1].output].scale == np.float32(0.05)
    assert snr(run_float(path, real_input(data)), result(model, data)) > 30


def test_padding_between_roundings(tmp_path):
    """Zeros stay zeros: the padding waits for its convolution behind the second rounding."""
    graph = quantized_start().add("Pad", np.array([0, 0, 1, 0, 0, 0, 1, 2]))
    graph.add("QuantizeLinear", 0.05, np.uint8(0)).add("DequantizeLinear", 0.05, np.uint8(0))
    path = graph.conv(6, 6, 3, group=6).save(tmp_path)
    network, data = import_onnx(path), image_data()
    assert network.layers[1].window.pads == (1, 0, 1, 2) and len(network.layers) == 2
    ours = result(quantize(network, data), data)
    assert snr(run_float(path, real_input(data)).reshape(ours.shape), ours) > 35


@pytest.mark.parametrize(("zero", "kind"), [(0, np.uint8), (128, np.uint8), (-128, np.int8)])
def test_padding_of_integers(tmp_path, zero, kind):
    """A map is padded with its zero point."""
    graph = Graph(("N", 3, 12, 10)).conv(6, 3, 3).add("QuantizeLinear", 0.05, kind(zero))
    graph.add("Pad", np.array([0, 0, 1, 0, 0, 0, 1, 2]), kind(zero))
    path = graph.add("DequantizeLinear", 0.05, kind(zero)).conv(6, 6, 3, group=6).save(tmp_path)
    network, data = import_onnx(path), image_data()
    assert network.layers[1].window.pads == (1, 0, 1, 2)
    ours = result(quantize(network, data), data)
    assert snr(run_float(path, real_input(data)).reshape(ours.shape), ours) > 30


def test_scales_per_channel_of_a_map(tmp_path):
    scale = np.linspace(0.02, 0.2, 6).astype(np.float32)
    zeros = np.zeros(6, np.int8)
    graph = Graph(("N", 3, 12, 10)).conv(6, 3, 3)
    graph.add("QuantizeLinear", scale, zeros).add("DequantizeLinear", scale, zeros)
    graph.conv(6, 6, 3, group=6)
    network = import_onnx(graph.save(tmp_path))
    model = quantize(network, image_data())
    assert np.array_equal(model.tensors["conv0_out"].scale, scale.astype(np.float64))


def test_limits_narrower_than_the_type(tmp_path):
    """Four bits in int8, as our export writes them."""
    graph = Graph(("N", 3, 12, 10)).conv(6, 3, 3).add("Clip", -8 * 0.25, 7 * 0.25)
    graph.add("QuantizeLinear", 0.25, np.int8(0)).add("DequantizeLinear", 0.25, np.int8(0))
    graph.conv(4, 6).add("Clip", 0.0, 15 * 0.125)
    graph.add("QuantizeLinear", 0.125, np.uint8(0)).add("DequantizeLinear", 0.125, np.uint8(0))
    network = import_onnx(scores(graph, 4).save(tmp_path))
    model = quantize(network, image_data())
    types = {name: (tensor.bits, tensor.signed) for name, tensor in model.tensors.items()}
    assert types["conv0_out"] == (4, True) and types["clip5_out"] == (4, False)


def test_an_input_with_unlike_scales(tmp_path):
    """Weights that stay cannot take in the input's scales: a layer before them does."""
    path = quantized_by_onnxruntime(tmp_path, "depthwise", QDQ, UNSIGNED, ASYMMETRIC)
    data = image_data()
    data = Data(data.x, None, np.array([1 / 64, 1 / 50, 1 / 80]), data.x_zero_point)
    model = quantize(import_onnx(path), data)
    assert model.layers[0].output == "input_normalized"
    assert snr(run_quantized(path, data), result(model, data)) > 25


def test_a_wide_input_of_integer_weights_has_one_plane(tmp_path):
    path = quantized_by_onnxruntime(tmp_path, "depthwise", QDQ, UNSIGNED, ASYMMETRIC)
    data = image_data()
    wide = Data((data.x.astype(np.int16) - 128) * 64, None, np.array(data.x_scale / 64),
                np.array(0.0))
    model = quantize(import_onnx(path), wide, Settings(input_bits=12))
    assert model.input.low_bits == 0
    assert snr(run_quantized(path, wide), result(model, wide)) > 25


def stored_convolution(graph: Graph, scale: np.ndarray, bias: np.ndarray) -> Graph:
    """Append a pointwise convolution of six channels with int8 weights and these scales."""
    outputs = len(scale)
    weight = graph.random.integers(-127, 128, (outputs, 6, 1, 1)).astype(np.int8)
    source, graph.last = graph.last, graph.constant(weight)
    graph.add("DequantizeLinear", scale, np.zeros(outputs, np.int8), axis=0)
    return join(graph, "Conv", source, graph.last, graph.constant(bias))


def test_dead_channels_are_rounded_anew(tmp_path):
    """Weights near nothing, as training leaves them: their bias alone would not fit."""
    graph = stored_convolution(quantized_start(), np.array([1e-3, 2e-3, 1e-9, 3e-3]),
                               np.array([0.1, -0.2, 2.0, 0.0]))
    graph.add("QuantizeLinear", 0.02, np.int8(0)).add("DequantizeLinear", 0.02, np.int8(0))
    path = graph.save(tmp_path)
    network, data = import_onnx(path), image_data()
    model = quantize(network, data)
    assert model.metadata["kept_channels"] == {network.layers[1].name: [3, 4]}
    # unoptimized, since onnxruntime's 32-bit bias in steps of 5e-11 overflows
    file = run_quantized(path, data, optimized=False)
    ours = run(model, data.x) * model.output_tensor.scale.reshape(-1, 1, 1)
    assert np.abs(file - ours).max() < 1.01 * 0.02


def test_prelu_and_caps_per_channel(tmp_path):
    graph = Graph(("N", 3, 6, 6)).conv(4, 3).add("PRelu", np.array([0.1, 0.2, 0.5, 1.0]
                                                                   ).reshape(4, 1, 1))
    graph.conv(4, 4).add("PRelu", np.full((4, 1, 1), 0.25)).conv(4, 4).add("Relu")
    network = check(graph.add("Min", np.array([0.1, 0.5, 1.0, 2.0]).reshape(4, 1, 1)), tmp_path)
    assert np.allclose(network.layers[0].activation.slope, [0.1, 0.2, 0.5, 1.0])
    assert network.layers[1].activation == Leaky(0.25)
    assert np.allclose(network.layers[2].activation, [0.1, 0.5, 1.0, 2.0])
    assert len(network.layers) == 3
