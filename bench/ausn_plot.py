"""The curves of bench/results/ausn.json as an SVG: bits against accuracy and signal over noise."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

#: A column of panels for each network: its name and title.
NETWORKS = {"kws": "keyword spotting (KWS)", "imagenet_128": "MobileNetV1-0.25-128"}
#: A line: the code and the weight scale; its colour, dashes and name.
LINES = {
    ("ausn", "channel"): ("#0b6e99", "", "AUSN, a step per channel"),
    ("linear", "channel"): ("#c1440e", "", "linear, a step per channel"),
    ("ausn", "tensor"): ("#0b6e99", "5 4", "AUSN, a step per layer"),
    ("linear", "tensor"): ("#c1440e", "5 4", "linear, a step per layer"),
}
#: A row of panels: what is coded, the measure it shows, and the end of its title.
ROWS = (("weights", "integer", "weights: accuracy, %"),
        ("weights", "snr_db", "weights: signal over noise, dB"),
        ("activations", "integer", "activations: accuracy, %"),
        ("activations", "snr_db", "activations: signal over noise, dB"))
WIDTH, HEIGHT, LEFT, TOP, GAP = 330, 170, 52, 64, 58


@dataclass(frozen=True)
class Axes:
    """A panel's place on the drawing and the range of its values."""

    x: float
    y: float
    first: int
    last: int
    low: float
    high: float

    def at(self, bits: float, value: float) -> tuple[float, float]:
        """Where a value lies."""
        share = (value - self.low) / (self.high - self.low)
        return (self.x + WIDTH * (bits - self.first + 0.3) / (self.last - self.first + 0.6),
                self.y + HEIGHT * (1 - share))


def draw(results: list[dict[str, Any]]) -> str:
    """The SVG document of all networks of `NETWORKS` that occur in ``results``."""
    shown = [name for name in NETWORKS if any(one["network"] == name for one in results)]
    width = LEFT + len(shown) * (WIDTH + GAP)
    height = TOP + len(ROWS) * (HEIGHT + GAP)
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
             'font-family="system-ui, sans-serif" font-size="12" fill="#333">',
             f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for index, (colour, dashes, name) in enumerate(LINES.values()):
        x, y = LEFT + index % 2 * (WIDTH + GAP) / 1.6, 16 + index // 2 * 18
        parts.append(_line([(x, y - 4), (x + 28, y - 4)], colour, dashes)
                     + _text(x + 34, y, name))
    for column, network in enumerate(shown):
        for row, (what, measure, title) in enumerate(ROWS):
            chosen = [one for one in results if (one["network"], one["what"]) == (network, what)
                      and one[measure] is not None]
            if chosen:
                place = LEFT + column * (WIDTH + GAP), TOP + row * (HEIGHT + GAP) + 12
                parts += _panel(chosen, measure, f"{NETWORKS[network]}, {title}", place)
    return "\n".join([*parts, "</svg>\n"])


def _panel(results: list[dict[str, Any]], measure: str, title: str, place: tuple[float, float]
           ) -> list[str]:
    """Axes, the float network's accuracy and the lines of one panel at ``place``."""
    bits = sorted({one["bits"] for one in results})
    floating = results[0]["float"] if measure == "integer" else None
    values = [one[measure] for one in results] + [floating] * (floating is not None)
    spread = max(values) - min(values)
    step = 1.0 if spread <= 5 else 5.0 if spread <= 30 else 10.0
    low = step * (min(values) // step)
    high = max(step * -(-max(values) // step), low + step)
    axes = Axes(*place, bits[0], bits[-1], low, high)
    parts = [_text(place[0], place[1] - 8, title)]

    def tick(value: float) -> float:
        return axes.at(axes.first, value)[1]

    for index in range(round((high - low) / step) + 1):
        value = low + index * step
        parts.append(f'<path d="M{place[0]} {tick(value):.1f}h{WIDTH}" stroke="#e5e5e5"/>'
                     + _text(place[0] - 6, tick(value) + 4, f"{value:g}", "end"))
    parts += [_text(axes.at(one, low)[0], place[1] + HEIGHT + 16,
                    f"{one} bits" if one == bits[0] else str(one), "middle") for one in bits]
    if floating is not None:
        parts.append(_line([(place[0], tick(floating)), (place[0] + WIDTH, tick(floating))],
                           "#999", "1 3")
                     + _text(place[0] + WIDTH + 4, tick(floating) + 4, "float"))
    for (code, scale), (colour, dashes, _) in LINES.items():
        found = sorted((one["bits"], one[measure]) for one in results
                       if (one["code"], one["weight_scale"]) == (code, scale))
        points = [axes.at(*one) for one in found]
        parts.append(_line(points, colour, dashes))
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"><title>'
                  f"{escape(code)} {one[0]} bits: {one[1]:g}</title></circle>"
                  for (x, y), one in zip(points, found, strict=True)]
    return parts


def _line(points: list[tuple[float, float]], colour: str, dashes: str) -> str:
    """A line through points."""
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dashed}/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
