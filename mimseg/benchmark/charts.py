"""Draws small line and dot charts as inline SVG."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from html import escape

from mimseg.benchmark.summary import Summary
from mimseg.pipeline.scalars import Curve

COLORS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#db2777", "#0891b2")
NEUTRAL = "#64748b"


@dataclass
class Line:
    """A curve of a chart; `marks` draws its points as dots as well."""

    name: str
    points: Curve
    color: str
    marks: bool = field(default=False)


def init_colors(inits: list[str]) -> dict[str, str]:
    """A color for each initialization: grey for 'random', which the others are compared with."""
    others = [init for init in inits if init != "random"]
    colors = {init: COLORS[i % len(COLORS)] for i, init in enumerate(others)}
    return {"random": NEUTRAL, **colors}


def line_chart(title: str, lines: list[Line], x_name: str, y_log: bool = False) -> str:
    """A chart of curves with direct labels at their ends; '' where there is nothing to draw."""
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    width, height, left, right, top, bottom = 440, 240, 46, 82, 14, 34
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    y_log = y_log and min(ys) > 0
    low, high = _padded(min(ys), max(ys), y_log)
    ticks_y = _log_ticks(low, high) if y_log else _ticks(low, high)
    x_low, x_high = min(0.0, min(xs)), max(max(xs), 1.0)

    def x_at(x: float) -> float:
        return left + (x - x_low) / (x_high - x_low) * (width - left - right)

    def y_at(y: float) -> float:
        if y_log:
            share = (math.log(y) - math.log(low)) / (math.log(high) - math.log(low))
        else:
            share = (y - low) / (high - low)
        return height - bottom - share * (height - top - bottom)

    parts = []
    for tick in ticks_y:
        y = y_at(tick)
        parts.append(_line("rule", left, y, width - right, y))
        parts.append(_text("tick", left - 8, y + 3.5, _short(tick), "end"))
    for tick in _ticks(x_low, x_high, 4, whole=True):
        parts.append(_text("tick", x_at(tick), height - bottom + 16, _short(tick), "middle"))
    parts.append(_text("tick", width - right, height - 3, x_name, "end"))
    for line in lines:
        path = " ".join(f"{x_at(x):.1f},{y_at(y):.1f}" for x, y in line.points)
        parts.append(f'<polyline class="curve" points="{path}" stroke="{line.color}"/>')
        if line.marks or len(line.points) == 1:
            parts += [_dot(x_at(x), y_at(y), 2.6, line.color) for x, y in line.points]
    ends = _spread_labels([y_at(line.points[-1][1]) for line in lines], 13, top, height - bottom)
    for line, y in zip(lines, ends, strict=True):
        x = x_at(line.points[-1][0]) + 7
        parts.append(_text("name", x, y + 4, line.name, "start", line.color))
    return _figure(title, width, height, parts)


def dot_chart(rows: list[tuple[str, list[float], str]], title: str) -> str:
    """One line per initialization: its seeds as dots, their mean as a bar and in numbers.

    Args:
        rows: (name, values, color).
        title: what is measured.
    """
    values = [value for _, seeds, _ in rows for value in seeds]
    if not values:
        return ""
    width, row_height, left, right = 310, 32, 66, 74
    height = row_height * len(rows) + 34
    low, high = _padded(min(values), max(values), False, 0.25)
    low = max(0.0, low)

    def x_at(x: float) -> float:
        return left + (x - low) / (high - low) * (width - left - right)

    bottom, parts = row_height * len(rows) + 6, []
    for tick in _ticks(low, high, 4):
        x = x_at(tick)
        parts.append(_line("rule", x, 4, x, bottom))
        parts.append(_text("tick", x, bottom + 16, _short(tick), "middle"))
    for number, (name, seeds, color) in enumerate(rows):
        y = row_height * (number + 0.5) + 4
        mean = sum(seeds) / len(seeds)
        parts.append(_text("name", left - 12, y + 4, name, "end", color))
        parts.append(_line("mean", x_at(mean), y - 10, x_at(mean), y + 10, color))
        parts += [_dot(x_at(value), y, 4.5, color, 0.45) for value in seeds]
        parts.append(_text("value", width - 1, y + 4, Summary.of(seeds).text(), "end"))
    return _figure(title, width, height, parts)


def _line(kind: str, x1: float, y1: float, x2: float, y2: float, color: str = "") -> str:
    stroke = f' stroke="{color}"' if color else ""
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line class="{kind}" {ends}{stroke}/>'


def _text(kind: str, x: float, y: float, text: str, anchor: str, color: str = "") -> str:
    fill = f' fill="{color}"' if color else ""
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}{fill}>{escape(text)}</text>'


def _dot(x: float, y: float, radius: float, color: str, opacity: float = 1.0) -> str:
    paint = f'fill="{color}" fill-opacity="{opacity}"'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" {paint}/>'


def _figure(title: str, width: int, height: int, parts: list[str]) -> str:
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title)}">'
    caption = f"<figcaption>{escape(title)}</figcaption>"
    return f'<figure class="chart">{caption}{head}{"".join(parts)}</svg></figure>'


def _padded(low: float, high: float, log: bool, share: float = 0.06) -> tuple[float, float]:
    if log:
        factor = (high / low) ** share if high > low else 1.2
        return low / factor, high * factor
    room = max((high - low) * share, abs(high) * 0.01) or 1.0
    return low - room, high + room


def _ticks(low: float, high: float, count: int = 5, whole: bool = False) -> list[float]:
    raw = (high - low) / count
    scale = 10 ** math.floor(math.log10(raw))
    steps = [scale * m for m in (1, 2, 2.5, 5, 10, 20)]
    step = next(s for s in steps if s >= raw * 0.999 and not (whole and s % 1))
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = [m * 10.0**p for p in powers for m in steps if low <= m * 10.0**p <= high]
        if len(ticks) >= 3:
            return ticks
    return _ticks(low, high, 4)


def _spread_labels(ys: list[float], gap: float, top: float, bottom: float) -> list[float]:
    """Move labels apart so that none covers another, within [top, bottom]."""
    order = sorted(range(len(ys)), key=lambda i: ys[i])
    placed = list(ys)
    for before, i in zip([None, *order], order, strict=False):
        if before is not None:
            placed[i] = max(placed[i], placed[before] + gap)
    over = max(0.0, max(placed, default=0.0) - bottom)
    return [max(top, y - over) for y in placed]


def _short(value: float) -> str:
    if abs(value) >= 10_000:
        return f"{value / 1000:g}k"
    return f"{round(value, 10):g}"
