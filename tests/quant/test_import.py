"""Import and float evaluation against onnxruntime on the original file."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from quant import import_onnx
from quant.evaluate import evaluate
from quant.graph import FloatAveragePool, FloatConv, FloatMaxPool
from tests.quant.graphs import Graph, run_float


def check(graph, tmp_path, softmax=False):
    """Import, evaluate and compare with onnxruntime; returns the network.

    Both compute in float32, with sums in another order: a few hundred products of values around 1
    differ by at most about 1e-5 of the largest result.
    """
    path = graph.save(tmp_path)
    network = import_onnx(path)
    x = np.random.default_rng(1).normal(size=(3, *network.own_input_shape)).astype(np.float32)
    expected = run_float(path, x)
    found = evaluate(network, x.reshape(3, *network.input_shape)).reshape(expected.shape)
    if softmax:
        found = np.exp(found) / np.exp(found).sum(axis=1, keepdims=True)
    assert np.abs(found - expected).max() <= 2e-5 * np.abs(expected).max()
    return network


@pytest.mark.parametrize("opset", [11, 13, 17, 21])
def test_whole_classifier(tmp_path, opset):
    graph = Graph(("N", 3, 13, 11), opset).conv(8, 3, 3, strides=[2, 2], pads=[0, 0, 1, 1]).norm(8)
    graph.add("Relu").conv(8, 8, 3, group=8, pads=[1, 1, 1, 1]).norm(8).add("Clip", 0.0, 6.0)
    graph.conv(12, 8, bias=False).norm(12).add("Relu").add("GlobalAveragePool").add("Flatten")
    graph.add("Dropout").add("Gemm", graph.random.normal(size=(5, 12)), np.ones(5), transB=1)
    network = check(graph.add("Softmax", axis=1), tmp_path, softmax=True)
    assert [type(layer) for layer in network.layers] == [FloatConv] * 3 + [FloatAveragePool,
                                                                           FloatConv]
    assert [layer.output for layer in network.layers] == [
        "relu2_out", "clip5_out", "relu8_out", "globalaveragepool9_out", "gemm12_out"]
    assert network.layers[1].activation == 6.0 and network.layers[0].activation == "relu"


@pytest.mark.parametrize(("mode", "pads"), [("SAME_UPPER", (1, 0, 2, 1)),
                                            ("SAME_LOWER", (2, 1, 1, 0)), ("VALID", (0, 0, 0, 0))])
def test_auto_pad(tmp_path, mode, pads):
    graph = Graph(("N", 2, 7, 6)).conv(3, 2, (4, 3), strides=[1, 2], auto_pad=mode)
    assert check(graph, tmp_path).layers[0].window.pads == pads


@settings(max_examples=25, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_convolution_windows(tmp_path, data):
    def draw(lo, hi):
        return data.draw(st.integers(lo, hi))

    kernel, dilations = (draw(1, 4), draw(1, 4)), [draw(1, 2), draw(1, 2)]
    attributes = {"strides": [draw(1, 3), draw(1, 3)], "dilations": dilations}
    mode = data.draw(st.sampled_from(["NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER"]))
    if mode == "NOTSET":
        attributes["pads"] = [draw(0, 3) for _ in range(4)]
    else:
        attributes["auto_pad"] = mode
    if mode.startswith("SAME"):
        attributes["dilations"] = [1, 1]       # onnxruntime refuses or differs by version otherwise
    group = data.draw(st.sampled_from([1, 2, 4]))
    graph = Graph(("N", 4, draw(8, 12), draw(8, 12)), seed=draw(0, 99))
    check(graph.conv(8, 4, kernel, group=group, **attributes).add("Relu"), tmp_path)


@pytest.mark.parametrize(("op", "attributes", "kind"), [
    ("AveragePool", {"kernel_shape": [8, 5], "strides": [8, 5]}, FloatAveragePool),
    ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 0, 1, 1], "count_include_pad": 1},
     FloatAveragePool),
    ("AveragePool", {"kernel_shape": [3, 2], "strides": [3, 2], "ceil_mode": 1}, FloatAveragePool),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}, FloatMaxPool),
    ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}, FloatMaxPool),
    ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"},
     FloatMaxPool),
    ("GlobalMaxPool", {}, FloatMaxPool),
    ("ReduceMean", {"axes": [2, 3], "keepdims": 0}, FloatAveragePool),
    ("ReduceMean", {"axes": [-1, -2], "keepdims": 1}, FloatAveragePool),
    ("ReduceMax", {"axes": [2, 3], "keepdims": 1}, FloatMaxPool),
])
def test_pools(tmp_path, op, attributes, kind):
    ceil_fits = op == "AveragePool" and "ceil_mode" in attributes
    graph = Graph(("N", 3, 9, 6 if ceil_fits else 7))
    network = check(graph.conv(4, 3).add(op, **attributes), tmp_path)
    assert isinstance(network.layers[1], kind)


@pytest.mark.parametrize(("first", "second", "keepdims"), [(3, 2, 0), (2, 2, 0), (2, 3, 1),
                                                           (-1, -2, 1)])
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceMax"])
def test_reductions_one_after_the_other_are_one_pool(tmp_path, op, first, second, keepdims):
    """x.mean(3).mean(2), as in MobileNetV2: an integer mean is rounded only once."""
    graph = Graph(("N", 3, 5, 4)).conv(4, 3).add(op, axes=[first], keepdims=keepdims)
    network = check(graph.add(op, axes=[second], keepdims=keepdims), tmp_path)
    assert [layer.window.kernel for layer in network.layers] == [(1, 1), (5, 4)]


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("axis", "kernel"), [(2, (5, 1)), (3, (1, 4))])
def test_mean_over_rows_or_columns_alone(tmp_path, axis, kernel, transposed):
    graph = Graph(("N", 3, 5, 4)).conv(4, 3)
    if transposed:
        graph.add("Transpose", perm=[0, 2, 3, 1])
        graph.add("ReduceMean", axes=[axis - 1]).add("Transpose", perm=[0, 3, 1, 2])
    else:
        graph.add("ReduceMean", axes=[axis])
    network = check(graph.conv(3, 4), tmp_path)
    assert network.layers[1].window.kernel == kernel


def test_a_mean_that_is_read_twice_stays(tmp_path):
    graph = Graph(("N", 3, 5, 4)).conv(4, 3).add("ReduceMean", axes=[3])
    rows = graph.last
    graph.add("ReduceMean", axes=[2])
    graph.nodes.append(helper.make_node("Concat", [graph.last, graph.last], ["pair"], axis=1))
    graph.last = rows
    graph.conv(8, 4, (5, 1))
    graph.nodes.append(helper.make_node("Add", ["pair", graph.last], ["sum"]))
    graph.last = "sum"
    network = check(graph, tmp_path)
    assert [layer.window.kernel for layer in network.layers
            if isinstance(layer, FloatAveragePool)] == [(1, 4), (5, 1)]


def test_limits_as_maximum_and_minimum(tmp_path):
    """torch.clamp(x, min=0) and what PyTorch's newer exporter makes of other clamps."""
    graph = Graph(("N", 3, 5, 4)).conv(4, 3).add("Max", 0.0).conv(4, 4).add("Max", [0.0])
    graph.add("Min", 2.0).conv(4, 4).add("Relu").add("Clip", None, 3.0).conv(4, 4).add("Max")
    network = check(graph, tmp_path)
    assert [layer.activation for layer in network.layers] == ["relu", 2.0, 3.0, None]


