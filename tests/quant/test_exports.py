"""The float exports, run by onnxruntime, onnx.reference and qonnx, give the model's integers."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from quant import export, import_onnx, quantize
from quant.__main__ import main
from quant.exports import FORMATS
from quant.exports.scales import map_scales
from ref import Add, AveragePool2d, Conv2d, Model, logits, run, save_model
from ref.ausn import AusnCode
from ref.errors import UserError, run_command
from ref.onnx_integer import rounded_input
from tests.quant.networks import depthwise_graph, image_data
from tests.quant.rounding import share_of_differences
from tests.quant.test_branches import leaky_graph, residual_graph, squares_graph
from tests.ref.random_models import GRAPH_KINDS, models

NETWORKS = {
    "depthwise": (depthwise_graph, (3, 12, 10)),
    "residual": (residual_graph, (3, 12, 10)),
    "squares": (lambda: squares_graph("node"), (3, 12, 8)),
    "leaky": (leaky_graph, (3, 12, 10)),
}


def made(tmp_path, name: str, preset: str = "w8a8") -> Model:
    graph, shape = NETWORKS[name]
    return quantize(import_onnx(graph().save(tmp_path)), image_data(shape), preset)


def linear(model: Model) -> Model:
    """The model with results that are not rounded to a code's levels."""
    layers = []
    for layer in model.layers:
        if isinstance(layer, Conv2d | AveragePool2d):
            layer = replace(layer, requantization=replace(layer.requantization, code=None))
        layers.append(replace(layer, code=None) if isinstance(layer, Add) else layer)
    return replace(model, layers=tuple(layers))


def exported(model: Model, name: str) -> onnx.ModelProto:
    return onnx.ModelProto.FromString(export(model, name))


def real_input(model: Model, x: np.ndarray) -> np.ndarray:
    maps = x.reshape(len(x), *model.sample_shape).astype(np.float64)
    zero, scale = (np.reshape(value, (-1, 1, 1)) for value in
                   (model.input.x_zero_point, model.input.x_scale))
    return ((maps - zero) * scale).astype(np.float32).reshape(len(x), *model.input.shape)


