"""The HTML report: every number on it, hostile names harmless, unknown values, nothing loaded."""

import copy
import re
from html.parser import HTMLParser

import pytest

from hw.report import critical_hops, render

#: Elements that have no end tag.
VOID = {"meta", "br", "link", "img", "input", "hr"}
#: What would make a browser ask for another file.
LOADING = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}

REPORT = {
    "board": "icebreaker", "device": "iCE40UP5K", "network": "digits", "macs": 34368,
    "mac_units": 16, "cycles_per_inference": 4012, "mac_utilisation": 0.53539, "clock_mhz": 24.0,
    "fmax_mhz": 27.33, "timing_met": True, "latency_ms": 4012 / 24e3,
    "inferences_per_s": 24e6 / 4012,
    "resources": {"LUT4": {"used": 4966, "available": 5280}, "BRAM": {"used": 27, "available": 30},
                  "SPRAM": {"used": 0, "available": 0}},
    "bitstream": "digits.bin",
    "tools": [{"name": "yosys", "version": "0.66.0.0.post1165", "source": "yowasp",
               "seconds": 12.63},
              {"name": "nextpnr-ice40", "version": "0.11", "source": "native", "seconds": 80.03}],
    "stages": {"quantize": 0.15, "simulate": 7.6, "bitstream": 93.75},
    "accuracy": {"float": 99.556, "integer": 99.333, "samples": 1450},
    "sim": {"samples": 10, "inputs": "real", "mismatches": 0},
    "layers": [{"name": "stem", "cycles": 1000, "predicted_cycles": 1000, "macs": 1600,
                "mismatches": 0},
               {"name": "block1_pw", "cycles": 2400, "predicted_cycles": 2399, "macs": 32768,
                "mismatches": 0},
               {"name": "pool", "cycles": 612, "predicted_cycles": 612, "macs": 0,
                "mismatches": 0}],
    "memory": {"tape_bytes": 8960, "activation_bytes": 65536},
    "engine": {"channels": 4, "pixels": 4, "requantizers": 1, "tape_depth": 8192,
               "activation_depth": 16384, "single_port": True, "accumulator_bits": 23,
               "multiplier_slice": 8, "weight_bits": 8, "shifts": [16, 20]},
    "seed": 3,
    "critical_path": [
        {"from": "core.engine.long_SB_DFF_Q", "to": "core.engine.long_SB_DFF_Q",
         "type": "clk-to-q", "delay": 1.39},
        {"from": "core.engine.long_SB_DFF_Q", "to": "core.engine.long_SB_LUT4_I2_1_LC",
         "type": "routing", "delay": 2.95},
        {"from": "core.engine.long_SB_LUT4_I2_1_LC", "to": "core.engine.long_SB_LUT4_I2_1_LC",
         "type": "logic", "delay": 1.2},
        {"from": "core.engine.long_SB_LUT4_I2_1_LC", "to": "core.engine.tag.last_TRELLIS_FF_Q",
         "type": "routing", "delay": 0.5},
        {"from": "core.engine.tag.last_TRELLIS_FF_Q", "to": "core.engine.tag.last_TRELLIS_FF_Q",
         "type": "setup", "delay": 0.25}],
    "preset": "w8a8",
}


class Page(HTMLParser):
    """Checks nesting; collects text, attributes, and the cells of rows by their row header."""

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.attributes, self.tags = [], [], [], set()
        self.rows, self.header, self.ids = {}, None, []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.text).split())

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "th":
            self.header = [] if ("scope", "row") in attrs else None
            assert "scope" in dict(attrs)
        if tag == "td" and self.header:
            self.rows.setdefault(" ".join(self.header), []).append("")
        if tag == "tr":
            self.header = None

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text.append(data)
        words = data.strip()
        if "th" in self.open and self.header is not None and words:
            self.header.append(words)
        elif "td" in self.open and self.header:
            self.rows[" ".join(self.header)][-1] += words


@pytest.fixture
def report():
    return copy.deepcopy(REPORT)


