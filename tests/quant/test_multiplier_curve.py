"""The measurement of multipliers' widths: what is measured, stored and documented."""

import json

import pytest

from bench import accuracy, multipliers


def test_a_measurement(monkeypatch, tmp_path):
    monkeypatch.setattr(multipliers, "RESULTS", tmp_path / "multipliers.json")
    monkeypatch.setattr(multipliers, "CASES", (("mixed", 16),))
    monkeypatch.setattr(multipliers, "BITS", (1, 15))
    shifted, multiplied = multipliers.measure("digits")
    assert shifted["proved_bits"] <= 16 and shifted["samples"] == 450
    assert sum(shifted["shifts"].values()) > 100 and multiplied["shifts"] == {}
    assert multiplied["snr_db"] > 10 and shifted["integer"] > 95
    assert json.loads((tmp_path / "multipliers.json").read_text())["results"] == [
        shifted, multiplied]


@pytest.mark.parametrize(("title", "network", "case"), [
    ("KWS: ... sums of 24 bits", "kws", ("mixed", 24)),
    *((f"{name}: {weights}", network, (code, 16))
      for name, network in (("KWS", "kws"), ("MNIST", "mnist"))
      for weights, code in (("half linear, half AUSN", "mixed"), ("linear", "linear"),
                            ("AUSN", "ausn")))])
def test_the_documented_table_is_the_measured_one(title, network, case):
    stored = json.loads(multipliers.RESULTS.read_text())["results"]
    text = (accuracy.ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")
    found = {one["multiplier_bits"]: one for one in stored if one["network"] == network
             and (one["weight_code"], one["accumulator_bits"]) == case}
    cells = [f"{found[bits]['integer']:.2f}, {found[bits]['snr_db']:.1f}"
             for bits in multipliers.BITS]
    assert f"| {title} | {' | '.join(cells)} |\n" in text
