"""Accuracy of KWS against lookup tables per multiply-accumulate, AUSN and linear weights: an SVG.

`python -m bench.ausn` draws docs/ausn-area.svg at its end, from bench/results/ausn.json (all public
clips, a weight step per channel) and bench/results/ausn_area.json. Below accuracy, which the number
of clips makes uncertain by half a percent, stands signal over noise of the network's results.
"""

from __future__ import annotations

import json
from pathlib import Path

from ref.atomic import write_atomically

ROOT = Path(__file__).resolve().parent.parent
PLOT = ROOT / "docs" / "ausn-area.svg"
#: Columns of panels: families and their titles.
FAMILIES = {"ice40": "iCE40", "ecp5": "ECP5"}
#: Rows of panels: the measure, its name, range and step of the axis.
MEASURES = {"integer": ("accuracy, %", 92.2, 93.4, 0.2),
            "snr_db": ("signal over noise, dB", 24.0, 30.0, 1.0)}
#: Lines: the code of the weights, the design's name; colour, title, and where labels stand.
LINES = {("ausn", "AUSN"): ("#0b6e99", "AUSN lanes", -8, "end"),
         ("linear", "Booth"): ("#c1440e", "linear, Booth lanes by hand", 8, "start"),
         ("linear", "linear"): ("#8a8a8a", "linear, * by Yosys at its best", 8, "start")}
WIDTH, HEIGHT, LEFT, TOP, GAP = 400, 230, 52, 64, 62
#: Range of the axis of lookup tables.
TABLES = (30, 170)


def draw() -> str:
    """The SVG document."""
    results = ROOT / "bench" / "results"
    quality = {(one["code"], one["bits"]): one
               for one in json.loads((results / "ausn.json").read_text())["results"]
               if (one["network"], one["what"], one["weight_scale"])
               == ("kws", "weights", "channel")}
    area = {(one["family"], one["design"]): one["luts_per_mac"]
            for one in json.loads((results / "ausn_area.json").read_text())["results"]}
    width = LEFT + len(FAMILIES) * (WIDTH + GAP)
    height = TOP + len(MEASURES) * (HEIGHT + GAP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
             'font-family="system-ui, sans-serif" font-size="12" fill="#333">',
             f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for index, (colour, title, *_) in enumerate(LINES.values()):
        parts.append(f'<circle cx="{LEFT + 6 + index * 230}" cy="16" r="4" fill="{colour}"/>'
                     + text(LEFT + 16 + index * 230, 20, title))
    for row, (measure, (name, low, high, step)) in enumerate(MEASURES.items()):
        for column, (family, title) in enumerate(FAMILIES.items()):
            left, top = LEFT + column * (WIDTH + GAP), TOP + row * (HEIGHT + GAP)

            def at(tables: float, value: float, left: int = left, top: int = top,
                   low: float = low, high: float = high) -> tuple[float, float]:
                return (left + WIDTH * (tables - TABLES[0]) / (TABLES[1] - TABLES[0]),
                        top + HEIGHT * (high - value) / (high - low))

            parts.append(text(left, top - 12, f"{title}: KWS, {name}, by weight bits, against "
                                              "lookup tables"))
            for mark in range(round((high - low) / step) + 1):
                y = at(TABLES[0], low + mark * step)[1]
                parts += [f'<path d="M{left} {y:.1f}h{WIDTH}" stroke="#e5e5e5"/>',
                          text(left - 6, y + 4, f"{low + mark * step:g}", "end")]
            parts += [text(at(count, low)[0], top + HEIGHT + 18, str(count), "middle")
                      for count in range(TABLES[0], TABLES[1] + 1, 20)]
            for (code, design), (colour, _, dx, anchor) in LINES.items():
                points = [(bits, *at(area[family, f"{design} {bits}"],
                                     quality[code, bits][measure]))
                          for bits in range(4, 9) if (family, f"{design} {bits}") in area]
                path = " ".join(f"{x:.1f},{y:.1f}" for _, x, y in points)
                parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}"/>')
                parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>'
                          + text(x + dx, y - 4, str(bits), anchor, colour)
                          for bits, x, y in points]
    return "\n".join([*parts, "</svg>\n"])


def text(x: float, y: float, words: str, anchor: str = "start", colour: str = "#333") -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'


def write() -> None:
    """Draw the stored results."""
    write_atomically(PLOT, draw().encode())