def qdq_integers(model: Model, x: np.ndarray, optimized: bool = True) -> dict[str, np.ndarray]:
    """Every map's integers by tensor name, from the QDQ export in onnxruntime."""
    proto = exported(model, "qdq")
    names = [node.output[0] for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    proto.graph.output.extend(map(helper.make_empty_tensor_value_info, names))
    values = session(proto, optimized).run(names, {model.input.tensor: real_input(model, x)})
    return dict(zip(model.tensors, values, strict=True))


def session(proto: onnx.ModelProto, optimized: bool) -> onnxruntime.InferenceSession:
    """The graph in onnxruntime, as it is or with its quantized operators found and fused.

    Graphs with 16-bit integers (operator set 21) run as they are: with the option below,
    onnxruntime 1.31 makes ill-typed nodes of them.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.x64quantprecision", "1")
    if not optimized or proto.opset_import[0].version > 17:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(proto.SerializeToString(), options,
                                        providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("optimized", [False, True])
@settings(max_examples=25, deadline=None)
@given(models(kinds=GRAPH_KINDS))
def test_qdq_layers_differ_only_by_rounding(optimized, model_and_samples):
    model, x = linear(model_and_samples[0]), model_and_samples[1]
    share_of_differences(model, x, qdq_integers(model, x, optimized))


@settings(max_examples=10, deadline=None)
@given(models(kinds=GRAPH_KINDS, result_bits=14))
def test_qdq_of_a_wide_result(model_and_samples):
    model, x = linear(model_and_samples[0]), model_and_samples[1]
    share_of_differences(model, x, qdq_integers(model, x))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("preset", ["w8a8", "w4a8"])
def test_qdq_of_quantized_networks(tmp_path, name, preset):
    model, x = made(tmp_path, name, preset), image_data(NETWORKS[name][1], seed=7).x
    assert share_of_differences(model, x, qdq_integers(model, x)) < 1e-3
    found = session(exported(model, "qdq"), True).run(
        None, {model.input.tensor: real_input(model, x)})[0]
    assert np.abs(found / model.output_tensor.scale - logits(model, x)).max() < 4
    assert (found.argmax(axis=1) == logits(model, x).argmax(axis=1)).mean() > 0.94


def test_qdq_in_the_reference_evaluator(tmp_path):
    model, x = made(tmp_path, "residual"), image_data(samples=3, seed=7).x
    proto = exported(model, "qdq")
    proto.opset_import[0].version = 21      # it knows the quantizing operators from 19 on
    found = ReferenceEvaluator(proto).run(None, {model.input.tensor: real_input(model, x)})[0]
    assert np.abs(found / model.output_tensor.scale - logits(model, x)).max() < 4


def test_qdq_constants(tmp_path):
    """Weights are the model's own; scales are shared, and powers of two between layers."""
    model = made(tmp_path, "depthwise", "w4a8")
    proto = exported(model, "qdq")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    scales = map_scales(model)
    for layer in model.layers:
        if hasattr(layer, "weight"):
            stored = constants[f"{layer.name}/weight/quantized"]
            assert stored.dtype == np.int8 and np.array_equal(stored, layer.weight)
            ratio = layer.requantization.multiplier * 2.0 ** -layer.requantization.shift
            ratio = ratio * scales[layer.output] / scales[layer.inputs[0]]
            assert np.allclose(constants[f"{layer.name}/weight/scale"], ratio, rtol=2e-7)
    inner = [scale for name, scale in scales.items()
             if name not in (model.input.tensor, model.output_tensor.name)]
    assert sum(float(np.log2(scale)).is_integer() for scale in inner) >= len(inner) - 1
    points = {name: value for name, value in constants.items() if name.endswith("/zero_point")}
    assert points.pop(f"{rounded_input(model)}/zero_point") == 128      # of 127.5
    assert not any(value.any() for value in points.values())


def test_a_scale_per_channel_of_input_and_result(tmp_path):
    graph = depthwise_graph()
    graph.nodes = graph.nodes[:3]                   # ends in a map: a scale for each channel
    data = image_data()
    data = type(data)(data.x, None, np.array([1 / 64, 1 / 32, 1 / 90]), np.array([127.5, 0, 9.25]))
    model = quantize(import_onnx(graph.save(tmp_path)), data)
    assert model.output_tensor.scale.shape == (12,)
    x = image_data(seed=7).x
    assert share_of_differences(model, x, qdq_integers(model, x)) < 1e-3
    found = session(exported(model, "qdq"), True).run(None, {"input": real_input(model, x)})[0]
    expected = run(model, x) * model.output_tensor.scale.reshape(-1, 1, 1)
    assert (np.abs(found - expected) <= 1.01 * model.output_tensor.scale.reshape(-1, 1, 1)).all()


def qonnx_integers(model: Model, x: np.ndarray) -> dict[str, np.ndarray]:
    """Every map's integers by tensor name, from the QONNX export in qonnx."""
    pytest.importorskip("qonnx", reason="the QONNX export is run by qonnx (pip install qonnx)")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    proto = exported(model, "qonnx")
    for value in (proto.graph.input[0], proto.graph.output[0]):     # qonnx knows fixed sizes only
        value.type.tensor_type.shape.dim[0].dim_value = len(x)
    wrapped = ModelWrapper(proto).transform(InferShapes())
    values = execute_onnx(wrapped, {model.input.tensor: real_input(model, x)}, True)
    integers = {}
    for name, scale in map_scales(model).items():
        shown = {model.input.tensor: rounded_input(model),
                 model.output_tensor.name: f"{name}/map"}.get(name, name)
        zero = wrapped.get_initializer(f"{shown}/zero_point")
        exact = values[shown] / scale + zero
        assert np.abs(exact - np.rint(exact)).max() < 1e-3
        integers[name] = np.rint(exact)
    return integers


@settings(max_examples=10, deadline=None)
@given(models(kinds=GRAPH_KINDS))
def test_qonnx_layers_differ_only_by_rounding(model_and_samples):
    model, x = linear(model_and_samples[0]), model_and_samples[1]
    with pytest.MonkeyPatch.context() as patch:     # qonnx writes files onnxruntime cannot read
        patch.setattr(onnx, "IR_VERSION", 10)
        integers = qonnx_integers(model, x)
    share_of_differences(model, x, integers)


def test_encodings_describe_the_float_export(tmp_path):
    model, x = made(tmp_path, "depthwise", "w4a8"), image_data(seed=7).x
    encodings, proto = json.loads(export(model, "encodings")), exported(model, "float")
    computed = {name for node in proto.graph.node for name in node.output}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    assert set(encodings["activation_encodings"]) <= computed
    weights = {f"{layer.name}/weight": layer.weight for layer in model.layers
               if hasattr(layer, "weight")}
    assert set(encodings["param_encodings"]) == set(weights)
    for name, integers in weights.items():
        entries = encodings["param_encodings"][name]
        assert {(entry["bitwidth"], entry["offset"], entry["is_symmetric"]) for entry in entries
                } == {(4, -8, "True")}
        scale = np.array([entry["scale"] for entry in entries]).reshape(-1, 1, 1, 1)
        assert np.allclose(constants[name], integers * scale, rtol=1e-6)
    integers = simulated(model, proto, encodings["activation_encodings"], x)
    assert share_of_differences(model, x, integers) < 1e-3


def simulated(model: Model, proto: onnx.ModelProto, encodings: dict, x: np.ndarray
              ) -> dict[str, np.ndarray]:
    """Every map's integers by tensor name, from a float graph quantized by 8-bit encodings."""
    outputs = []
    for node in list(proto.graph.node):
        if node.output[0] not in encodings:
            continue
        entry, = encodings[node.output[0]]
        name, node.output[0] = node.output[0], f"{node.output[0]}/unrounded"
        assert entry["dtype"] == "int" and entry["bitwidth"] == 8
        assert (entry["min"], entry["max"]) == (
            entry["offset"] * entry["scale"], (255 + entry["offset"]) * entry["scale"])
        proto.graph.initializer.extend([
            numpy_helper.from_array(np.array(entry["scale"], np.float32), f"{name}/scale"),
            numpy_helper.from_array(np.array(-entry["offset"], np.uint8), f"{name}/zero")])
        constants = [f"{name}/scale", f"{name}/zero"]
        outputs.append(f"{name}/quantized")
        for at, added in enumerate((
                helper.make_node("QuantizeLinear", [node.output[0], *constants], outputs[-1:]),
                helper.make_node("DequantizeLinear", [outputs[-1], *constants], [name])), 1):
            proto.graph.node.insert(list(proto.graph.node).index(node) + at, added)
    proto.graph.output.extend(map(helper.make_empty_tensor_value_info, outputs))
    # unoptimized, since onnxruntime would quantize the float weights by rules of its own
    values = session(proto, False).run(outputs, {model.input.tensor: real_input(model, x)})
    return {name: value.astype(np.int64) + model.tensors[name].lo
            for name, value in zip(model.tensors, values, strict=True)}


def test_results_in_a_code_are_refused_by_name(tmp_path):
    model = made(tmp_path, "depthwise")
    first, *rest = model.layers
    coded = replace(first, requantization=replace(first.requantization, code=AusnCode(3, 4)))
    with pytest.raises(UserError, match=f"layer '{first.name}' rounds its result to the levels of "
                                        "an AUSN code.*export -f integer"):
        export(replace(model, layers=(coded, *rest)), "qdq")


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(UserError, match="the format 'tflite' is unknown; use one of integer, qdq"):
        export(made(tmp_path, "depthwise"), "tflite")


@pytest.mark.parametrize("name", FORMATS)
def test_command(tmp_path, name):
    model = made(tmp_path, "residual")
    save_model(model, tmp_path / "net.q.npz")
    assert run_command(main, ["export", str(tmp_path / "net.q.npz"), "-f", name, "-o",
                              str(tmp_path / "net.out")]) == 0
    assert (tmp_path / "net.out").read_bytes() == export(model, name)
