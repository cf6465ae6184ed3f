# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers as a person reads them: three digits, the unit that fits."""

from __future__ import annotations

from math import floor, log10

NONE = "\N{EN DASH}"
MULTIPLY = "\N{MULTIPLICATION SIGN}"
TIMES = (("ns", 1e-3), ("µs", 1.0), ("ms", 1e3), ("s", 1e6))
"""units of time, in µs"""


def digits(value: float) -> str:
    """Three significant digits, never an exponent."""
    if value == 0:
        return "0"
    places = max(2 - floor(log10(abs(value))), 0)
    text = f"{value:.{places}f}"
    # 9.996 rounds up to 10.00: one digit too many.
    if places and len(text.replace(".", "").replace("-", "").lstrip("0")) > 3:
        text = f"{value:.{places - 1}f}"
    return text


def quantity(value: float, unit: str) -> str:
    """`0.0123 ms` becomes `12.3 µs`; what is no time keeps its unit."""
    base, slash, per = unit.partition("/")
    scale = dict(TIMES).get(base)
    if scale is not None and value > 0:
        micros = value * scale
        base, size = next(
            ((name, size) for name, size in reversed(TIMES) if micros >= size), TIMES[0]
        )
        value = micros / size
    space = "" if unit == "%" else " "
    return f"{digits(value)}{space}{base}{slash}{per}"


def tick(value: float, unit: str) -> str:
    """The same for a round number on an axis: `10 µs`, not `10.0 µs`."""
    figure, space, rest = quantity(value, unit).partition(" ")
    return (figure.rstrip("0").rstrip(".") if "." in figure else figure) + space + rest


def times(value: float | None) -> str:
    """A ratio, of two digits behind the point while it is small."""
    if value is None:
        return NONE
    return (f"{value:.2f}" if value < 9.995 else digits(value)) + MULTIPLY


def percent(value: float | None) -> str:
    return NONE if value is None else f"{value * 100:.0f} %"
