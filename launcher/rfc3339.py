# SPDX-License-Identifier: GPL-3.0-or-later
"""Points in time as data: RFC 3339, from nanoseconds since the epoch.

Not by `datetime`, which knows no nanoseconds.
"""

from __future__ import annotations

import time

from launcher.typed import Final

__all__ = ["NEVER", "rfc3339", "rfc3339_fixed", "zone"]

_SECOND: Final = 10**9
# What Go's zero time looks like.
NEVER: Final = "0001-01-01T00:00:00Z"


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
    return f"{text}.{rest:09d}{zone(there.tm_gmtoff, ':') if there.tm_gmtoff else 'Z'}"


def _date_and_time(seconds: int) -> str:
    there = time.gmtime(seconds)
    return (
        f"{there.tm_year:04d}-{there.tm_mon:02d}-{there.tm_mday:02d}"
        f"T{there.tm_hour:02d}:{there.tm_min:02d}:{there.tm_sec:02d}"
    )


def zone(seconds: int, colon: str) -> str:
    """An offset from UTC: "+05:30"."""
    sign = "-" if seconds < 0 else "+"
    hours, minutes = divmod(abs(seconds) // 60, 60)
    return f"{sign}{hours:02d}{colon}{minutes:02d}"
