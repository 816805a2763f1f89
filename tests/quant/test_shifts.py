"""Networks for lanes of both kinds keep to as many following shifts as their engine has."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest

from hw.code_lowering import channel_shifts, fitted_shifts
from hw.config import CODE_SHIFTS, FRACTION_BITS, MOST_SHIFT
from quant import PRESETS, quantize, shifts
from quant.dyadic import narrow_ratios
from quant.shifts import engine_shifts, window_spans
from tests.quant.graphs import Graph
from tests.quant.networks import depthwise_network, image_data

MIXED = PRESETS["mixed4"]


def spread_network(folder):
    """Sums of 48 bytes in the first layer, of unlike channels, and of two levels in the last."""
    graph = Graph(("N", 3, 4, 4)).conv(8, 3, 4).add("Mul", 2.0 ** -np.arange(8).reshape(8, 1, 1))
    graph.add("Relu")
    graph.conv(2, 8).add("Relu").add("Flatten")
    return graph.add("Gemm", graph.random.normal(size=(2, 2)), np.zeros(2)).save(folder)


def test_the_engine_has_as_many():
    assert (shifts.SHIFTS, shifts.LAST_SHIFT) == (CODE_SHIFTS, MOST_SHIFT)
    assert shifts.FRACTION_BITS == FRACTION_BITS


def test_far_ratios_are_moved_into_one_window(tmp_path, monkeypatch):
    network, data = spread_network(tmp_path), image_data((3, 4, 4))
    kept = quantize(network, data, "mixed4")
    assert max(fitted_shifts(kept)) - min(fitted_shifts(kept)) < CODE_SHIFTS
    assert window_spans(kept, MIXED) == {}
    monkeypatch.setattr(import_module("quant.quantize"), "window_spans", lambda *_: {})
    free = quantize(network, data, "mixed4")
    needed = np.concatenate([channel_shifts(layer, free) for layer in free.layers])
    assert needed.max() - needed.min() >= CODE_SHIFTS
    spans = window_spans(free, MIXED)
    assert list(spans) == [layer.name for layer in free.layers]
    for layer in kept.layers:
        ratio = layer.requantization.multiplier * 2.0 ** -layer.requantization.shift
        least, largest = spans[layer.name]
        assert least <= ratio.min() and ratio.max() <= largest


def test_networks_with_few_shifts_and_other_settings_stay(tmp_path):
    model = quantize(depthwise_network(tmp_path, cap=None), image_data(), MIXED)
    for layer in model.layers:
        assert np.array_equal(engine_shifts(layer, model), channel_shifts(layer, model))
    assert window_spans(model, MIXED) == {}


@pytest.mark.parametrize("settings", [{"multiplier_bits": 2}, {"weight_code": "ausn"}])
def test_other_networks_have_no_window(settings):
    assert window_spans(None, replace(MIXED, **settings)) == {}


def test_ratios_outside_a_span_take_its_ends():
    span = 2.0 ** -6, 2.0 ** -4
    found, shift = narrow_ratios(np.array([0.2, 0.03, 1e-4]), 1, span)
    ratios = found * 2.0 ** -shift
    assert ratios.min() == span[0] and ratios.max() == span[1]
    assert (ratios[1:, 0] == span[1]).all() and (ratios[:2, 2] == span[0]).all()
