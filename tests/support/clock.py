# SPDX-License-Identifier: GPL-3.0-or-later
"""Time in tests: deadlines that scale with the machine, and the tick of file timestamps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

_CLOCK_REALTIME_COARSE = 5  # clock_gettime(2); the time module has no name for it


def slowness() -> float:
    """How many times slower than a common machine this one is (LAMINA_TEST_SLOWNESS)."""
    return max(1.0, float(os.environ.get("LAMINA_TEST_SLOWNESS", "1")))


def scaled(seconds: float) -> float:
    """A bound on waiting, in seconds, for this machine."""
    return seconds * slowness()


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Return as soon as `condition` holds; AssertionError naming `what` after the deadline."""
    deadline = time.monotonic() + scaled(seconds)
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {scaled(seconds):g} s: {what}")
        time.sleep(0.002)


def tick() -> None:
    """Return when a timestamp that a filesystem takes now differs from any it took before.

    Filesystems stamp with the coarse clock, which advances once a timer tick (clock_gettime(2)).
    """
    now = time.clock_gettime_ns(time.CLOCK_REALTIME)
    while time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) <= now:
        time.sleep(0.0005)
