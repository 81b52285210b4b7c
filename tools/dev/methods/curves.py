"""Draws the loss curves of all methods as one SVG: small charts, each on its own scale."""

from __future__ import annotations

from html import escape

from dev.methods.records import Record

COLUMNS, WIDTH, HEIGHT = 4, 250, 170
LEFT, RIGHT, TOP, BOTTOM = 44, 14, 30, 26
INK, SOFT, GRID, BLUE, AMBER = "#0f172a", "#64748b", "#e2e8f0", "#2563eb", "#d97706"
_STYLE = 'font-family="system-ui, sans-serif" font-size="11"'


def svg(records: list[Record]) -> str:
    """The charts; the dashed line is what predicting the mean target costs at the end."""
    lines = -(-len(records) // COLUMNS)
    columns = min(COLUMNS, len(records))
    width, height = WIDTH * columns, HEIGHT * lines
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" {_STYLE} role="img" aria-label="loss curves">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for number, record in enumerate(records):
        row, column = divmod(number, COLUMNS)
        inner = "".join(chart(record))
        parts.append(f'<g transform="translate({column * WIDTH} {row * HEIGHT})">{inner}</g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def chart(record: Record) -> list[str]:
    """One method: its stages end to end, the mean target's cost under the last of them."""
    curves, start = [], 0
    for stage in record["stages"]:
        curves.append([(start + step, value) for step, value in stage["curve"]])
        start += stage["steps"]
    mean = record["held_out"]["mean_target"]
    values = [value for curve in curves for _, value in curve]
    shown = values + ([] if mean is None else [mean])
    low, high = min(shown, default=0.0), max(shown, default=1.0)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = low - room, high + room

    def x(step: float) -> float:
        return LEFT + step / max(start, 1) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    floor = HEIGHT - BOTTOM
    parts = [_text(LEFT, 18, record["method"], INK, weight="600")]
    for value in (low + room, high - room):
        parts.append(_line(LEFT, y(value), WIDTH - RIGHT, y(value), GRID))
        parts.append(_text(LEFT - 6, y(value) + 4, f"{value:.3g}", SOFT, "end"))
    parts.append(_text(LEFT, floor + 16, "0", SOFT))
    parts.append(_text(WIDTH - RIGHT, floor + 16, f"{start} steps", SOFT, "end"))
    if mean is not None:
        first = x(start - record["stages"][-1]["steps"])
        dash = ' stroke-dasharray="4 3"'
        parts.append(_line(first, y(mean), WIDTH - RIGHT, y(mean), AMBER, dash))
    for curve in curves:
        points = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value in curve)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{BLUE}" stroke-width="1.6"/>'
        )
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, color: str, more: str = "") -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{color}"{more}/>'


def _text(
    x: float, y: float, text: str, color: str, anchor: str = "start", weight: str = "400"
) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text {place} fill="{color}">{escape(text)}</text>'
