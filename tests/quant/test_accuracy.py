"""Accuracy of real networks; the data are not part of the repository."""

import pytest

from bench import accuracy


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


def test_bundled_digits():
    result = accuracy.measure("digits", "w8a8")
    assert result["samples"] == 450 and result["integer"] >= 99