def test_headline(report):
    text = Page(render(report)).text
    for words in ("on iCEBreaker (iCE40UP5K), 16 multipliers at 24 MHz, quantized as w8a8",
                  "0.167 ms", "4,012 cycles", "5,982 /s", "53.5 %", "34,368 MACs",
                  "99.33 % integer, on 1,450 test samples; float 99.56 % (-0.22 points)",
                  "27.33 MHz ✓ met built for 24 MHz (+13.9 %)",
                  "0 mismatches 10 real inputs, 3 layers"):
        assert words in text
    assert "not met" not in text


def test_tables(report):
    rows = Page(render(report)).rows
    assert rows["stem"] == ["1,000", "24.9 %", "10.0 %", "41.7", "1,600", "1,000"]
    assert rows["block1_pw"] == ["2,400", "59.8 %", "85.3 %", "100.0", "32,768", "2,399"]
    assert rows["pool"] == ["612", "15.3 %", "no products", "25.5", "0", "612"]
    assert rows["Inference"] == ["4,012", "", "53.5 %", "167.2", "34,368", "4,011"]
    assert rows["LUT4"] == ["4,966", "5,280", "94.1 %"]
    assert rows["SPRAM"] == ["0", "0", "0.0 %"]
    assert rows["weight tape"] == ["8,960", "32,768", "27.3 %"]
    assert rows["feature maps"] == ["65,536", "65,536", "100.0 %"]
    assert rows["simulate"] == ["7.60"]
    assert rows["yosys"] == ["0.66.0.0.post1165", "yowasp", "12.6"]
    assert rows["nextpnr-ice40"] == ["0.11", "native", "80.0"]
    assert rows["long"] == ["2", "2.95", "2.59", "5.54"]
    assert rows["tag.last"] == ["1", "0.50", "0.25", "6.29"]
    parameters = {name.split()[0]: cells for name, cells in rows.items()}
    assert parameters["tape_depth"] == ["8,192"]
    assert parameters["single_port"] == ["yes"]
    assert parameters["accumulator_bits"] == ["23"]


def test_chart_has_work_as_area(report):
    """The filled area of the chart is the share of products made: macs over cycles and units."""
    html = render(report)
    area = sum(float(width) * float(height) for width, height in re.findall(
        r'<rect class="done" x="[\d.]+" y="[\d.]+" width="([\d.]+)" height="([\d.]+)"/></g>', html))
    assert abs(area / (1000 * 100) - 34368 / (4012 * 16)) < 0.005
    assert "<title>2 block1_pw: 2,400 cycles (59.8 %), multipliers busy 85.3 %</title>" in html


def test_sentences(report):
    text = Page(render(report)).text
    assert "Half of the cycles or more go to 1 of 3 layers" in text
    assert "the longest is block1_pw (59.8 %)" in text
    assert "the largest part, 48.3 %, is in stem" in text
    assert "the network would take 2,148 cycles" in text
    assert "missed 1 of 3 layers" in text
    report["layers"][1]["predicted_cycles"] = 2400
    assert "predicted every layer exactly" in Page(render(report)).text


def test_only_above_the_limit_is_marked(report):
    html = render(report)
    assert re.search(r'<td class="n warn">94\.1 %', html)
    assert re.search(r'<td class="n">90\.0 %', html)       # 27 of 30 is not above 90 %
    report["resources"] = {"LUT4": {"used": 1, "available": 5280}}
    report["memory"]["activation_bytes"] = 1
    assert "Amber" not in render(report)
    assert '<span class="bar warn"' not in render(report)


def test_maps_of_codes_take_half_a_byte(report):
    report["engine"] |= {"channels": 8, "requantizers": 4, "accumulator_bits": 16, "weight_bits": 4,
                         "maximum": False, "leaky": False, "clips": False, "codes": True,
                         "shifts": [5, 6]}
    report["memory"] = {"tape_bytes": 1, "activation_bytes": 2}
    rows = Page(render(report)).rows
    assert [rows[name][1] for name in ("weight tape", "feature maps")] == ["32,768", "65,536"]


def test_clock_not_met(report):
    report |= {"fmax_mhz": 20.5, "timing_met": False}
    text = Page(render(report)).text
    assert "The clock is not met" in text
    assert "20.5 MHz ✗ not met built for 24 MHz (-14.6 %)" in text
    assert "✓" not in text


