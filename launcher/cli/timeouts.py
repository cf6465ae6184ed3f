# SPDX-License-Identifier: GPL-3.0-or-later
"""How `stop` and `restart` ask a container to end: with which signal, and for how long."""

from __future__ import annotations

import os

from launcher import signals
from launcher.typed import Final
from unionfs import Arguments, Flag, UsageError

__all__ = ["SIGNAL_FLAG", "TIME_FLAG", "signal_of", "timeout_of"]

TIME_FLAG: Final = Flag(
    ("-t", "--time", "--timeout"), "SECONDS", "wait so long before killing; -1: for ever"
)
SIGNAL_FLAG: Final = Flag(("-s", "--signal"), "SIGNAL", "send this instead of its own")


def timeout_of(arguments: Arguments) -> int | None:
    """Seconds; None where the container's own hold."""
    value = arguments.one("--timeout")
    if value is None:
        return None
    try:
        return max(int(value), -1)
    except ValueError:
        raise UsageError("wait for", value, "it is not a number of seconds") from None


def signal_of(arguments: Arguments) -> int | None:
    """A signal's number; None for the container's own. Raises SpecError."""
    value = arguments.one("--signal")
    return None if value is None else signals.number(os.fsdecode(value))
