# SPDX-License-Identifier: GPL-3.0-or-later
"""The plots, as inline SVG: all samples of a row on one logarithmic axis, and curves over a size.

Colours are CSS variables `--peer0` …, so that the page's light and dark themes decide on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor, log10

from bench.report.figures import digits, quantity, tick
from bench.statistics import Summary

WIDTH = 560
LABELS = 112
VALUES = 84
LINE = 20
TOP = 6
AXIS = 22
COLOURS = 10


@dataclass(frozen=True, slots=True)
class Strip:
    """The samples of one peer in one row."""

    peer: str
    colour: int
    samples: Sequence[float]
    summary: Summary
    doubtful: bool


@dataclass(frozen=True, slots=True)
class Curve:
    """The medians of one peer over a size: (size, median, first quartile, third quartile)."""

    peer: str
    colour: int
    points: Sequence[tuple[float, float, float, float]]


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to places on an axis, logarithmically unless a value is not above zero."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool

    def place(self, value: float) -> float:
        if self.logarithmic:
            part = (log10(value) - log10(self.low)) / (log10(self.high) - log10(self.low))
        else:
            part = (value - self.low) / (self.high - self.low)
        return self.start + part * (self.end - self.start)

    def ticks(self) -> list[float]:
        if not self.logarithmic:
            return [self.low + (self.high - self.low) * part / 4 for part in range(5)]
        decades = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
        width = log10(self.high / self.low)
        steps = (1, 2, 5) if width < 2 else (1, 3) if width < 3 else (1,)
        found = [step * 10.0**decade for decade in decades for step in steps]
        return [mark for mark in found if self.low <= mark <= self.high]


def scale(values: Sequence[float], start: float, end: float) -> Scale:
    """An axis with some air at both ends."""
    low, high = min(values), max(values)
    if low <= 0:
        return Scale(0, high * 1.05 or 1.0, start, end, False)
    return Scale(low / 1.3, high * 1.3, start, end, True)


def strips(title: str, unit: str, rows: Sequence[Strip]) -> str:
    """One line for each peer: its samples as dots, its median as a bar, the median in figures.
    `unit` is without its `/entry` or the like, for which there is no room."""
    height = TOP + LINE * len(rows) + AXIS
    axis = scale([v for row in rows for v in row.samples], LABELS, WIDTH - VALUES)
    bottom = TOP + LINE * len(rows)
    parts = [_open(title, height)]
    for mark in axis.ticks():
        x = axis.place(mark)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}"/>')
        parts.append(_text(x, bottom + 15, tick(mark, unit), "tick", "middle"))
    for number, row in enumerate(rows):
        y = TOP + LINE * number + LINE / 2
        parts.append(_text(LABELS - 8, y + 4, row.peer, "name", "end"))
        low, high = axis.place(row.summary.quartile1), axis.place(row.summary.quartile3)
        colour = f"var(--peer{row.colour % COLOURS})"
        parts.append(
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y}" y2="{y}" stroke="{colour}" '
            'stroke-width="7" stroke-opacity=".3"/>'
        )
        for value in row.samples:
            parts.append(
                f'<circle cx="{axis.place(value):.1f}" cy="{y}" r="2.6" fill="{colour}" '
                f'fill-opacity=".65"><title>{escape(quantity(value, unit))}</title></circle>'
            )
        x = axis.place(row.summary.median)
        parts.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 7}" y2="{y + 7}" stroke="{colour}" '
            'stroke-width="2.5"/>'
        )
        figure = quantity(row.summary.median, unit) + (" ~" if row.doubtful else "")
        parts.append(_text(WIDTH - VALUES + 8, y + 4, figure, "figure", "start"))
    return "".join([*parts, "</svg>"])


def curves(title: str, unit: str, lines: Sequence[Curve]) -> str:
    """Medians over a size, both axes logarithmic, with the quartiles as whiskers."""
    height, left, right, bottom = 260, 64, WIDTH - LABELS, 232
    sizes = sorted({point[0] for line in lines for point in line.points})
    across = scale(sizes, left + 8, right - 8)
    up = scale([v for line in lines for point in line.points for v in point[1:]], bottom, TOP + 6)
    parts = [_open(title, height)]
    for mark in up.ticks():
        y = up.place(mark)
        parts.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 6, y + 4, tick(mark, unit), "tick", "end"))
    for size in sizes:
        parts.append(_text(across.place(size), bottom + 18, digits_of(size), "tick", "middle"))
    ends = _apart([(up.place(line.points[-1][1]), line) for line in lines], lambda end: end[0])
    for y_label, (_, line) in ends:
        colour = f"var(--peer{line.colour % COLOURS})"
        spots = [(across.place(p[0]), up.place(p[1]), p) for p in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in spots)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, point in spots:
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{up.place(point[2]):.1f}" '
                f'y2="{up.place(point[3]):.1f}" stroke="{colour}" stroke-opacity=".5"/>'
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}"><title>'
                f"{escape(f'{line.peer}, {digits_of(point[0])}: {quantity(point[1], unit)}')}"
                "</title></circle>"
            )
        parts.append(
            f'<text x="{right + 4}" y="{y_label + 4:.1f}" class="name" '
            f'style="fill:{colour}">{escape(line.peer)}</text>'
        )
    return "".join([*parts, "</svg>"])


def digits_of(size: float) -> str:
    """A size on the axis: `100 000`."""
    return f"{size:,.0f}".replace(",", "\u202f") if size == int(size) else digits(size)


def _apart(
    ends: list[tuple[float, Curve]], height: Callable[[tuple[float, Curve]], float]
) -> list[tuple[float, tuple[float, Curve]]]:
    """Places for the labels: at the ends of their curves, but never on one another."""
    placed = []
    last = float("-inf")
    for end in sorted(ends, key=height):
        last = max(height(end), last + 13)
        placed.append((last, end))
    return placed


def _open(title: str, height: float) -> str:
    return (
        f'<svg viewBox="0 0 {WIDTH} {height:g}" role="img" aria-label="{escape(title)}" '
        'xmlns="http://www.w3.org/2000/svg">'
    )


def _text(x: float, y: float, text: str, kind: str, anchor: str) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'
    )
