"""Wide inputs in two planes: what they gain, and that everything stays exact."""

from dataclasses import replace

import numpy as np
import pytest

from quant import Settings, import_onnx, quantize, with_settings
from quant.evaluate import evaluate_tensors, real_input
from quant.planes import low_plane_bits
from ref import Data, UserError, logits, quantize_input, run_layers
from ref.compare import compare
from tests.quant.graphs import Graph
from tests.quant.networks import depthwise_graph, image_data
from tests.quant.test_quantize import dequantized, snr

WIDE = Settings(input_bits=12)


def wide_data(bits: int, zero=0.0, scale=None, dtype="int16") -> Data:
    """Smooth images around ``zero`` that reach almost to the ends of ``bits`` bits, with noise."""
    image = image_data().x.astype(np.float64) - 128
    image += np.random.default_rng(0).uniform(-1, 1, image.shape)
    zero = np.array(zero, np.float64)
    x = np.rint(image * (0.98 * 2 ** (bits - 1) / np.abs(image).max()) + zero.reshape(-1, 1, 1))
    return Data(x.astype(dtype), None, np.array(2.0 / 2 ** (bits - 1) if scale is None else scale),
                zero)


@pytest.mark.parametrize("bits", [9, 12])
def test_data_that_fit_two_planes_are_kept_exactly(tmp_path, bits):
    network, data = import_onnx(depthwise_graph().save(tmp_path)), wide_data(bits)
    model = quantize(network, data, WIDE)
    assert model.input.low_bits == bits - 8
    assert (model.input.multiplier, model.input.shift) == (1, 0)
    q = quantize_input(model, data.x)
    assert np.array_equal((q[:, ::2] << bits - 8) + q[:, 1::2], data.x)
    assert np.allclose((q * model.input_tensor.scale.reshape(-1, 1, 1)
                        ).reshape(40, 3, 2, 12, 10).sum(axis=2), data.real(np.float64))


def test_planes_lessen_the_error_of_wide_data(tmp_path):
    graph = Graph(("N", 3, 12, 10)).conv(8, 3, 3, pads=[1, 1, 0, 1])
    network, data = import_onnx(graph.save(tmp_path)), wide_data(16)
    stem = network.layers[0].output
    real = dict(evaluate_tensors(network, real_input(network, data, np.float64)))[stem]
    found = {}
    for bits in (8, 10, 12, 15):
        model = quantize(network, data, Settings(input_bits=bits))
        sums = run_layers(model, data.x)[stem] + np.random.default_rng(0).uniform(
            -0.5, 0.5, real.shape)      # without it 8-bit results would hide the input's error
        found[bits] = np.abs(sums * model.tensors[stem].scale.reshape(-1, 1, 1) - real).mean()
        if bits == 15:                  # more than the weights can use is not taken
            assert model.input.low_bits == 4
    assert found[8] > found[10] >= found[12] * 0.95 and found[12] == found[15]


@pytest.mark.parametrize(("first", "zero", "scale", "preset"), [
    ("dense", 0.0, None, WIDE), ("dense", 300.0, None, WIDE),
    ("dense", [300.0, -200.0, 10.5], [1e-3, 2e-3, 3e-3], WIDE),
    ("depthwise", [300.0, -200.0, 10.5], [1e-3, 2e-3, 3e-3], WIDE),
    ("grouped", 0.0, None, WIDE),
    ("normalized", 5.0, None, WIDE),
    ("dense", 300.0, None, with_settings(WIDE, weight_bits=4)),
    ("dense", 0.0, None, with_settings(WIDE, weight_scale="tensor"))])