def test_unknown_values(report):
    report["accuracy"] = {"float": None, "integer": None, "samples": 0}
    report["preset"] = None
    report["critical_path"] = []
    report["layers"] = []
    page = Page(render(report))
    assert "Accuracy not measured no labelled test data given" in page.text
    assert "None" not in page.text and "quantized as" not in page.text
    assert "Critical path" not in page.text and "Where the cycles go" not in page.text


def test_integer_accuracy_alone(report):
    report["accuracy"]["float"] = None
    text = Page(render(report)).text
    assert "99.33 % integer, on 1,450 test samples; float not measured" in text


@pytest.mark.parametrize(("board", "bitstream", "command"), [
    ("icebreaker", "digits.bin", "iceprog digits.bin"),
    ("icebreaker", "my net.bin", "iceprog 'my net.bin'"),
    ("ulx3s_85f", "digits.bit", "openFPGALoader -b ulx3s digits.bit")])
def test_board_commands(report, board, bitstream, command):
    text = Page(render(report | {"board": board, "bitstream": bitstream})).text
    assert command in text
    assert "with your own programmer; it is not part of Shiftwise" in text
    assert "python -m hw.run --port PORT --data TEST.npz --build DIR" in text


def test_board_without_known_loader(report):
    text = Page(render(report | {"board": "mine"})).text
    assert "on mine (iCE40UP5K)" in text
    assert "Load the bitstream digits.bin with your own programmer" in text


def test_hostile_names_are_text(report):
    hostile = "</title></style><script>alert(1)</script>\" onload='x' {{ 7 * 7 }} & <img src=x>"
    report |= {"network": hostile, "bitstream": hostile, "board": hostile, "preset": hostile}
    report["layers"][0]["name"] = hostile
    report["tools"][0]["version"] = hostile
    report["critical_path"][2]["to"] = hostile
    report["resources"][hostile] = {"used": 1, "available": 2}
    page = Page(render(report))
    assert not page.tags & {"script", "img"}
    assert "onload" not in dict(page.attributes)
    assert page.text.count(hostile) >= 7


def test_loads_nothing(report):
    html = render(report)
    page = Page(html)
    assert not LOADING & {name for name, _ in page.attributes}
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "img", "base"}
    assert not re.search(r"https?:|url\(|@import", html)
    assert "default-src 'none'" in html


def test_accessible(report):
    html = render(report)
    page = Page(html)
    assert len(re.findall("<svg", html)) == len(re.findall(r'<svg[^>]*role="img" aria-label="[^"]+',
                                                           html)) == 2
    assert len(page.ids) == len(set(page.ids))
    assert {value for name, value in page.attributes if name == "aria-labelledby"} <= set(page.ids)
    assert "prefers-color-scheme: dark" in html and 'name="viewport"' in html


def test_sixty_long_names(report):
    layer = report["layers"][1]
    report["layers"] = [layer | {"name": f"Mobilenet/{'depthwise_' * 12}{number}"}
                        for number in range(60)]
    rows = Page(render(report)).rows
    assert sum(name.startswith("Mobilenet/") for name in rows) == 60
    widths = re.findall(r'class="idle" x="[\d.]+" y="0" width="([-\d.]+)" height="100"',
                        render(report))
    assert len(widths) == 60 and min(map(float, widths)) > 0


def test_hops_share_their_modules():
    def hop_names(*names):
        prefix, hops = critical_hops([{"from": name, "to": name, "type": "logic", "delay": 1}
                                      for name in names])
        return prefix, [hop.name for hop in hops]

    assert hop_names("a.b.x_LUT4_Z", "a.b.x_CCU2C_S0", "a.c.y") == ("a.", ["b.x", "c.y"])
    assert hop_names("a.x", "y") == ("", ["a.x", "y"])
    assert hop_names("a.x", "a.x_SB_LUT4_O_LC") == ("a.", ["x"])
    assert hop_names() == ("", [])


def test_a_layer_without_steps(report):
    """A concatenation that costs nothing has its row, and a column of no width."""
    nothing = {"name": "joined", "cycles": 0, "predicted_cycles": 0, "macs": 0, "mismatches": 0}
    report["layers"].insert(1, nothing)
    html = render(report)
    Page(html)
    assert "<title>2 joined: 0 cycles (0.0 %), multipliers busy 0.0 %</title>" in html
