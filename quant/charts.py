"""Charts as inline SVG: a column for each layer, or a scatter, with a box of values on hover.

Colours are classes of the page's style sheet; text is escaped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

#: Width of every drawing in its own units; it stretches with the page.
WIDTH = 1000.0
#: Room for the labels of the vertical axis, and beyond the last column.
LEFT, RIGHT = 62.0, 12.0
#: Room above for a line of text, and below for the labels of the horizontal axis.
TOP, BOTTOM = 12.0, 26.0
#: Columns that can all be labelled.
MOST_LABELS = 48
MINUS = "\N{MINUS SIGN}"
#: Size of the text of a box on hover, and the width of one of its letters.
LINE, LETTER = 17.0, 7.7


@dataclass(frozen=True)
class Axis:
    """A scale from ``low`` to ``high``, linear or of powers of ten, with labelled ticks."""

    low: float
    high: float
    ticks: tuple[float, ...]
    title: str
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0..1; beyond the ends at the end."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = math.log10(max(value, low)), math.log10(low), math.log10(high)
        return min(max((value - low) / (high - low), 0.0), 1.0)

    def label(self, tick: float) -> Markup:
        """A tick's text."""
        if self.logarithmic:
            return Markup('10<tspan class="power" dy="-5">{}</tspan>').format(
                f"{round(math.log10(tick))}".replace("-", MINUS))
        return Markup.escape(f"{tick:g}".replace("-", MINUS))


def linear_axis(values: Sequence[float], title: str, zero: bool = False, count: int = 5) -> Axis:
    """An axis with about ``count`` round ticks around the values, from 0 where ``zero``."""
    low = min([0.0, *values] if zero else values, default=0.0)
    high = max(values, default=1.0)
    high = high if high > low else low + 1.0
    raw = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = tuple(round(index * step, 10) for index in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks, title)


def power_axis(values: Sequence[float], title: str, decades: int = 6) -> Axis:
    """An axis of powers of ten around the positive values, of so many decades at most."""
    positive = [value for value in values if value > 0] or [1.0]
    last = math.ceil(math.log10(max(positive)) + 1e-9)
    first = max(math.floor(math.log10(min(positive)) - 1e-9), last - decades)
    ticks = tuple(10.0 ** exponent for exponent in range(min(first, last - 1), last + 1))
    return Axis(ticks[0], ticks[-1], ticks, title, logarithmic=True)


@dataclass
class Drawing:
    """An SVG being drawn; marks lie in the order of the calls, boxes on hover above all of them."""

    height: float
    label: str
    marks: list[Markup] = field(default_factory=list)
    boxes: list[Markup] = field(default_factory=list)

    def line(self, x1: float, y1: float, x2: float, y2: float, kind: str) -> None:
        """A straight line."""
        self.marks.append(Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" '
                                 'y2="{:.1f}"/>').format(kind, x1, y1, x2, y2))

    def text(self, x: float, y: float, text: str | Markup, anchor: str = "middle",
             kind: str = "label") -> None:
        """A line of text."""
        self.marks.append(Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}'
                                 '</text>').format(kind, x, y, anchor, text))

    def dot(self, x: float, y: float, kind: str, radius: float = 4.5) -> None:
        """A round mark."""
        self.marks.append(Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:g}"/>').format(
            kind, x, y, radius))

    def rectangle(self, x: float, y: float, width: float, height: float, kind: str) -> None:
        """A filled rectangle."""
        self.marks.append(Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" '
                                 'height="{:.1f}" rx="1.5"/>').format(kind, x, y, width, height))

    def path(self, points: Sequence[tuple[float, float]], kind: str) -> None:
        """Points joined by lines."""
        self.marks.append(Markup('<polyline class="{}" points="{}"/>').format(
            kind, " ".join(f"{x:.1f},{y:.1f}" for x, y in points)))

    def box(self, target: Markup, x: float, y: float, lines: Sequence[str]) -> None:
        """What shows beside (x, y) while the pointer is over ``target``, its first line bold."""
        width = max(map(len, lines)) * LETTER + 22
        height = len(lines) * LINE + 13
        left = x + 14 if x + 14 + width <= WIDTH else max(2.0, x - 14 - width)
        top = min(max(2.0, y), max(2.0, self.height - height - 2))
        texts = Markup("").join(
            Markup('<text class="{}" x="{:.1f}" y="{:.1f}">{}</text>').format(
                "tip strong" if index == 0 else "tip", left + 11, top + 20 + index * LINE, line)
            for index, line in enumerate(lines))
        self.boxes.append(Markup(
            '<g class="hit">{}<g class="box"><rect x="{:.1f}" y="{:.1f}" width="{:.1f}" '
            'height="{:.1f}" rx="5"/>{}</g></g>').format(target, left, top, width, height, texts))

    def svg(self) -> Markup:
        """The drawing."""
        return Markup('<svg viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}{}</svg>').format(
            WIDTH, self.height, self.label, Markup("").join(self.marks),
            Markup("").join(self.boxes))


