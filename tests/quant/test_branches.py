"""Networks that branch: import against onnxruntime, balancing and quantization."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from quant import Settings, balance, calibrate, import_onnx, quantize
from quant.evaluate import evaluate, evaluate_tensors, real_input
from quant.graph import FloatAdd, FloatConcat, FloatConv, FloatSpaceToDepth, Leaky
from ref import Add, Concat, SpaceToDepth, logits, run, run_layers
from ref.onnx_integer import integer_onnx
from ref.oracles import run_integer_onnx
from tests.quant.graphs import Graph
from tests.quant.networks import image_data
from tests.quant.test_import import check
from tests.quant.test_quantize import dequantized, snr


def join(graph: Graph, op: str, *names: str, **attributes) -> Graph:
    """Append a node that reads ``names``, all from data."""
    name = f"{op.lower()}{len(graph.nodes)}"
    graph.nodes.append(helper.make_node(op, list(names), [f"{name}_out"], name=name, **attributes))
    graph.last = f"{name}_out"
    return graph


def focus(graph: Graph, order=((0, 0), (0, 1), (1, 0), (1, 1))) -> list[str]:
    """The four slices of every second row and column."""
    source, names = graph.last, []
    for dy, dx in order:
        graph.last = source
        graph.add("Slice", np.array([dy]), np.array([2 ** 31]), np.array([2]), np.array([2]))
        graph.add("Slice", np.array([dx]), np.array([2 ** 31]), np.array([3]), np.array([2]))
        names.append(graph.last)
    return names


def scores(graph: Graph, channels: int) -> Graph:
    """A mean and five scores."""
    graph.add("GlobalAveragePool").add("Flatten")
    return graph.add("Gemm", graph.random.normal(size=(channels, 5)), graph.random.normal(size=5))


def residual_graph(cap: float | None = 6.0, rectified: bool = False) -> Graph:
    """Stem, two inverted residuals (the second around the first's sum), scores."""
    graph = Graph(("N", 3, 12, 10)).conv(8, 3, 3, strides=[2, 2], pads=[0, 0, 1, 1])
    graph.add("Mul", 4.0 ** graph.random.uniform(-2, 1, (1, 8, 1, 1)))

    def activate():
        return graph.add("Relu") if cap is None else graph.add("Clip", 0.0, cap)

    activate()
    for _ in range(2):
        source = graph.last
        graph.conv(16, 8).norm(16)
        activate()
        graph.conv(16, 16, 3, group=16, pads=[1, 1, 1, 1])
        activate()
        graph.conv(8, 16).norm(8)
        join(graph, "Add", source, graph.last)
        if rectified:
            activate()
    return scores(graph, 8)


def squares_graph(written: str) -> Graph:
    """A map and its half-size successor, joined as SkyNet does, with every way to write it."""
    graph = Graph(("N", 3, 12, 8)).conv(6, 3, 3, pads=[1, 1, 1, 1]).add("Clip", 0.0, 6.0)
    source = graph.last
    if written == "node":
        parts = [graph.add("SpaceToDepth", blocksize=2).last]
    elif written == "slices":
        parts = focus(graph)
    else:
        graph.add("Reshape", np.array([0, 6, 6, 2, 4, 2]))
        graph.add("Transpose", perm=[0, 3, 5, 1, 2, 4])
        parts = [graph.add("Reshape", np.array([0, 24, 6, 4])).last]
    graph.last = source
    graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]).conv(8, 6).add("Clip", 0.0, 6.0)
    join(graph, "Concat", *parts, graph.last, axis=1)
    graph.conv(32, 32, 3, group=32, pads=[1, 1, 1, 1]).add("Relu").conv(8, 32).add("Relu")
    return scores(graph, 8)


@pytest.mark.parametrize("rectified", [False, True])
def test_residuals(tmp_path, rectified):
    network = check(residual_graph(rectified=rectified), tmp_path)
    sums = [layer for layer in network.layers if isinstance(layer, FloatAdd)]
    assert len(sums) == 2 and all((layer.activation == 6.0) == rectified for layer in sums)
    assert len(network.layers) == 1 + 2 * 4 + 2      # nothing became a layer of its own


@pytest.mark.parametrize("written", ["node", "slices", "reshape"])
def test_space_to_depth_as_exporters_write_it(tmp_path, written):
    network = check(squares_graph(written), tmp_path)
    kinds = [type(layer) for layer in network.layers]
    assert kinds.count(FloatSpaceToDepth) == 1 and kinds.count(FloatConcat) == 1
    joined = next(layer for layer in network.layers if isinstance(layer, FloatConcat))
    assert len(joined.inputs) == 2