def test_constants_that_take_their_type_from_data(tmp_path):
    """CastLike and Expand of constants, as PyTorch's newer exporter writes without optimizing."""
    graph = Graph(("N", 3, 5, 4), opset=18)
    for name, value in (("zero", np.zeros(1)), ("shape", np.array([4])), ("six", np.array(6.0))):
        graph.nodes.append(helper.make_node("Constant", [], [name], value=numpy_helper.from_array(
            value)))
    for name in ("zero", "six"):
        graph.nodes.append(helper.make_node("CastLike", [name, "input"], [f"{name}_cast"]))
    graph.nodes.append(helper.make_node("Expand", ["zero_cast", "shape"], ["bias"]))
    graph.conv(4, 3, bias=False)
    graph.nodes[-1].input.append("bias")
    graph.add("Relu").add("Min")
    graph.nodes[-1].input.append("six_cast")
    assert check(graph, tmp_path).layers[0].activation == 6.0


def test_reduce_mean_with_axes_as_input(tmp_path):
    graph = Graph(("N", 3, 5, 4), opset=18).conv(4, 3)
    check(graph.add("ReduceMean", np.array([2, 3]), keepdims=0), tmp_path)


def test_fully_connected_after_a_map_keeps_the_order_of_channels_first(tmp_path):
    graph = Graph(("N", 2, 4, 3)).conv(3, 2).add("Relu").add("Flatten")
    graph.add("Gemm", graph.random.normal(size=(36, 5)), graph.random.normal(size=5), alpha=0.5,
              beta=2.0)
    network = check(graph, tmp_path)
    assert network.layers[1].weight.shape == (5, 3, 4, 3)


