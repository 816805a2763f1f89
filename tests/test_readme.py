"""The README's results are the committed measurements, and its links lead somewhere."""

import json
import re
from pathlib import Path

import pytest

from bench import ausn_page, results_page

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BUILDS = json.loads((ROOT / "bench" / "results" / "builds.json").read_text())["builds"]


def row(name):
    """Cells of the results row that begins with ``name``."""
    line = next(line for line in README.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.strip("|").split("|")[1:]]


@pytest.mark.parametrize("column, build", list(enumerate(("digits", "kws", "vww"))))
def test_results_are_the_measured_ones(column, build):
    report = BUILDS[build]
    accuracy, resources = report["accuracy"], list(report["resources"].values())
    blocks = report["resources"].get("SB_MAC16") or report["resources"]["MULT18X18D"]
    expected = {
        "network": f"{report['macs']:,} MACs",
        "accuracy, float": f"{accuracy['float']:.3f} % of {accuracy['samples']:,}",
        "accuracy, integer": f"{accuracy['integer']:.3f} %",
        "cycles (predicted = simulated)": f"{report['cycles_per_inference']:,}",
        "multipliers busy": f"{report['mac_utilisation']:.1%} of {report['mac_units']}"
                            .replace("%", " %"),
        "clock built for, reached": f"{report['clock_mhz']:g}, {report['fmax_mhz']:.2f} MHz",
        "latency": f"{report['latency_ms']:.3f} ms",
        "logic": f"{resources[0]['used']:,} of {resources[0]['available']:,}",
        "multiplier blocks": f"{blocks['used']} of {blocks['available']}",
        "integers that differ from the reference in simulation": str(report["sim"]["mismatches"]),
    }
    for name, text in expected.items():
        assert text in row(name)[column], name
    assert sum(layer["predicted_cycles"] for layer in report["layers"]) \
        == report["cycles_per_inference"]


ARRAYS = json.loads((ROOT / "bench" / "results" / "engine_area.json").read_text())["results"]
NAMES = {"kws": "KWS", "vww": "VWW", "resnet8": "ResNet-8"}


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array['network']}-{array['board']}")
def test_arrays_are_the_measured_ones(array):
    board = array["board"].replace("ulx3s_", "ULX3S-").replace("f", "F")
    cells = [f"{NAMES[array['network']]}, {board}", f"{array['integer']:.2f} %",
             str(array["mac_units"]), f"{array['cycles']:,}",
             f"{array['mac_utilisation']:.1%}".replace("%", " %"),
             f"{array['mhz_best']:.1f} MHz", f"{array['latency_ms']:.3f} ms"]
    assert f"| {' | '.join(cells)} |" in README


def test_every_bar_is_met():
    assert {name: report["bars"] for name, report in BUILDS.items()
            if not all(report["bars"].values())} == {}


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?:)([^)#]+)\)", README))
def test_links_lead_somewhere(target):
    assert (ROOT / target).exists()


def test_results_page_is_of_the_measurements():
    stored = json.loads((ROOT / "bench" / "results" / "accuracy.json").read_text())["results"]
    assert (ROOT / "docs" / "results.md").read_text() == results_page.page(stored)


def test_tables_of_lanes_are_of_the_measurements():
    assert (ROOT / "docs" / "ausn-tables.md").read_text() == ausn_page.page()
