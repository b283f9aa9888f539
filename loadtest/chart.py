"""Line charts as SVG text: no script, no font and no file from elsewhere. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 30, 46
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#db2777", "#4d7c0f", "#64748b")
LEGEND_ROW = 16


@dataclass(frozen=True, slots=True)
class Line:
    """Points by ascending x. `is_step` draws each level until the next point, `is_scatter` dots alone."""

    name: str
    points: Sequence[tuple[float, float]]
    is_step: bool = False
    is_scatter: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """`is_log` spaces powers of ten (of two where the values are such) evenly; values at or below 0 are left out."""

    label: str
    is_log: bool = False
    base: float = 10
    low: float | None = None
    high: float | None = None


def line_chart(title: str, lines: Sequence[Line], x: Axis, y: Axis, mark: float | None = None) -> str:
    """One `<svg>`; with `mark`, a dashed level across it. What is not finite is left out."""
    shown = [
        Line(line.name, [point for point in line.points if _fits(point, x, y)], line.is_step, line.is_scatter)
        for line in lines
    ]
    points = [point for line in shown for point in line.points]
    height = HEIGHT + LEGEND_ROW * ((len(shown) + 2) // 3)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        f'<text x="{LEFT}" y="18" class="title">{escape(title)}</text>',
    ]
    if not points:
        return "".join([*parts, f'<text x="{LEFT}" y="{HEIGHT / 2:.0f}">no data</text></svg>'])
    levels = [each[1] for each in points] + ([mark] if mark is not None else [])
    across = _Scale([each[0] for each in points], x, LEFT, WIDTH - RIGHT)
    up = _Scale(levels, y, HEIGHT - BOTTOM, TOP)
    parts += _axes(across, up, x, y)
    if mark is not None:
        level = up.place(mark)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{level:.1f}" y2="{level:.1f}" class="mark"/>')
    for number, line in enumerate(shown):
        colour = COLOURS[number % len(COLOURS)]
        parts += _drawn(line, across, up, colour)
        left, row = LEFT + (number % 3) * 165, HEIGHT + 8 + LEGEND_ROW * (number // 3)
        parts.append(f'<rect x="{left}" y="{row - 8}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{left + 15}" y="{row + 1}">{escape(line.name)}</text>')
    return "".join([*parts, "</svg>"])


def _fits(point: tuple[float, float], x: Axis, y: Axis) -> bool:
    return all(
        math.isfinite(value) and (value > 0 or not axis.is_log) for value, axis in zip(point, (x, y), strict=True)
    )


class _Scale:
    """From values to pixels."""

    def __init__(self, values: Sequence[float], axis: Axis, first: float, last: float) -> None:
        self._axis = axis
        self._first, self._last = first, last
        low = min(values) if axis.low is None else axis.low
        high = max(values) if axis.high is None else axis.high
        if not axis.is_log and axis.low is None:
            low = min(0.0, low)
        self.low, self.high = self._of(low), self._of(high)
        if self.high == self.low:
            self.high = self.low + 1

    def _of(self, value: float) -> float:
        return math.log(value, self._axis.base) if self._axis.is_log else value

    def place(self, value: float) -> float:
        share = (self._of(value) - self.low) / (self.high - self.low)
        return self._first + share * (self._last - self._first)

    def ticks(self) -> list[float]:
        if self._axis.is_log:
            factors = (1.0, 2.0, 5.0) if self._axis.base == 10 else (1.0,)
            powers = range(math.floor(self.low), math.ceil(self.high) + 1)
            ticks = [self._axis.base ** float(power) * factor for power in powers for factor in factors]
            within = [tick for tick in ticks if self.low - 1e-9 <= self._of(tick) <= self.high + 1e-9]
            return within or [float(self._axis.base**self.low)]
        step = _round_step((self.high - self.low) / 5)
        count = math.floor(self.high / step + 1e-9)
        return [step * number for number in range(math.ceil(self.low / step - 1e-9), count + 1)]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)


def _axes(across: _Scale, up: _Scale, x: Axis, y: Axis) -> list[str]:
    bottom = HEIGHT - BOTTOM
    parts = []
    for tick in up.ticks():
        place = up.place(tick)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{place:.1f}" y2="{place:.1f}" class="grid"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{place + 4:.1f}" class="end">{tick:g}</text>')
    for tick in across.ticks():
        place = across.place(tick)
        parts.append(f'<line x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{bottom}" class="grid"/>')
        parts.append(f'<text x="{place:.1f}" y="{bottom + 16}" class="middle">{tick:g}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle:.0f}" y="{bottom + 34}" class="middle">{escape(x.label)}</text>')
    height = (TOP + bottom) / 2
    parts.append(
        f'<text x="14" y="{height:.0f}" class="middle" transform="rotate(-90 14 {height:.0f})">{escape(y.label)}</text>'
    )
    return parts


def _drawn(line: Line, across: _Scale, up: _Scale, colour: str) -> list[str]:
    places = [(across.place(x), up.place(y)) for x, y in line.points]
    if line.is_scatter:
        return [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2" fill="{colour}"/>' for x, y in places]
    path = ""
    for x, y in places:
        if not path:
            path = f"M{x:.1f} {y:.1f}"
        else:
            path += f"H{x:.1f}V{y:.1f}" if line.is_step else f"L{x:.1f} {y:.1f}"
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places] if len(places) < 20 else []
    return [f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>', *dots]
