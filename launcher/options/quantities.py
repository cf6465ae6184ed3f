# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers as people write them for docker: sizes, times, rates, shares of processors.

Each function takes the option's name for the error, which is a `SpecError`.
"""

from __future__ import annotations

from launcher.errors import SpecError
from launcher.typed import Final

__all__ = ["duration", "invalid", "processors", "size", "whole"]

_UNITS: Final = {"": 0, "b": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5}
_TIMES: Final = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "µs": 1_000,
    "ns": 1,
}
_LARGEST: Final = (1 << 63) - 1


def invalid(option: str, value: str, reason: str) -> SpecError:
    """The error for an option's value."""
    return SpecError("use", f"{option} {value}", reason)


def size(option: str, text: str, base: int = 1024) -> int:
    """Bytes: 512, 512b, 64k, 512m, 1.5g, 1GiB; units are powers of `base`."""
    lower = text.strip().lower()
    number = lower.rstrip("bikmgtp ")
    unit = lower[len(number) :].strip()
    # "kb" and "kib" are as "k".
    if len(unit) > 1 and unit.endswith("b"):
        unit = unit[:-2] if unit.endswith("ib") else unit[:-1]
    if unit not in _UNITS:
        raise invalid(option, text, "its unit is none of b, k, m, g, t and p")
    return _scaled(option, text, number.strip(), base ** _UNITS[unit])


def _scaled(option: str, text: str, number: str, factor: int) -> int:
    """A decimal fraction times a factor, without the rounding of floating point."""
    integer, dot, fraction = number.partition(".")
    digits = integer + fraction
    if not digits.isascii() or not digits.isdecimal() or (dot and not fraction):
        raise invalid(option, text, "it is not a number with a unit, such as 512m or 1.5g")
    result = int(digits) * factor // int(10 ** len(fraction))
    if result > _LARGEST:
        raise invalid(option, text, "it is too large")
    return result


def duration(option: str, text: str) -> int:
    """Nanoseconds: 1h30m, 500ms, 1.5s; without a unit only 0."""
    if text == "0":
        return 0
    total = at = 0
    while at < len(text):
        start = at
        while at < len(text) and (text[at].isdecimal() or text[at] == "."):
            at += 1
        number, start = text[start:at], at
        while at < len(text) and text[at] in "hmsunµ":
            # "1m30s": m ends before a digit; "ms" is one unit.
            at += 1
        unit = text[start:at]
        if not number or unit not in _TIMES:
            raise invalid(option, text, "it is not a time such as 30s, 1h30m or 500ms")
        total += _scaled(option, text, number, _TIMES[unit])
    if not text:
        raise invalid(option, text, "it is not a time such as 30s, 1h30m or 500ms")
    return total


def whole(option: str, text: str, least: int | None = None, most: int | None = None) -> int:
    """An integer, within bounds."""
    digits = text.removeprefix("-")
    if not digits.isascii() or not digits.isdecimal():
        raise invalid(option, text, "it is not an integer")
    number = int(text)
    if least is not None and number < least:
        raise invalid(option, text, f"it is less than {least}")
    if number > (_LARGEST if most is None else most):
        raise invalid(option, text, f"it is more than {most}" if most is not None else "too large")
    return number


def processors(option: str, text: str) -> int:
    """Billionths of a processor: 0.5, 2."""
    return _scaled(option, text, text, 1_000_000_000)
