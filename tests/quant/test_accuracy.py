"""Accuracy of real networks; the data are not part of the repository."""

import json

import pytest

from bench import accuracy
from bench.record import record


@pytest.mark.parametrize(("network", "lost"), [("kws", 0.3), ("vww", 0.7), ("vww_relu6", 0.7),
                                               ("mnist", 0.5), ("cifar10", 0.5),
                                               ("resnet8", 0.8)])
@pytest.mark.long
def test_shared_networks(tmp_path, monkeypatch, network, lost):
    if not accuracy.SHARED.is_dir():
        pytest.skip(f"no data folder {accuracy.SHARED}")
    pytest.importorskip("PIL", reason="expanding the images needs Pillow")
    monkeypatch.setattr(accuracy, "DATA", tmp_path)
    result = accuracy.measure(network, "w8a8")
    assert result["integer"] >= result["float"] - lost


@pytest.mark.parametrize(("network", "preset", "weight_scale", "input_bits", "least"), [
    ("kws", "w4a8", "channel", 8, 91.2), ("vww_relu6", "w8a8", "tensor", 8, 76.6),
    ("imagenet_128", "w8a8", "channel", 8, 43.3), ("imagenet_224", "w8a8", "channel", 8, 78.3),
    ("skynet", "w6a8", "channel", 8, 0.7285), ("kws_arm_l", "w8a8", "channel", 12, 91.0)])
@pytest.mark.long
def test_shared_networks_reach(tmp_path, monkeypatch, network, preset, weight_scale, input_bits,
                               least):
    if not accuracy.SHARED.is_dir():
        pytest.skip(f"no data folder {accuracy.SHARED}")
    pytest.importorskip("PIL", reason="expanding the images needs Pillow")
    monkeypatch.setattr(accuracy, "DATA", tmp_path)
    assert accuracy.measure(network, preset, weight_scale, input_bits)["integer"] >= least


def test_record_replaces_only_the_same_measurement(tmp_path):
    path = tmp_path / "accuracy.json"
    one = {"network": "a", "preset": "w8a8", "weight_scale": "channel", "input_bits": 8,
           "integer": 1.0}
    others = [one | {"weight_scale": "tensor"}, one | {"input_bits": 12}]
    for result in (one, *others, one | {"integer": 2.0}):
        record(path, result, accuracy.KEYS)
    stored = json.loads(path.read_text())["results"]
    assert stored == [one | {"integer": 2.0}, *others]


def test_bundled_digits():
    result = accuracy.measure("digits", "w8a8")
    assert result["samples"] == 450 and result["integer"] >= 99
