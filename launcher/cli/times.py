# SPDX-License-Identifier: GPL-3.0-or-later
"""Points in time and spans of it in docker's words. Times are nanoseconds since the epoch.

What people type is read by `timespec`; times as data are written by `launcher.rfc3339`.
"""

from __future__ import annotations

import time

from launcher.rfc3339 import zone
from launcher.typed import Final

__all__ = ["ago", "span", "wall_clock"]

_SECOND: Final = 10**9

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


def wall_clock(when: int) -> str:
    """As listings give a time: "2026-11-25 16:43:47 +0000 UTC", in this place's time."""
    there = time.localtime(when // _SECOND)
    text = time.strftime("%Y-%m-%d %H:%M:%S", there)
    return f"{text} {zone(there.tm_gmtoff, '')} {there.tm_zone}"
