# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the times that people type: `--since`, `--until`, filters; and spans like "1h30m"."""

from __future__ import annotations

import re
import time

from launcher.errors import LaunchError
from launcher.typed import Final

__all__ = ["moment", "span"]

_SECOND: Final = 10**9
_UNITS: Final = {
    "h": 3600 * _SECOND,
    "m": 60 * _SECOND,
    "s": _SECOND,
    "ms": 10**6,
    "us": 1000,
    "µs": 1000,
    "μs": 1000,
    "ns": 1,
}
_DURATION: Final = re.compile(r"([+-]?)((?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:h|ms|m|s|us|µs|μs|ns))+)")
_PART: Final = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(h|ms|m|s|us|µs|μs|ns)")
_DATE: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d)(?::(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?)?)?"
    r"(Z|[+-]\d\d:?\d\d)?"
)
_STAMP: Final = re.compile(r"(-?\d+)(?:\.(\d{1,9}))?")


def span(text: str) -> int | None:
    """The nanoseconds of "1h30m", "500ms", "1.5s"; None if it is no such thing."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    total = sum(
        int(float(number) * _UNITS[unit]) if "." in number else int(number) * _UNITS[unit]
        for number, unit in _PART.findall(match.group(2))
    )
    return -total if match.group(1) == "-" else total


def moment(text: str, now: int) -> int:
    """What `--since` and `--until` take: a time, seconds since the epoch, or how long ago ("10m").

    A date without a zone is in this place's time. Raises LaunchError.
    """
    length = span(text)
    if length is not None:
        return now - length
    match = _STAMP.fullmatch(text)
    if match:
        return int(match.group(1)) * _SECOND + int((match.group(2) or "").ljust(9, "0"))
    match = _DATE.fullmatch(text)
    if match is None:
        reason = "it is no RFC 3339 date, number of seconds since 1970, or span like 1h30m"
        raise LaunchError("understand time", text, reason)
    year, month, day, hour, minute, second = (int(each or 0) for each in match.groups()[:6])
    fraction = int((match.group(7) or "").ljust(9, "0"))
    zone = match.group(8)
    try:
        whole = _epoch((year, month, day, hour, minute, second), zone)
    except (ValueError, OverflowError):
        raise LaunchError("understand time", text, "there is no such date") from None
    return whole * _SECOND + fraction


def _epoch(fields: tuple[int, int, int, int, int, int], zone: str | None) -> int:
    from calendar import timegm

    year, month, day, hour, minute, second = fields
    time.strptime(f"{year:04d}-{month:02d}-{day:02d}", "%Y-%m-%d")
    if hour > 23 or minute > 59 or second > 60:
        raise ValueError
    if zone is None:
        return int(time.mktime((*fields, 0, 0, -1)))
    whole = timegm((*fields, 0, 0, 0))
    if zone != "Z":
        minutes = int(zone[1:3]) * 60 + int(zone[-2:])
        whole -= minutes * 60 if zone[0] == "+" else -minutes * 60
    return whole
