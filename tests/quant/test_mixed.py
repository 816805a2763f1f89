"""Weight budgets: what they say, what each layer's bits cost, and the widths that are chosen."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest

from quant import Settings, import_onnx, quantize, with_settings
from quant.__main__ import main
from quant.budget import budget_bits
from quant.evaluate import evaluate, real_input
from quant.graph import FloatConv
from quant.mixed import _allocate, closest, settings_within_budget, weight_bytes
from quant.reader import as_data
from quant.sensitivity import PILOT_BITS, sensitivities
from quant.weights import LinearCode, round_weights, weight_steps
from ref import Conv2d, UserError, load_model, logits, save_model
from ref.errors import run_command
from tests.quant.graphs import Graph
from tests.quant.networks import depthwise_network, image_data

ALL = tuple(range(2, 9))


@pytest.mark.parametrize(("text", "bits"), [
    ("60kB", 480_000), ("1KiB", 8192), ("12 B", 96), ("0.5MB", 4e6), ("1MiB", 8 * 2 ** 20),
    ("4.5bits", 4500), ("4 bits", 4000)])
def test_budgets(text, bits):
    assert budget_bits(text, 1000) == bits


@pytest.mark.parametrize("text", ["", "60", "kB", "60KB", "-3kB", "0bits", "4.5b", 60, "1e3B"])
def test_budgets_of_another_form_are_refused(text):
    with pytest.raises(UserError, match=re.escape(f"the budget {text!r} is not a size of weights")):
        Settings(budget=text)


def test_noise_of_the_last_layer_is_what_rounding_it_does_to_the_scores(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    x = real_input(network, data)[:32]
    last = network.layers[-1]
    found = sensitivities(network, x, Settings(rounding="nearest"),
                          {last.name: (PILOT_BITS, 8)})
    before = evaluate(replace(network, layers=network.layers[:-1]), x)[:, :, 0, 0]
    weight = last.weight[:, :, 0, 0].astype(np.float64)
    energy = np.broadcast_to((before ** 2).mean(axis=0), weight.shape)

    def noise(bits):
        code = LinearCode(bits)
        step, _ = weight_steps(weight, code, energy)
        wrong = before @ (weight - round_weights(weight, step, code) * step[:, None]).T
        return (((wrong - wrong.mean(axis=0))[16:] ** 2).sum()
                / (evaluate(network, x[16:]) ** 2).sum())

    assert found[last.name][PILOT_BITS] == pytest.approx(noise(PILOT_BITS), rel=0.02)
    assert found[last.name][8] == pytest.approx(noise(8), rel=0.3)
    assert noise(8) < 0.1 * noise(PILOT_BITS)


def test_every_layer_has_less_noise_with_more_bits(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    names = [layer.name for layer in network.layers if isinstance(layer, FloatConv)]
    found = sensitivities(network, real_input(network, data), Settings(),
                          dict.fromkeys(names, ALL))
    assert list(found) == names
    for noise in found.values():
        assert list(noise) == list(ALL)
        assert all(noise[bits] > 1.5 * noise[bits + 2] > 0 for bits in range(2, 6))


def test_allocation_is_nearly_the_best_of_all():
    random = np.random.default_rng(0)
    counts = {"a": 100, "b": 1000, "c": 300, "d": 40}
    noise = {name: {bits: float(random.uniform(0.5, 20) * 4.0 ** -bits) for bits in ALL}
             for name in counts}
    noise = {name: dict(zip(ALL, sorted(values.values(), reverse=True), strict=True))
             for name, values in noise.items()}
    for left in (3000, 5000, 7000, 10000):
        chosen = _allocate(noise, counts, dict.fromkeys(counts, 2), left)
        assert sum(counts[name] * chosen[name] for name in counts) <= left
        best = min(sum(noise[name][bits] for name, bits in zip(counts, widths, strict=True))
                   for widths in itertools.product(ALL, repeat=4)
                   if sum(counts[name] * bits for name, bits in zip(counts, widths, strict=True))
                   <= left)
        assert sum(noise[name][chosen[name]] for name in counts) <= 1.5 * best
    assert _allocate(noise, counts, dict.fromkeys(counts, 2), 2879) is None
    assert _allocate(noise, counts, dict.fromkeys(counts, 2), 1e9) == dict.fromkeys(counts, 8)


def noise_of(model, network, data):
    real = evaluate(network, real_input(network, data)).reshape(len(data), -1)
    return ((logits(model, data.x) * model.output_tensor.scale - real) ** 2).sum()


def test_mixed_widths_lose_less_than_uniform_ones_of_the_same_size(tmp_path):
    """A narrow start decides everything, and most weights are behind it."""
    graph = Graph(("N", 3, 12, 10)).conv(4, 3, 3, pads=[1, 1, 1, 1]).add("Relu")
    graph.conv(4, 4, 3, group=4, pads=[1, 1, 1, 1]).add("Relu").conv(64, 4).add("Relu")
    graph.conv(64, 64).add("Relu").add("GlobalAveragePool").add("Flatten")
    graph.add("Gemm", graph.random.normal(size=(64, 5)), graph.random.normal(size=5))
    network, data = import_onnx(graph.save(tmp_path)), image_data()
    uniform = quantize(network, data, with_settings(Settings(), weight_bits=3))
    mixed = quantize(network, data, Settings(budget="3bits"))
    widths = [layer.weight_bits for layer in mixed.layers if isinstance(layer, Conv2d)]
    assert weight_bytes(mixed)[0] <= weight_bytes(uniform)[0] and weight_bytes(uniform)[1] == 3
    assert min(widths[:2]) >= 6 and weight_bytes(mixed)[1] > 2.5
    seen, test = (noise_of(mixed, network, some) / noise_of(uniform, network, some)
                  for some in (data, image_data(seed=5, samples=100)))
    assert seen < 0.7 and test < 0.7


def test_uniform_widths_are_among_those_tried(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    tried = settings_within_budget(network, data, Settings(budget="5bits"))
    layers = [layer for layer in network.layers if isinstance(layer, FloatConv)]
    widths = [[settings.of(layer.name).weight_bits for layer in layers] for settings in tried]
    assert widths[-1] == [5] * len(layers) and len(widths) > 1
    assert all(settings.of(layers[0].name).rounding == "greedy" for settings in tried[-1:])


def test_overrides_of_the_user_stay_and_stored_settings_make_the_same_model(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    settings = Settings(budget="600B", overrides={
        "conv0": {"weight_bits": 7}, "conv3": {"activation_bits": 6}, "conv.*": {
            "rounding": "nearest"}})
    model = quantize(network, data, settings)
    widths = {layer.name: layer.weight_bits for layer in model.layers if isinstance(layer, Conv2d)}
    assert widths["conv0"] == 7 and weight_bytes(model)[0] <= 600
    save_model(model, tmp_path / "small.q.npz")
    stored = Settings(**load_model(tmp_path / "small.q.npz").metadata["settings"])
    assert stored.budget == "600B" and stored.of("conv3").activation_bits == 6
    assert {name: stored.of(name).weight_bits for name in widths} == widths
    assert stored.of("conv3").rounding == "nearest"
    again = quantize(network, data, stored)
    assert all(np.array_equal(getattr(layer, "weight", 0), getattr(other, "weight", 0))
               for layer, other in zip(again.layers, model.layers, strict=True))


def test_stored_settings_make_the_same_model_with_a_searched_transfer(tmp_path):
    network, data = depthwise_network(tmp_path, seed=3), image_data()
    model = quantize(network, data, Settings(budget="3bits", transfer="search"))
    again = quantize(network, data, Settings(**model.metadata["settings"]))
    assert all(np.array_equal(getattr(layer, "weight", 0), getattr(other, "weight", 0))
               for layer, other in zip(again.layers, model.layers, strict=True))


def test_weights_that_came_as_integers_keep_their_width(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    last = network.layers[-1]
    kept = replace(last, weight_step=np.abs(last.weight).max(axis=(1, 2, 3)) / 127)
    network = replace(network, layers=(*network.layers[:-1], kept))
    tried = settings_within_budget(network, data, Settings(budget="4bits"))
    assert tried and all(last.name not in settings.overrides for settings in tried)


def test_the_closest_model_is_kept(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    models = [quantize(network, data, Settings(weight_bits=bits)) for bits in (3, 8, 2)]
    assert closest(models, network, data) is models[1]


def test_convolutions_after_a_layer_make_good_some_of_its_noise(tmp_path, monkeypatch):
    network, data = depthwise_network(tmp_path), image_data()
    x = real_input(network, data)
    first = network.layers[0].name
    fitted = sensitivities(network, x, Settings(rounding="nearest"), {first: (4,)})[first][4]
    monkeypatch.setattr("quant.greedy.Moments.fitted", lambda self, weight: weight)
    unfitted = sensitivities(network, x, Settings(rounding="nearest"), {first: (4,)})[first][4]
    assert fitted < 0.9 * unfitted


def test_ausn_weights_have_three_bits_at_least(tmp_path):
    network, data = depthwise_network(tmp_path), image_data()
    settings = with_settings(Settings(weight_code="ausn"), budget="3.5bits")
    for tried in settings_within_budget(network, data, settings):
        assert min(tried.of(layer.name).weight_bits for layer in network.layers) >= 3
    with pytest.raises(UserError, match=r"the budget 2\.5bits allows 278 bytes of weights, and "
                                        "those of 'small' take 333 with the fewest bits"):
        settings_within_budget(network, data, replace(settings, budget="2.5bits"))


def test_generous_budget_gives_eight_bits(tmp_path):
    model = quantize(depthwise_network(tmp_path), image_data(), Settings(budget="1MB"))
    assert weight_bytes(model)[1] == 8


def test_command_line(tmp_path, capsys):
    depthwise_network(tmp_path)
    data = image_data()
    np.savez(tmp_path / "calib.npz", x=data.x, x_scale=1 / 64, x_zero_point=127.5)
    command = ["quantize", str(tmp_path / "small.onnx"), "--calib", str(tmp_path / "calib.npz"),
               "-o", str(tmp_path / "small.q.npz")]
    assert run_command(main, [*command, "--budget", "0.5kB"]) == 0
    size, average = weight_bytes(load_model(tmp_path / "small.q.npz"))
    assert size <= 500
    printed = " ".join(capsys.readouterr().out.split())
    assert f"weights: {size:.0f} bytes, {average:.2f} bits each (budget 0.5kB)" in printed
    for budget, sentence in (("4.5", "is not a size of weights; write for example 60kB"),
                             ("100B", "allows 100 bytes of weights, and those of 'small' take")):
        assert run_command(main, [*command, "--budget", budget]) == 2
        assert sentence in capsys.readouterr().err


def test_budget_of_a_network_that_ends_in_a_map(tmp_path):
    """Candidates are compared on maps as well as on scores."""
    path = Graph(("N", 3, 6, 6)).conv(9, 3, 3, pads=[1, 1, 1, 1]).add("Relu").conv(
        9, 9, 3, group=9).add("Relu").conv(2, 9).save(tmp_path)
    calib = np.random.default_rng(0).integers(0, 255, (40, 3, 6, 6)).astype(np.uint8)
    models = [quantize(path, calib, with_settings(Settings(), weight_bits=bits)) for bits in (2, 8)]
    assert closest(models, import_onnx(path), as_data(calib)) is models[1]
