"""Accumulators of a chosen width: what fits, what that costs, and what is refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quant import PRESETS, Settings, quantize, with_settings
from quant.__main__ import main
from quant.accumulators import Reads, narrow
from quant.evaluate import evaluate, real_input
from quant.weights import LinearCode, round_weights, weight_steps
from ref import AveragePool2d, Conv2d, Data, UserError, load_model, logits
from ref.ausn import AusnCode
from ref.bounds import accumulator_bounds
from ref.errors import run_command
from ref.onnx_integer import integer_onnx
from ref.oracles import run_integer_onnx
from tests.quant.graphs import Graph
from tests.quant.networks import depthwise_network, image_data

CODE = LinearCode(8)


def reads(rows, inputs, bias=0.0, rectified=True, top=255):
    shape = rows, inputs
    return Reads(np.zeros(shape), np.full(shape, top), np.zeros(shape), np.full(shape, 6000.0),
                 np.full(rows, bias), rectified)


@given(st.integers(0, 2 ** 32 - 1), st.booleans())
def test_reach_is_that_of_the_extreme_inputs(seed, rectified):
    random = np.random.default_rng(seed)
    lo, hi = np.sort(random.integers(-9, 9, (2, 1, 3)), axis=0)
    weight, bias = random.integers(-4, 5, (1, 3)), random.integers(-300, 300, 1)
    met = Reads(lo, hi, np.zeros((1, 3)), np.ones((1, 3)), np.zeros(1), rectified)
    reach, found = met.reach(weight, bias)
    corners = [sum(weight[0, k] * (lo, hi)[which >> k & 1][0, k] for k in range(3)) + found[0]
               for which in range(8)]
    bits = int(reach[0] - 1).bit_length() + 1
    assert -(1 << (bits - 1)) <= min(corners) and max(corners) < 1 << (bits - 1)
    assert reach[0] == max(-min(corners), max(corners) + 1, abs(found[0]) + 1)
    changed = found[0] != bias[0]
    assert not changed or (rectified and max(corners) == 0)     # 0 for every input, as before


@pytest.mark.parametrize(("inputs", "code"), [(9, CODE), (64, CODE), (200, CODE),
                                              (64, AusnCode(3, 2))])
def test_narrow_rows_fit_and_lose_no_more_than_by_growing_steps_until_they_do(inputs, code):
    random = np.random.default_rng(inputs)
    weight = random.normal(size=(12, inputs)) / 50
    weight[0] /= 100                                            # the bias outweighs this row
    met = reads(12, inputs, bias=0.4, rectified=False)
    step, _ = weight_steps(weight, code, met.energy)
    found = narrow(weight, step, code, met, 1 << 15)
    assert (found.needed > 1 << 15).all()
    integers = round_weights(weight, found.step, code)
    low, high = accumulator_bounds(
        integers.reshape(12, inputs, 1, 1), np.rint(0.4 / found.step), np.zeros(inputs),
        np.full(inputs, 255), None, 1)
    assert low.min() >= -(1 << 15) and high.max() < 1 << 15

    def loss(step):
        error = weight - round_weights(weight, step, code) * step[:, None]
        return (error ** 2 * met.energy).sum(axis=1)

    assert np.allclose(loss(found.step), found.error ** 2)
    assert np.allclose(found.loss, found.error ** 2 / (weight ** 2 * met.energy).sum(axis=1))
    coarse = step.copy()
    while (reach := met.reach(round_weights(weight, coarse, code), 0.4 / coarse)[0] / 2 ** 15
           ).max() > 1:
        coarse[reach > 1] *= 1.05
    assert (found.error ** 2 <= 1.15 * loss(coarse)).all()
    assert (found.error ** 2).sum() < loss(coarse).sum()


def test_rows_that_fit_keep_their_steps():
    weight = np.random.default_rng(0).normal(size=(6, 40))
    weight[3] *= 1000
    step = np.abs(weight).max(axis=1) / 127
    step[2] *= 60
    met = reads(6, 40)
    found = narrow(weight, step, CODE, met, 1 << 15)
    assert found.step[2] == step[2] and found.error[2] == found.loss[2] == 0
    assert (np.delete(found.step, 2) > np.delete(step, 2)).all()
    assert found.loss[3] < 3 * found.loss[[0, 1, 4, 5]].mean()              # whatever the scale
    assert np.array_equal(narrow(weight, step, CODE, met, 1 << 23).step, step)


def snr(real, found):
    return 10 * np.log10((real ** 2).sum() / ((real - found) ** 2).sum())


@pytest.mark.parametrize(("given", "least"), [
    ({"accumulator_bits": 16}, 20), ({"accumulator_bits": 16, "rounding": "nearest"}, 15),
    ({"accumulator_bits": 18}, 25), ({"accumulator_bits": 16, "weight_code": "ausn"}, 15),
    ({"accumulator_bits": 16, "weight_scale": "tensor"}, 18)])
def test_every_sum_of_a_network_fits(tmp_path, given, least):
    network, data = depthwise_network(tmp_path), image_data()
    settings = with_settings(PRESETS["w8a8"], **given)
    model = quantize(network, data, settings)
    assert max(layer.proof.bits for layer in model.layers) <= settings.accumulator_bits
    word = 1 << (settings.accumulator_bits - 1)
    assert all(np.abs(layer.requantization.bias).max() < word for layer in model.layers)
    assert model.metadata["wider_accumulators"] == {}
    assert set(model.metadata["narrowed_channels"]) <= {layer.name for layer in model.layers}
    assert 0 < max(model.metadata["narrowed_channels"].values()) <= 12
    real = evaluate(network, real_input(network, data, np.float64))[:, :, 0, 0]
    assert snr(real, logits(model, data.x) * model.output_tensor.scale) > least
    found = run_integer_onnx(integer_onnx(model), data.x)[model.output_tensor.name]
    assert np.array_equal(found.reshape(len(data), -1), logits(model, data.x))


def test_steps_fit_at_once_where_sums_are_those_of_the_nearest_levels(tmp_path, monkeypatch):
    """Growing steps until they fit is for greedy rounding and for bias correction."""
    monkeypatch.setattr("quant.layers.ATTEMPTS", 1)
    settings = Settings(accumulator_bits=16, rounding="nearest", bias_correction=False)
    model = quantize(depthwise_network(tmp_path), image_data(), settings)
    assert max(layer.proof.bits for layer in model.layers) == 16


def wide_network(tmp_path, inputs=1500):
    """A fully connected layer that no 16-bit accumulator holds, behind one that it does.

    Its weights are nearly all of one size: whichever becomes 0 is lost whole.
    """
    random = np.random.default_rng(1)
    graph = Graph(("N", 4)).add("Gemm", random.normal(size=(4, inputs)))
    alike = random.uniform(0.9, 1.1, (inputs, 3)) * random.choice([-1, 1], (inputs, 3))
    graph.add("Relu").add("Gemm", alike)
    x = np.random.default_rng(0).integers(0, 256, (60, 4)).astype(np.uint8)
    return graph.save(tmp_path), Data(x, None, np.array(1 / 128), np.array(0.0))


def test_layer_that_cannot_fit_is_refused_by_name(tmp_path):
    path, data = wide_network(tmp_path)
    with pytest.raises(UserError, match=(
            r"layer 'gemm2' needs an accumulator of 2\d bits, and in 16 bits the weights of "
            r"channel \d would keep less than 2 bits are worth; use fewer weight or activation")):
        quantize(path, data, Settings(accumulator_bits=16))


def test_wider_accumulators_are_as_narrow_as_the_layer_allows_and_reported(tmp_path):
    path, data = wide_network(tmp_path)
    plain = quantize(path, data, Settings(rounding="nearest"))
    model = quantize(path, data, Settings(rounding="nearest", accumulator_bits=16,
                                          wider_accumulators=True))
    bits = {layer.name: layer.proof.bits for layer in plain.layers}
    assert model.metadata["wider_accumulators"] == {"gemm2": bits["gemm2"]}
    assert bits["gemm2"] > 20 and np.array_equal(model.layers[1].weight, plain.layers[1].weight)
    assert model.layers[0].proof.bits <= 16 < bits["gemm0"]
    assert set(model.metadata["narrowed_channels"]) == {"gemm0"}


def test_pool_that_cannot_fit(tmp_path):
    graph = Graph(("N", 1, 30, 30)).add("GlobalAveragePool")
    data = Data(np.full((1, 1, 30, 30), 9, np.uint8), None, np.array(1.0), np.array(0.0))
    path = graph.save(tmp_path)
    with pytest.raises(UserError, match=r"'globalaveragepool0' needs an accumulator of 19 bits"):
        quantize(path, data, Settings(accumulator_bits=18))
    model = quantize(path, data, Settings(accumulator_bits=18, wider_accumulators=True))
    assert isinstance(model.layers[0], AveragePool2d) and model.layers[0].proof.bits == 19
    assert model.metadata["wider_accumulators"] == {"globalaveragepool0": 19}


def test_weights_of_no_effect_are_not_a_reason_to_refuse(tmp_path):
    """Channel 0 adds a large constant to almost nothing: its weights cannot be kept, nor matter."""
    weight = np.random.default_rng(0).normal(size=(3, 3, 1, 1))
    weight[0] *= 1e-4
    graph = Graph(("N", 3, 12, 10)).add("Conv", weight, np.array([300.0, 0.5, -0.5]))
    data = image_data()
    model = quantize(graph.save(tmp_path), data, Settings(accumulator_bits=16))
    assert isinstance(model.layers[0], Conv2d) and model.layers[0].proof.bits == 16


@pytest.mark.parametrize("bits", [15, 33, 16.0])
def test_widths_that_are_not_supported(bits):
    with pytest.raises(UserError, match=f"accumulators of {bits} bits are not supported; choose"):
        Settings(accumulator_bits=bits)


def test_command_line(tmp_path, capsys):
    path, data = wide_network(tmp_path)
    np.savez(tmp_path / "calib.npz", x=data.x, x_scale=1 / 128)
    command = ["quantize", path, "--calib", str(tmp_path / "calib.npz"), "-o",
               str(tmp_path / "small.q.npz"), "--accumulator-bits", "16",
               "--rounding", "nearest"]
    assert run_command(main, command) == 2
    assert "layer 'gemm2' needs an accumulator of" in capsys.readouterr().err
    assert not (tmp_path / "small.q.npz").exists()
    assert run_command(main, [*command, "--wider-accumulators"]) == 0
    model = load_model(tmp_path / "small.q.npz")
    assert list(model.metadata["wider_accumulators"]) == ["gemm2"]
    printed = " ".join(capsys.readouterr().out.split())
    assert f"wider than 16 bits: gemm2 ({model.layers[1].proof.bits})" in printed
    assert "coarser weights, to fit: gemm0 (" in printed