@pytest.mark.parametrize("operator, constants", [
    ("Relu", ()), ("Clip", (0.0, 6.0)), ("LeakyRelu", ()), ("BatchNormalization", None),
    ("Mul", (np.arange(1.0, 25).reshape(1, 24, 1, 1),))])
@pytest.mark.parametrize("last", [False, True])
def test_what_follows_squares_at_once(tmp_path, operator, constants, last):
    graph = Graph(("N", 3, 12, 8)).conv(6, 3, 3, pads=[1, 1, 1, 1])
    graph.add("SpaceToDepth", blocksize=2)
    if constants is None:
        graph.norm(24)
    else:
        graph.add(operator, *constants)
    if not last:
        graph.conv(8, 24)
    network = check(graph, tmp_path)
    assert [type(layer) for layer in network.layers].count(FloatSpaceToDepth) == 1


@pytest.mark.parametrize("order", ["focus", "pixel unshuffle"])
@pytest.mark.parametrize("depthwise", [False, True])
def test_squares_in_another_order_of_channels(tmp_path, order, depthwise):
    graph = Graph(("N", 3, 8, 6)).conv(4, 3)
    if order == "focus":
        parts = focus(graph, ((0, 0), (1, 0), (0, 1), (1, 1)))
        join(graph, "Concat", *parts, axis=1)
    else:
        graph.add("Reshape", np.array([0, 4, 4, 2, 3, 2]))
        graph.add("Transpose", perm=[0, 1, 3, 5, 2, 4]).add("Reshape", np.array([0, 16, 4, 3]))
    if depthwise:
        graph.conv(16, 16, 3, group=16, pads=[1, 1, 1, 1]).norm(16).add("Relu")
        graph.add("MaxPool", kernel_shape=[2, 2])
    network = check(graph.conv(5, 16, 2), tmp_path)
    assert sum(isinstance(layer, FloatSpaceToDepth) for layer in network.layers) == 1


def test_what_several_layers_read_is_not_fused_away(tmp_path):
    """Pre-activation residuals: the sum is read by a normalization and by the next sum."""
    graph = Graph(("N", 3, 6, 6)).conv(4, 3)
    for _ in range(2):
        source = graph.last
        graph.norm(4).add("Relu").conv(4, 4, 3, pads=[1, 1, 1, 1])
        join(graph, "Add", graph.last, source)
    network = check(graph.add("LeakyRelu", alpha=0.1), tmp_path)
    assert len(network.layers) == 1 + 2 * 3 + 1


def test_input_with_several_readers(tmp_path):
    graph = Graph(("N", 3, 6, 6)).norm(3).add("Relu")
    first = graph.last
    graph.last = "input"
    graph.conv(3, 3, 3, pads=[1, 1, 1, 1])
    network = check(join(graph, "Concat", first, graph.last, "input", axis=1), tmp_path)
    assert len(network.layers) == 3 and not network.input_offset.any()


def test_vectors_are_joined_and_a_map_is_added_to_itself(tmp_path):
    graph = Graph(("N", 3, 6, 6)).conv(4, 3).add("Relu")
    join(graph, "Add", graph.last, graph.last).add("GlobalAveragePool").add("Flatten")
    first = graph.last
    graph.add("Gemm", graph.random.normal(size=(4, 7)))
    join(graph, "Concat", first, graph.last, axis=-1)
    check(graph.add("Gemm", graph.random.normal(size=(11, 3))), tmp_path)


def test_leaky_relu(tmp_path):
    graph = Graph(("N", 3, 6, 6)).conv(4, 3).norm(4).add("LeakyRelu", alpha=0.1)
    network = check(graph.conv(4, 4).add("LeakyRelu").conv(4, 4).add("LeakyRelu", alpha=0.0),
                    tmp_path)
    assert [layer.activation for layer in network.layers] == [
        Leaky(float(np.float32(0.1))), Leaky(0.01), "relu"]


@pytest.mark.parametrize("transfer", [0.5, "search"])
@pytest.mark.parametrize("cap", [None, 6.0])
def test_residual_groups_share_factors_and_the_function_stays(tmp_path, cap, transfer):
    network, data = import_onnx(residual_graph(cap).save(tmp_path)), image_data()
    balanced = balance(network, calibrate(network, data), Settings(transfer=transfer))
    x = real_input(network, data, np.float64)
    after = dict(evaluate_tensors(balanced.network, x))
    for name, value in evaluate_tensors(network, x):
        factor = np.reshape(balanced.factor(name), (-1, 1, 1))
        assert np.allclose(after[name], value * factor, rtol=1e-12, atol=1e-12)
    sums = [layer for layer in network.layers if isinstance(layer, FloatAdd)]
    shared = balanced.factors[sums[0].output]
    assert shared.max() > 1.5
    for layer in sums:
        for name in (*layer.inputs, layer.output):
            assert np.array_equal(balanced.factors[name], shared)


