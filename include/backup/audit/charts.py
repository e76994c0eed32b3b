"""Charts as SVG that stands in the page itself: no script, no font, nothing to be fetched."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 560, 220
LEFT, RIGHT, TOP, BOTTOM = 84, 12, 14, 34
# Told apart by people who see no red or green, and in print by their lightness; for all tiers, bases, copies, the log.
COLOURS = (
    *("#1f5fa8", "#e08e2b", "#5aa3c7", "#8a4f9e", "#b9b14c"),
    *("#52616f", "#c2566b", "#2f7d6b", "#a9b4c0", "#6b4a2b"),
)
GRID, TEXT, LIMIT, GAP = "#d8dee6", "#46515e", "#b3261e", "#f2c9c5"
MARKS = 4
# How wide a character is, about.
CHARACTER = 6.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One column: its parts from below by name, or None where nothing is known."""

    label: str
    parts: Mapping[str, float] | None

    @property
    def total(self) -> float:
        return sum((self.parts or {}).values())


def column_chart(
    bars: Sequence[Bar], *, title: str, unit: str, limit: float | None = None, limit_name: str = ""
) -> str:
    """Return columns of stacked parts with a scale, a legend where there are several, and a line for a limit."""
    if not bars:
        return ""
    names = list(dict.fromkeys(name for bar in bars for name in (bar.parts or {})))
    colours = {name: COLOURS[index % len(COLOURS)] for index, name in enumerate(names)}
    highest = max([bar.total for bar in bars] + ([limit] if limit is not None else []))
    top = nice_top(highest)
    shown = [
        *_scale(top, unit),
        *(part for index, bar in enumerate(bars) for part in _column(bar, index, len(bars), top, colours, unit)),
        *_labels([bar.label for bar in bars]),
        *([] if limit is None else _limit(limit, top, limit_name)),
    ]
    legend, height = _legend(colours) if len(names) > 1 else ([], HEIGHT)
    body = "".join([*shown, *legend])
    return (
        f'<svg class="chart" role="img" aria-label="{escape(title)}" viewBox="0 0 {WIDTH} {height}" '
        f'xmlns="http://www.w3.org/2000/svg"><title>{escape(title)}</title>{body}</svg>'
    )


def nice_top(highest: float) -> float:
    """Return a round number that is not below the highest value.

    >>> nice_top(0.0), nice_top(0.93), nice_top(17), nice_top(41)
    (1.0, 1.0, 20.0, 50.0)
    """
    if highest <= 0 or not math.isfinite(highest):
        return 1.0
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= highest * (1 - 1e-9))


def number(value: float) -> str:
    """Return a number of the scale.

    >>> number(20.0), number(0.25), number(1500.0), number(0.00125), number(0.000025)
    ('20', '0.25', '1,500', '0.00125', '2.5e-05')
    """
    if value and abs(value) < 1:
        return f"{value:.3g}"
    return f"{value:,.3f}".rstrip("0").rstrip(".")


def _y(value: float, top: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)


def _scale(top: float, unit: str) -> list[str]:
    lines = []
    for mark in range(MARKS + 1):
        value = top * mark / MARKS
        y = _y(value, top)
        lines.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{GRID}"/>')
        lines.append(_text(LEFT - 6, y + 4, f"{number(value)} {unit}".strip(), anchor="end"))
    return lines


def _column(bar: Bar, index: int, count: int, top: float, colours: Mapping[str, str], unit: str) -> list[str]:
    room = (WIDTH - LEFT - RIGHT) / count
    width = min(room * 0.72, 60)
    x = LEFT + room * index + (room - width) / 2
    if bar.parts is None:
        y, height = _y(top, top), HEIGHT - TOP - BOTTOM
        what = f"{bar.label}: nothing known"
        return [_rectangle(x, y, width, height, GAP, what)]
    found, below = [], 0.0
    for name, value in bar.parts.items():
        y = _y(below + value, top)
        what = f"{bar.label}{' ' + name if len(colours) > 1 else ''}: {number(value)} {unit}"
        found.append(_rectangle(x, y, width, _y(below, top) - y, colours[name], what))
        below += value
    return found


def _rectangle(x: float, y: float, width: float, height: float, colour: str, what: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{max(height, 0):.1f}" fill="{colour}">'
        f"<title>{escape(what)}</title></rect>"
    )


def _labels(labels: Sequence[str]) -> list[str]:
    room = (WIDTH - LEFT - RIGHT) / len(labels)
    longest = max(len(label) for label in labels)
    every = math.ceil((longest + 1) * CHARACTER / room)
    return [
        _text(LEFT + room * (index + 0.5), HEIGHT - BOTTOM + 18, label, anchor="middle")
        for index, label in enumerate(labels)
        if index % every == 0
    ]


def _limit(limit: float, top: float, name: str) -> list[str]:
    y = _y(limit, top)
    return [
        f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{LIMIT}" stroke-width="1.5" '
        'stroke-dasharray="6 4"/>',
        f'<text x="{WIDTH - RIGHT}" y="{y - 5:.1f}" text-anchor="end" fill="{LIMIT}" font-size="12">'
        f"{escape(name)}</text>",
    ]


def _legend(colours: Mapping[str, str]) -> tuple[list[str], int]:
    """Return the names with their colours, in as many rows as they need, and the chart's height with them."""
    found, x, y = [], float(LEFT), HEIGHT + 4
    for name, colour in colours.items():
        width = 30 + CHARACTER * len(name)
        if x > LEFT and x + width > WIDTH:
            x, y = float(LEFT), y + 18
        found.append(f'<rect x="{x:.1f}" y="{y}" width="11" height="11" fill="{colour}"/>')
        found.append(_text(x + 16, y + 10, name, anchor="start"))
        x += width
    return found, y + 18


def _text(x: float, y: float, text: str, *, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{TEXT}" font-size="12">{escape(text)}</text>'