def test_fully_connected_after_a_transposed_map_keeps_the_order_of_channels_last(tmp_path):
    graph = Graph(("N", 2, 4, 3)).conv(3, 2).add("Relu").add("Transpose", perm=[0, 2, 3, 1])
    graph.add("Reshape", np.array([0, -1])).add("MatMul", graph.random.normal(size=(36, 5)))
    check(graph.add("Add", graph.random.normal(size=5)), tmp_path)


def test_transpositions_that_cancel_vanish(tmp_path):
    graph = Graph(("N", 2, 4, 3)).conv(3, 2).add("Transpose", perm=[0, 2, 3, 1]).add("Relu")
    graph.add("Mul", np.array([0.5, 2.0, 3.0])).add("Transpose", perm=[0, 3, 1, 2])
    check(graph.conv(4, 3, 3), tmp_path)


@pytest.mark.parametrize("batch", [1, 3])
def test_reshapes_may_name_the_fixed_batch(tmp_path, batch):
    graph = Graph((batch, 3, 8, 6)).conv(4, 3).add("Reshape", np.array([batch, 4, 4, 2, 3, 2]))
    graph.add("Transpose", perm=[0, 3, 5, 1, 2, 4]).add("Reshape", np.array([batch, 16, 4, 3]))
    graph.conv(3, 16).add("Reshape", np.array([batch, -1]))
    path = graph.add("Gemm", graph.random.normal(size=(36, 5))).save(tmp_path)
    x = np.random.default_rng(1).normal(size=(batch, 3, 8, 6)).astype(np.float32)
    found = evaluate(import_onnx(path), x)[:, :, 0, 0]
    assert np.allclose(found, run_float(path, x), atol=1e-4)


@pytest.mark.parametrize("sizes", [[0, -1], [-1, 36], [1, -1], [0, 36]])
def test_reshape_that_flattens(tmp_path, sizes):
    graph = Graph((1 if sizes[0] == 1 else "N", 3, 4, 3)).conv(3, 3)
    graph.add("Reshape", np.array(sizes)).add("Gemm", graph.random.normal(size=(36, 2)))
    path = graph.save(tmp_path)
    network = import_onnx(path)
    x = np.random.default_rng(1).normal(size=(1, 3, 4, 3)).astype(np.float32)
    assert np.allclose(evaluate(network, x).ravel(), run_float(path, x).ravel(), atol=1e-4)


def test_shape_arithmetic_of_an_exporter_is_folded(tmp_path):
    graph = Graph(("N", 3, 4, 3)).conv(3, 3).add("Relu")
    data = graph.last
    graph.add("Shape").add("Gather", np.array(0)).add("Unsqueeze", np.array([0]))
    graph.nodes.append(helper.make_node(
        "Concat", [graph.last, graph.constant(np.array([-1]))], ["sizes"], axis=0))
    graph.nodes.append(helper.make_node(
        "Reshape", [data, "sizes"], ["flat"], name="flatten"))
    graph.last = "flat"
    check(graph.add("Gemm", graph.random.normal(size=(36, 2))), tmp_path)