def leaky_graph() -> Graph:
    """Two convolutions with leaky ReLU joined, as in YOLO's networks."""
    graph = Graph(("N", 3, 12, 10)).conv(8, 3, 3, pads=[1, 1, 1, 1]).add("LeakyRelu", alpha=0.1)
    first = graph.last
    graph.conv(6, 8, 3, pads=[1, 1, 1, 1], group=2).norm(6).add("LeakyRelu", alpha=0.1)
    join(graph, "Concat", first, graph.last, axis=1).conv(8, 14).add("Relu")
    return scores(graph, 8)


BRANCHING = {
    "residual": (residual_graph, (3, 12, 10), Add),
    "rectified": (lambda: residual_graph(None, rectified=True), (3, 12, 10), Add),
    "squares": (lambda: squares_graph("slices"), (3, 12, 8), SpaceToDepth),
    "leaky": (leaky_graph, (3, 12, 10), Concat),
}


@pytest.mark.parametrize("name", BRANCHING)
def test_quantized_branches(tmp_path, name):
    make, shape, kind = BRANCHING[name]
    network, data = import_onnx(make().save(tmp_path)), image_data(shape)
    model = quantize(network, data)
    assert any(isinstance(layer, kind) for layer in model.layers)
    maps = run_layers(model, data.x)
    for tensor, real in evaluate_tensors(network, real_input(network, data, np.float64)):
        assert snr(real, dequantized(model, tensor, maps[tensor])) > 27, tensor
    for executor in ("onnxruntime", "reference"):
        found = run_integer_onnx(integer_onnx(model), data.x[:4], executor)
        assert np.array_equal(found[model.output_tensor.name].reshape(4, -1),
                              logits(model, data.x[:4]))


def test_operands_of_a_concatenation_share_one_scale(tmp_path):
    model = quantize(import_onnx(leaky_graph().save(tmp_path)), image_data(),
                     Settings(transfer=0.0))
    joined = next(layer for layer in model.layers if isinstance(layer, Concat))
    scales = [model.tensors[name].scale for name in (*joined.inputs, joined.output)]
    assert all(scale.shape == () and scale == scales[0] for scale in scales)


@pytest.mark.parametrize("zero", [0.0, 127.5])
def test_an_input_that_is_joined(tmp_path, zero):
    """A uint8 image beside signed values: a convolution gives it the type of its neighbour."""
    graph = Graph(("N", 3, 12, 10)).conv(4, 3, 3, pads=[1, 1, 1, 1])
    join(graph, "Concat", "input", graph.last, axis=1)
    network = import_onnx(graph.conv(4, 7).save(tmp_path))
    data = image_data()
    data = type(data)(data.x, None, data.x_scale, np.array(zero))
    model = quantize(network, data)
    real = evaluate(network, real_input(network, data))
    assert snr(real, dequantized(model, model.output_tensor.name, run(model, data.x))) > 33


def test_a_convolution_between_other_channels(tmp_path):
    graph = Graph(("N", 3, 12, 10)).conv(8, 3).add("Relu").conv(12, 8, 3, group=4).add("Relu")
    network, data = import_onnx(scores(graph, 12).save(tmp_path)), image_data()
    assert [layer.groups for layer in network.layers if isinstance(layer, FloatConv)] == [1, 4, 1]
    model = quantize(network, data)
    real = evaluate(network, real_input(network, data))[:, :, 0, 0]
    assert snr(real, logits(model, data.x) * model.output_tensor.scale) > 30


def test_a_map_at_the_end_has_a_scale_per_channel(tmp_path):
    """Coordinates and confidences of a detector: a small channel keeps its own resolution."""
    graph = Graph(("N", 3, 12, 10)).conv(8, 3, 3).add("Relu").conv(4, 8)
    graph.add("Mul", np.array([1.0, 10.0, 100.0, 3.0]).reshape(1, 4, 1, 1))
    network, data = import_onnx(graph.save(tmp_path)), image_data()
    model = quantize(network, data)
    real = evaluate(network, real_input(network, data))
    found = dequantized(model, network.output, run(model, data.x))
    assert model.output_tensor.bits == 16
    assert all(snr(real[:, channel], found[:, channel]) > 32 for channel in range(4))