def test_any_first_convolution_reads_planes(tmp_path, first, zero, scale, preset):
    graph = Graph(("N", 3, 12, 10))
    if first == "normalized":
        graph.add("Mul", np.array([2.0, -3.0, 1.0]).reshape(1, 3, 1, 1))
        graph.add("Add", np.array([0.1, 0.2, -0.3]).reshape(1, 3, 1, 1))
    group = {"depthwise": 3, "grouped": 3}.get(first, 1)
    graph.conv(6 if first != "depthwise" else 3, 3, 3, group=group, pads=[1, 2, 0, 1])
    network, data = import_onnx(graph.save(tmp_path)), wide_data(12, zero, scale)
    model = quantize(network, data, preset)
    few = preset.weight_bits == 4
    assert model.input.low_bits == (2 if few else 4)
    assert model.layers[0].weight.shape[1] == 2 * (3 // group)
    real = dict(evaluate_tensors(network, real_input(network, data, np.float64)))
    maps = run_layers(model, data.x)
    name = network.layers[0].output
    found = dequantized(model, name, maps[name])
    limit = 22 if few else 33
    assert snr(real[name], found) > limit
    assert snr(real[name][:, :, :, 0], found[:, :, :, 0]) > limit - 5       # a padded border
    result = compare(model, data.head(5))
    assert set(result["mismatches"].values()) == {0}, result["first_mismatch"]


def test_a_whole_network_on_planes(tmp_path):
    network, data = import_onnx(depthwise_graph().save(tmp_path)), wide_data(12, 77.0)
    model = quantize(network, data, WIDE)
    result = compare(model, data.head(5))
    assert set(result["mismatches"].values()) == {0}, result["first_mismatch"]
    assert logits(model, data.x).shape == (40, 5)
    errors = model.metadata["weight_errors"][network.layers[0].name]
    assert 0 < errors["rounding"] < 1e-4        # the high plane's: the low one's are coarse


def test_data_that_need_no_planes_get_none(tmp_path):
    network = import_onnx(depthwise_graph().save(tmp_path))
    image = image_data()
    small = Data(image.x.astype(np.int16) - 128, None, np.array(1 / 64), np.array(0.0))
    for data in (image, small):
        plain, asked = (quantize(network, data, settings) for settings in (Settings(), WIDE))
        assert asked.input.low_bits == 0
        assert np.array_equal(logits(plain, data.x), logits(asked, data.x))


def test_unsigned_data_keep_their_range(tmp_path):
    network = import_onnx(depthwise_graph().save(tmp_path))
    data = wide_data(12, 2048.0, dtype="uint16")
    model = quantize(network, data, WIDE)
    assert not model.input_tensor.signed and model.input.low_bits == 4
    q = quantize_input(model, data.x)
    assert np.array_equal((q[:, ::2] << 4) + q[:, 1::2], data.x)


def test_a_pool_cannot_read_planes(tmp_path):
    graph = Graph(("N", 3, 12, 10)).add("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    network = import_onnx(graph.conv(4, 3, 3).save(tmp_path))
    assert quantize(network, wide_data(12), WIDE).input.low_bits == 0


def test_bits_of_the_low_plane(tmp_path):
    network = import_onnx(depthwise_graph().save(tmp_path))
    most = Settings(input_bits=15)
    assert [low_plane_bits(network, bits, most) for bits in range(6, 12)] == [0, 0, 0, 1, 2, 3]
    assert all(low_plane_bits(network, bits, most) == 4 for bits in (13, 16, 20))
    assert low_plane_bits(network, 16, replace(most, input_bits=10)) == 2
    # What pays depends on the weights' own bits.
    assert low_plane_bits(network, 16, replace(most, weight_bits=4)) == 2
    first = {network.layers[0].name: {"weight_bits": 4}}
    assert low_plane_bits(network, 16, replace(most, overrides=first)) == 2


@pytest.mark.parametrize("bits", [7, 16, 8.5])
def test_other_widths_are_refused(bits):
    with pytest.raises(UserError, match="input bits are not supported; choose 8 to 15"):
        Settings(input_bits=bits)


def test_padding_beyond_the_planes_is_refused(tmp_path):
    network = import_onnx(depthwise_graph().save(tmp_path))
    data = replace(wide_data(12), x_zero_point=np.array(5000.0))
    with pytest.raises(UserError, match=r"is integer 5000 of the input's -2048..2047; store x"):
        quantize(network, data, WIDE)
