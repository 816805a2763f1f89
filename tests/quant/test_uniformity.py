"""Uniformity: the forms by hand, the stored correlations, and what is said of them."""

import json

import numpy as np

from bench import uniformity as bench
from quant.balance import uniformity
from quant.calibrate import Statistics

STORED = json.loads(bench.RESULTS.read_text())


def test_forms_by_hand():
    largest, square = np.array([1.0, 4.0, 4.0, 2.0]), np.array([0.25, 4.0, 3.0, 1.0])
    found = bench.forms(largest, square)
    assert found["mean of maxima"] == 0.6875 and found["median of maxima"] == 0.75
    assert found["smallest of maxima"] == 0.25
    assert np.isclose(found["geometric mean of maxima"], (1 / 8) ** 0.25, rtol=1e-3)
    assert np.isclose(found["harmonic mean of maxima"], 1 / 2, rtol=1e-3)
    assert np.isclose(found["root mean square of maxima"], np.sqrt(37 / 64), rtol=1e-3)
    chosen = found[bench.CHOSEN]
    assert np.isclose(chosen, np.sqrt(8.25 / 4) / 4, rtol=1e-3)
    statistics = Statistics(-largest / 2, largest, largest, square, np.zeros((4, 1)))
    assert np.isclose(uniformity(statistics), chosen, rtol=1e-3)


def test_uniformity_of_zeros_and_of_one_magnitude():
    nothing = np.zeros(3)
    assert uniformity(Statistics(nothing, nothing, nothing, nothing, np.zeros((3, 1)))) == 1
    same = np.full(3, 2.0)
    assert uniformity(Statistics(-same, same, nothing, same ** 2, np.zeros((3, 1)))) == 1


def test_correlations():
    values = np.array([3.0, 1.0, 2.0, 2.0])
    assert bench.ranks(values).tolist() == [3.5, 0.5, 2.0, 2.0]
    assert bench.correlation(values, 5 - 2 * values) == -1
    assert bench.noise(np.array([0.0, 1.2, 9.0, -9.0]), 4.0, 4, True) == np.float64(
        0.2 ** 2 + 25 + 25).round(12)


def test_the_chosen_form_predicts_best():
    for kind in ("all", "activations", "weights"):
        for bits in (8, 4):
            found = {one["form"]: (one["pearson"], one["spearman"])
                     for one in STORED["correlations"] if one["network"] == "all"
                     and (one["tensors"], one["bits"], one["range"]) == (kind, bits, "mse")}
            assert set(found) == set(bench.FORMS)
            assert found[bench.CHOSEN] == tuple(map(min, zip(*found.values(), strict=True)))


def test_what_is_said_is_what_was_measured():
    text = " ".join((uniformity.__doc__ or "").split())
    assert f"the {len(STORED['tensors'])} activation and weight tensors" in text
    said = {(one["tensors"], one["form"]): {} for one in STORED["correlations"]}
    for one in STORED["correlations"]:
        if one["network"] == "all" and one["range"] == "mse":
            said[one["tensors"], one["form"]][one["bits"]] = one["pearson"], one["spearman"]
    best = said["all", bench.CHOSEN]
    assert f"{best[8][0]:.2f} at 8 bits and {best[4][0]:.2f} at 4" in text
    assert f"Spearman's {best[8][1]:.2f} and {best[4][1]:.2f}" in text
    for form in ("root mean square of maxima", "mean of maxima"):
        both = said["all", form]
        assert (f"{both[8][0]:.2f}, {both[4][0]:.2f}, {both[8][1]:.2f} and {both[4][1]:.2f}"
                in text)
    alone = sorted(value for pair in said["activations", bench.CHOSEN].values() for value in pair)
    assert f"of activations alone {alone[-1]:.2f} to {alone[0]:.2f}" in text
    page = " ".join((bench.ROOT / "docs" / "quantization.md").read_text().split())
    assert (f"correlate with {best[8][0]:.2f} at 8 bits (activations "
            f"{said['activations', bench.CHOSEN][8][0]:.2f})") in page
    for form, name in (("root mean square of maxima", "their root mean square"),
                       ("mean of maxima", "their mean")):
        assert f"{name} {said['all', form][8][0]:.2f}" in page


def test_figure_shows_the_stored_results():
    assert bench.FIGURE.read_text() == bench.draw(STORED) + "\n"


def test_measured_as_rounding_to_a_grid_predicts():
    """Relative error times the squared steps is 1/12 over the squared uniformity, but for zeros."""
    tensors = bench.measure("digits")
    assert len(tensors) == 17
    for one in tensors:
        predicted = 1 / 12 / one["forms"][bench.CHOSEN] ** 2
        assert 0.2 * predicted < one["errors"]["8 max"] < 1.1 * predicted
        assert one["errors"]["8 mse"] < 1.3 * one["errors"]["8 max"]
