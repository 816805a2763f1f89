"""Real networks to other tools and back: the bundled one, and others where their data are."""

import numpy as np
import pytest

from bench import accuracy, exchange
from quant import quantize
from quant.exports import FORMATS
from ref import load_data, run


def check(result):
    """Exports keep the labels but for ties; taking a file over costs no more than its own noise."""
    samples, export = result["samples"], result["export"]
    assert export["changed"] <= 0.005 * samples
    assert abs(export["qdq"] - export["integer"]) <= 0.5
    taken = [form for form in result["import"] if "refused" not in form]
    assert all("no zero point" in form["refused"] for form in result["import"]
               if form not in taken)
    assert len(taken) >= 3
    for form in taken:
        assert abs(form["integer"] - form["file"]) <= 1.5
        assert form["kept_channels"] >= 0.98 * form["channels"]


def test_bundled_digits(tmp_path):
    result = exchange.measure("digits", tmp_path)
    check(result)
    assert result["export"]["changed"] == 0


@pytest.mark.parametrize("network", ["kws", "vww_relu6", "cifar10"])
@pytest.mark.long
def test_shared_networks(tmp_path, network):
    if not accuracy.SHARED.is_dir():
        pytest.skip(f"no data folder {accuracy.SHARED}")
    pytest.importorskip("PIL", reason="expanding the images needs Pillow")
    check(exchange.measure(network, tmp_path))


def test_round_trip_of_digits(tmp_path):
    """The bundled network exported as QDQ and taken over again: every result is the same."""
    data = load_data(accuracy.data_file("digits", "calib"))
    test = load_data(accuracy.data_file("digits", "test"))
    model = quantize(accuracy.NETWORKS["digits"][0], data)
    (tmp_path / "digits.qdq.onnx").write_bytes(FORMATS["qdq"](model))
    again = quantize(tmp_path / "digits.qdq.onnx", data)
    assert np.array_equal(run(model, test.x), run(again, test.x))