class Columns:
    """A drawing with a column for each layer, numbered from 1, over one vertical axis."""

    def __init__(self, count: int, axis: Axis, label: str, height: float = 250.0) -> None:
        self.count, self.axis = count, axis
        self.drawing = Drawing(height, label)
        self.width = (WIDTH - LEFT - RIGHT) / max(count, 1)
        for tick in axis.ticks:
            self.drawing.line(LEFT, self.y(tick), WIDTH - RIGHT, self.y(tick), "grid")
            self.drawing.text(LEFT - 8, self.y(tick) + 4, axis.label(tick), "end")
        self.drawing.text(2, TOP + 4, axis.title, "start")
        every = -(-count // MOST_LABELS)
        for index in range(0, count, every):
            self.drawing.text(self.x(index), height - 8, str(index + 1))

    def x(self, index: float) -> float:
        """The middle of a column."""
        return LEFT + (index + 0.5) * self.width

    def y(self, value: float) -> float:
        """The height of a value."""
        bottom = self.drawing.height - BOTTOM
        return bottom - self.axis.share(value) * (bottom - TOP)

    def line(self, values: Sequence[float | None], kind: str) -> None:
        """Dots joined by a line, without those that are None."""
        points = [(self.x(index), self.y(value)) for index, value in enumerate(values)
                  if value is not None]
        self.drawing.path(points, f"line {kind}")
        for x, y in points:
            self.drawing.dot(x, y, f"dot {kind}", 3.5)

    def dots(self, values: Sequence[float | None], kind: str, radius: float = 4.5) -> None:
        """A dot for each value, none for None."""
        for index, value in enumerate(values):
            if value is not None:
                self.drawing.dot(self.x(index), self.y(value), f"dot {kind}", radius)

    def spans(self, ends: Sequence[tuple[float, float] | None], kind: str, share: float) -> None:
        """A bar from one value to another in each column, ``share`` of its width."""
        width = min(self.width * share, 46 * share)
        for index, pair in enumerate(ends):
            if pair is not None:
                upper, lower = sorted(map(self.y, pair))
                self.drawing.rectangle(self.x(index) - width / 2, upper, width,
                                       max(lower - upper, 1.0), kind)

    def mark(self, value: float) -> None:
        """A dashed line at a value."""
        self.drawing.line(LEFT, self.y(value), WIDTH - RIGHT, self.y(value), "mark")

    def boxes(self, lines: Sequence[Sequence[str]]) -> None:
        """The lines that show while the pointer is over each column."""
        bottom = self.drawing.height - BOTTOM
        for index, column in enumerate(lines):
            target = Markup('<rect class="target" x="{:.1f}" y="{:.1f}" width="{:.1f}" '
                            'height="{:.1f}"/>').format(LEFT + index * self.width, TOP, self.width,
                                                        bottom - TOP)
            self.drawing.box(target, self.x(index), TOP, column)

    def svg(self) -> Markup:
        """The chart."""
        return self.drawing.svg()


class Scatter:
    """Points over two axes."""

    def __init__(self, across: Axis, up: Axis, label: str, height: float = 380.0) -> None:
        self.across, self.up = across, up
        self.drawing = Drawing(height, label)
        bottom = height - BOTTOM - 18
        self.bottom = bottom
        for tick in across.ticks:
            self.drawing.line(self.x(tick), TOP, self.x(tick), bottom, "grid")
            self.drawing.text(self.x(tick), bottom + 20, across.label(tick))
        for tick in up.ticks:
            self.drawing.line(LEFT, self.y(tick), WIDTH - RIGHT, self.y(tick), "grid")
            self.drawing.text(LEFT - 8, self.y(tick) + 4, up.label(tick), "end")
        self.drawing.text((LEFT + WIDTH - RIGHT) / 2, height - 6, across.title)
        self.drawing.text(LEFT + 8, TOP + 16, up.title, "start")

    def x(self, value: float) -> float:
        """The place of a value across."""
        return LEFT + self.across.share(value) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """The height of a value."""
        return self.bottom - self.up.share(value) * (self.bottom - TOP)

    def diagonal(self) -> None:
        """The line on which both values are equal, as far as both axes have it."""
        low, high = max(self.across.low, self.up.low), min(self.across.high, self.up.high)
        if low < high:
            self.drawing.line(self.x(low), self.y(low), self.x(high), self.y(high), "mark")

    def point(self, x: float, y: float, kind: str, lines: Sequence[str], radius: float = 6.0
              ) -> None:
        """A dot with a box on hover."""
        place = self.x(x), self.y(y)
        self.drawing.dot(*place, f"dot {kind}", radius)
        target = Markup('<circle class="target" cx="{:.1f}" cy="{:.1f}" r="{:g}"/>').format(
            *place, radius + 3)
        self.drawing.box(target, place[0], place[1] - 20, lines)

    def svg(self) -> Markup:
        """The chart."""
        return self.drawing.svg()
