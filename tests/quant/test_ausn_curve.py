"""The curves of AUSN against linear integers: what is measured, stored and drawn."""

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from bench import accuracy, ausn_curve
from bench.ausn_plot import GAP, HEIGHT, LINES, NETWORKS, ROWS, TOP, draw


def stored():
    return json.loads(ausn_curve.RESULTS.read_text())["results"]


def found(network, **wanted):
    """The stored result of weights with these fields."""
    one, = (one for one in stored() if one["network"] == network
            and all(one[name] == value for name, value in wanted.items()))
    return one


def test_every_point_has_settings_and_linear_ones_come_first():
    for points in ausn_curve.POINTS.values():
        assert len(set(points)) == len(points)
        for what, code, bits, scale in points:
            settings = ausn_curve.settings_of((what, code, bits, scale))
            assert getattr(settings, f"{what.removesuffix('s')}_code") == code
            assert getattr(settings, f"{what.removesuffix('s')}_bits") == bits
            assert settings.weight_scale == scale
            if code == "ausn":
                place = points.index((what, code, bits, scale))
                assert (what, "linear", bits, scale) in points[:place]


def test_a_measurement(monkeypatch):
    monkeypatch.setitem(ausn_curve.POINTS, "digits", [
        ("weights", "linear", 4, "channel"), ("weights", "ausn", 5, "channel"),
        ("activations", "ausn", 4, "channel")])
    linear, ausn, activations = ausn_curve.measure("digits")
    assert linear["samples"] == 450 and linear["against"] == {} == linear["splits"]
    assert list(ausn["against"]) == ["linear 4"] and ausn["snr_db"] > linear["snr_db"] > 10
    assert ausn["integer"] - linear["integer"] == pytest.approx(
        100 / 450 * (ausn["against"]["linear 4"]["gained"] - ausn["against"]["linear 4"]["lost"]),
        abs=0.01)
    assert set(ausn["splits"]) <= {"2+2", "3+1"}
    assert set(activations["splits"]) <= {"1+3", "2+2", "3+1"}


def test_pairs_are_counted():
    right, other = np.array([True, True, False, False]), np.array([True, False, True, True])
    assert ausn_curve.paired(right, other) == {"gained": 1, "lost": 2}


@pytest.mark.parametrize("network", ["kws", "imagenet_224"])
def test_five_ausn_bits_are_above_four_linear_ones(network):
    common = {"what": "weights", "weight_scale": "channel"}
    ausn, linear = (found(network, code=code, bits=bits, **common)
                    for code, bits in (("ausn", 5), ("linear", 4)))
    assert ausn["integer"] > linear["integer"] and ausn["snr_db"] > linear["snr_db"] + 1
    pair = ausn["against"]["linear 4"]
    assert pair["gained"] > pair["lost"]


@pytest.mark.parametrize(("network", "title"), [
    ("kws", "keyword spotting"), ("imagenet_128", "MobileNetV1-0.25-128"),
    ("imagenet_224", "MobileNetV1-0.75-224")])
def test_the_documented_table_is_the_measured_one(network, title):
    text = (accuracy.ROOT / "docs" / "quantization.md").read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith(f"| {title}, "))
    results = [found(network, what="weights", weight_scale="channel", code=code, bits=bits)
               for code, bits in (("linear", 4), ("linear", 5), ("ausn", 5))]
    cells = [f"{one['integer']:.2f} %, {one['snr_db']:.1f} dB" for one in results]
    assert row == (f"| {title}, {results[0]['samples']:,} samples | {results[0]['float']:.2f} % | "
                   f"{' | '.join(cells)} |")


def test_the_drawing_is_that_of_the_results():
    assert ausn_curve.PLOT.read_text(encoding="utf-8") == draw(stored())


def test_all_points_are_drawn():
    root = ET.fromstring(draw(stored()))
    circles = [one for one in root.iter() if one.tag.endswith("circle")]
    panels = {what for what, _, _ in ROWS}
    assert len(circles) == 2 * sum(one["network"] in NETWORKS and one["what"] in panels
                                   for one in stored())
    texts = [one.text for one in root.iter() if one.tag.endswith("text")]
    assert all(name in texts for _, _, name in LINES.values())


def test_all_points_lie_inside_their_panel():
    one = {"network": "kws", "what": "weights", "weight_scale": "channel", "code": "ausn",
           "float": 90.0, "snr_db": 20.0}
    text = draw([one | {"bits": 3, "integer": 1.0}, one | {"bits": 8, "integer": 90.0,
                                                             "snr_db": None}])
    root = ET.fromstring(text)
    heights = [float(one.get("cy")) for one in root.iter() if one.tag.endswith("circle")]
    first, second = TOP + 12, TOP + 12 + HEIGHT + GAP
    assert len(heights) == 3 and first <= heights[1] < heights[0] <= first + HEIGHT
    assert second <= heights[2] <= second + HEIGHT


def test_unknown_networks_are_refused():
    with pytest.raises(accuracy.UserError, match="unknown network 'mnist'; choose among kws, "):
        ausn_curve.main(["mnist"])
