# SPDX-License-Identifier: GPL-3.0-or-later
"""Points in time and spans of it, as docker prints them. Times are nanoseconds since the epoch.

Not by `datetime`, which knows no nanoseconds. What people type is read by `timespec`.
"""

from __future__ import annotations

import time
from typing import Final

__all__ = ["NEVER", "ago", "rfc3339", "rfc3339_fixed", "span", "wall_clock"]

_SECOND: Final = 10**9
# What Go's zero time looks like.
NEVER: Final = "0001-01-01T00:00:00Z"

# From how many of a unit on it is the unit that is spoken of: docker's go-units.
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def span(nanoseconds: int) -> str:
    """A length of time in one unit: "3 minutes", "About an hour", "2 weeks"."""
    seconds = nanoseconds // _SECOND
    if seconds < 1:
        return "Less than a second"
    if seconds < _MINUTE:
        return "1 second" if seconds == 1 else f"{seconds} seconds"
    minutes = seconds // _MINUTE
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = (nanoseconds + _HOUR * _SECOND // 2) // (_HOUR * _SECOND)  # rounded
    if hours < 48:
        return "About an hour" if hours == 1 else f"{hours} hours"
    days = hours // 24
    if days < 14:
        return f"{days} days"
    if days < 60:
        return f"{days // 7} weeks"
    if days < 730:
        return f"{days // 30} months"
    return f"{seconds // _DAY // 365} years"


def ago(when: int, now: int) -> str:
    """How long since: "3 minutes ago"."""
    return span(now - when) + " ago"


def rfc3339(when: int) -> str:
    """RFC3339Nano in UTC, without the zeros at the end; 0 is never."""
    if when == 0:
        return NEVER
    seconds, rest = divmod(when, _SECOND)
    text = _date_and_time(seconds)
    return text + (f".{rest:09d}".rstrip("0") if rest else "") + "Z"


def rfc3339_fixed(when: int, local: bool = False) -> str:
    """RFC3339 with all nine digits, so that lines of a log stand in columns."""
    seconds, rest = divmod(when, _SECOND)
    if not local:
        return f"{_date_and_time(seconds)}.{rest:09d}Z"
    there = time.localtime(seconds)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", there)
    return f"{text}.{rest:09d}{_offset(there.tm_gmtoff, ':') if there.tm_gmtoff else 'Z'}"


def wall_clock(when: int) -> str:
    """As listings give a time: "2026-11-25 16:43:47 +0000 UTC", in this place's time."""
    there = time.localtime(when // _SECOND)
    text = time.strftime("%Y-%m-%d %H:%M:%S", there)
    return f"{text} {_offset(there.tm_gmtoff, '')} {there.tm_zone}"


def _date_and_time(seconds: int) -> str:
    there = time.gmtime(seconds)
    return (
        f"{there.tm_year:04d}-{there.tm_mon:02d}-{there.tm_mday:02d}"
        f"T{there.tm_hour:02d}:{there.tm_min:02d}:{there.tm_sec:02d}"
    )


def _offset(seconds: int, colon: str) -> str:
    sign = "-" if seconds < 0 else "+"
    hours, minutes = divmod(abs(seconds) // 60, 60)
    return f"{sign}{hours:02d}{colon}{minutes:02d}"