def test_normalization_of_the_input_folds_with_padding(tmp_path):
    graph = Graph(("N", 3, 6, 5)).add("Sub", np.array([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1))
    graph.add("Div", np.array([2.0, -3.0, 0.5]).reshape(3, 1, 1)).norm(3)
    network = check(graph.conv(4, 3, 3, pads=[1, 1, 1, 1]), tmp_path)
    assert len(network.layers) == 1


def test_normalization_after_gemm_and_after_relu(tmp_path):
    graph = Graph(("N", 3, 4, 4)).conv(4, 3, 3).add("Relu").norm(4).add("Flatten")
    graph.add("Gemm", graph.random.normal(size=(16, 6))).norm(6).add("Relu")
    network = check(graph, tmp_path)
    assert [layer.weight.shape for layer in network.layers] == [
        (4, 3, 3, 3), (4, 1, 1, 1), (6, 4, 2, 2)]


def test_tiny_variances_are_fused_in_float64(tmp_path):
    graph = Graph(("N", 2, 4, 4)).conv(3, 2)
    graph.add("BatchNormalization", np.array([1.0, 1e-13, -1.0]), np.ones(3), np.zeros(3),
              np.array([1e-45, 1e-45, 1.0]), epsilon=1e-3)
    check(graph.add("Relu"), tmp_path)


def test_pad_folds_into_convolution_and_pool(tmp_path):
    graph = Graph(("N", 2, 5, 6)).add("Pad", np.array([0, 0, 1, 0, 0, 0, 2, 1]))
    graph.conv(3, 2, 3, pads=[0, 1, 0, 0]).add("Relu")
    graph.add("Pad", np.array([0, 0, 0, 0, 0, 0, 1, 1]))
    network = check(graph.add("MaxPool", kernel_shape=[2, 2], strides=[2, 2]), tmp_path)
    assert network.layers[0].window.pads == (1, 1, 2, 1)
    assert network.layers[1].window.pads == (0, 0, 1, 1)


def test_activations_in_a_row(tmp_path):
    graph = Graph(("N", 2, 5, 6)).conv(3, 2).add("Relu").add("Clip", 0.0, 1.0).add("Relu")
    network = check(graph.add("Clip", 0.0, 0.5), tmp_path)
    assert len(network.layers) == 1 and network.layers[0].activation == 0.5
    graph = Graph(("N", 2, 5, 6)).conv(3, 2).add("Clip", 0.0).add("Identity")
    assert check(graph, tmp_path).layers[0].activation == "relu"


def test_relu_after_a_pool_of_signed_values(tmp_path):
    graph = Graph(("N", 2, 6, 6)).conv(3, 2).add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    assert len(check(graph.add("Relu"), tmp_path).layers) == 3


def test_squeeze_and_log_softmax(tmp_path):
    graph = Graph(("N", 2, 6, 6)).conv(3, 2).add("GlobalAveragePool").add("Squeeze",
                                                                         np.array([2, 3]))
    network = import_onnx(graph.add("LogSoftmax", axis=1).save(tmp_path))
    assert network.output == "globalaveragepool1_out"


def test_vector_input(tmp_path):
    graph = Graph(("N", 7))
    graph.add("Gemm", graph.random.normal(size=(7, 5))).add("Relu")
    network = check(graph.add("Gemm", graph.random.normal(size=(5, 3))), tmp_path)
    assert network.input_shape == (7, 1, 1)


def test_input_without_channel_axis(tmp_path):
    graph = Graph(("N", 6, 5)).add("Unsqueeze", np.array([1]))
    network = check(graph.conv(3, 1, 3), tmp_path)
    assert network.input_shape == (1, 6, 5) and network.own_input_shape == (6, 5)
