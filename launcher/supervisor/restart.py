# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a container that ended is started again, and when: docker's restart policies."""

from __future__ import annotations

from launcher.record import RestartPolicy
from launcher.typed import Final, NamedTuple

__all__ = ["Attempts", "again"]

_FIRST: Final = 0.1
_LONGEST: Final = 60.0
# A run as long as this (seconds) counts as a success: the next pause is the first one again.
_LONG_ENOUGH: Final = 10.0


class Attempts(NamedTuple):
    """How often it was started again, and the pause (seconds) before the last time."""

    number: int = 0
    pause: float = 0.0


def again(
    policy: RestartPolicy, attempts: Attempts, code: int, lasted: float, *, stopped: bool
) -> Attempts | None:
    """The next attempt, or None if it stays ended.

    code    -- its exit status
    lasted  -- how long it ran, seconds
    stopped -- somebody asked for its end
    """
    if stopped or policy.name in ("", "no"):
        return None
    if policy.name == "on-failure" and (code == 0 or 0 < policy.most <= attempts.number):
        return None
    pause = attempts.pause
    pause = _FIRST if lasted >= _LONG_ENOUGH or pause == 0 else min(2 * pause, _LONGEST)
    return Attempts(attempts.number + 1, pause)
