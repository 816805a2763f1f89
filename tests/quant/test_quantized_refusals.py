"""What the import refuses of already quantized files, each in one sentence that says what to do."""

from __future__ import annotations

import re

import numpy as np
import pytest

from quant import Settings, import_onnx, quantize
from ref.errors import UserError
from tests.quant.graphs import Graph
from tests.quant.networks import image_data
from tests.quant.test_branches import join
from tests.quant.test_quantized_import import (
    ASYMMETRIC,
    QDQ,
    UNSIGNED,
    quantized_by_onnxruntime,
    stored_convolution,
)


def odd_zero():
    graph = Graph(("N", 3, 12, 10)).conv(6, 3)
    graph.add("QuantizeLinear", 0.1, np.uint8(117)).add("DequantizeLinear", 0.1, np.uint8(117))
    return graph.conv(4, 6)


def weights_around(zero):
    graph = Graph(("N", 3, 12, 10))
    weight = graph.random.integers(0, 256, (4, 3, 1, 1)).astype(np.uint8)
    source, graph.last = graph.last, graph.constant(weight)
    graph.add("DequantizeLinear", 0.1, np.uint8(zero))
    return join(graph, "Conv", source, graph.last)


def scales_within_rows():
    graph = Graph(("N", 3, 12, 10))
    weight = graph.random.integers(-9, 9, (4, 3, 1, 1)).astype(np.int8)
    source, graph.last = graph.last, graph.constant(weight)
    graph.add("DequantizeLinear", np.array([0.1, 0.2, 0.3]), np.zeros(3, np.int8), axis=1)
    return join(graph, "Conv", source, graph.last)


REFUSED = {
    "zero point": (odd_zero, r"the map 'conv0_out' is quantized to the integers -117..138 around "
                   r"its zero, and maps between layers have no zero point here; quantize "
                   r"activations symmetrically \(onnxruntime: extra_options="
                   r"{'ActivationSymmetric': True}\) or give the float network"),
    "weights' zero point": (lambda: weights_around(30),
                            r"Conv 'conv1' has weights of -\d+..\d+ once their zero point is taken "
                            r"off, beyond -128..127; quantize weights symmetrically to 8 bits or "
                            r"fewer"),
    "scales along the input channels": (
        scales_within_rows, r"Conv 'conv1' has weights whose scales differ within an output "
        r"channel; quantize weights per tensor or per output channel"),
    "dynamic": (lambda: Graph(("N", 12)).add("DynamicQuantizeLinear"),
                r"DynamicQuantizeLinear 'dynamicquantizelinear0' is dynamic quantization, whose "
                r"scales depend on each input; quantize statically \(QDQ or QOperator\) or give "
                r"the float network"),
    "another scale": (
        lambda: Graph(("N", 3, 12, 10)).conv(6, 3).add("QuantizeLinear", 0.1, np.int8(0)).add(
            "DequantizeLinear", 0.2, np.int8(0)),
        r"DequantizeLinear 'dequantizelinear2' has another scale or zero point than the "
        r"QuantizeLinear before it; quantize the network again"),
    "sixteen bits": (
        lambda: Graph(("N", 3, 12, 10), 21).conv(6, 3).add("QuantizeLinear", 0.1, np.int16(0)).add(
            "DequantizeLinear", 0.1, np.int16(0)),
        r"QuantizeLinear 'quantizelinear1' rounds to int16; only int8, uint8, int4, uint4 are "
        r"supported"),
    "a scale of 0": (
        lambda: Graph(("N", 3, 12, 10)).conv(6, 3).add("QuantizeLinear", 0.0, np.int8(0)).add(
            "DequantizeLinear", 0.0, np.int8(0)),
        r"QuantizeLinear 'quantizelinear1' has a scale that is not a number above 0; quantize the "
        r"network again"),
    "unlike zero points": (
        lambda: Graph(("N", 3, 12, 10)).conv(6, 3).add(
            "QuantizeLinear", np.full(6, 0.1), np.arange(6, dtype=np.int8)).add(
            "DequantizeLinear", np.full(6, 0.1), np.arange(6, dtype=np.int8)),
        r"QuantizeLinear 'quantizelinear1' has scales per block or unlike zero points; quantize "
        r"the network with one scale per tensor or per channel and one zero point"),
    "a Min without ReLU": (
        lambda: Graph(("N", 3, 12, 10)).conv(6, 3).add("Min", np.arange(6.0).reshape(6, 1, 1)),
        r"Min 'min1' has a limit for each channel; only those of 0 or more right after a ReLU are "
        r"supported"),
    "integers in a convolution": (
        lambda: Graph(("N", 3, 12, 10)).conv(6, 3).add("QuantizeLinear", 0.1, np.int8(0)).add(
            "Relu").add("DequantizeLinear", 0.1, np.int8(0)),
        r"Relu 'relu2' computes with integers; dequantize them first"),
    "padding with another integer": (
        lambda: Graph(("N", 3, 12, 10)).conv(6, 3).add("QuantizeLinear", 0.1, np.uint8(128)).add(
            "Pad", np.array([0, 0, 1, 0, 0, 0, 1, 2])).add("DequantizeLinear", 0.1,
                                                           np.uint8(128)),
        r"Pad 'pad2' pads with something other than zero; only zero padding is supported"),
    "limits without a QuantizeLinear": (
        lambda: Graph(("N", 3, 12, 10)).conv(6, 3).add("Clip", -1.0, 1.0).conv(4, 6),
        r"Clip 'clip1' clips to -1..1; only a lower limit of 0 and a positive upper limit are "
        r"supported"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(tmp_path, case):
    make, sentence = REFUSED[case]
    with pytest.raises(UserError) as error:
        import_onnx(make().save(tmp_path))
    assert re.fullmatch(sentence, str(error.value)), error.value


@pytest.mark.parametrize(("settings", "sentence"), [
    ("w4a8", r"the weights of layer '.*conv0.*' came as integers of 8 bits, and the settings ask "
             r"for 4 bits \(linear\); give the float network, or quantize with w8a8"),
    (Settings(activation_bits=6), r"the map '.*' came with integers of 8 bits, and the settings "
                                  r"ask for 6 bits \(linear\); give the float network, or quantize "
                                  r"with w8a8"),
    (Settings(multiplier_bits=4), r"the weights of layer '.*conv0.*' came as integers, which ask "
                                  r"for multipliers of 15 bits; give the float network, leave"),
])
def test_settings_that_the_file_does_not_leave(tmp_path, settings, sentence):
    path = quantized_by_onnxruntime(tmp_path, "depthwise", QDQ, UNSIGNED, ASYMMETRIC)
    with pytest.raises(UserError, match=sentence):
        quantize(path, image_data(), settings)


def test_unlike_scales_into_one_sum_are_refused(tmp_path):
    scale, zeros = np.linspace(0.02, 0.2, 6).astype(np.float32), np.zeros(6, np.int8)
    graph = Graph(("N", 3, 12, 10)).conv(6, 3, 3)
    graph.add("QuantizeLinear", scale, zeros).add("DequantizeLinear", scale, zeros)
    network = import_onnx(stored_convolution(graph, np.full(4, 1e-3), np.zeros(4)).save(tmp_path))
    with pytest.raises(UserError, match="came as integers, and the channels it adds up have unlike "
                                        "scales; quantize its input with one scale"):
        quantize(network, image_data())
