# SPDX-License-Identifier: GPL-3.0-or-later
"""How `stop` and `restart` ask containers to end: with which signal, and for how long."""

from __future__ import annotations

import os
from collections.abc import Callable

from launcher import signals
from launcher.cli.context import Context
from launcher.cli.several import each_of
from launcher.paths import Paths
from launcher.state import Entry
from launcher.typed import Final
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Flag, UsageError

__all__ = ["FLAGS", "end_each"]

FLAGS: Final = (
    HELP_FLAG,
    DEBUG_FLAG,
    Flag(("-t", "--time", "--timeout"), "SECONDS", "wait so long before killing; -1: for ever"),
    Flag(("-s", "--signal"), "SIGNAL", "send this instead of its own"),
)


def end_each(
    context: Context,
    arguments: Arguments,
    act: Callable[[Paths, Entry, int | None, int | None], None],
) -> int:
    """Do `act`, of `lifecycle`, to the containers named, in turn; returns 1 if one failed."""
    timeout, number = _timeout(arguments), _signal(arguments)
    return each_of(context, arguments, lambda entry: act(context.paths, entry, timeout, number))


def _timeout(arguments: Arguments) -> int | None:
    """Seconds; None where the container's own hold."""
    value = arguments.one("--timeout")
    if value is None:
        return None
    try:
        return max(int(value), -1)
    except ValueError:
        raise UsageError("wait for", value, "it is not a number of seconds") from None


def _signal(arguments: Arguments) -> int | None:
    """A signal's number; None for the container's own. Raises SpecError."""
    value = arguments.one("--signal")
    return None if value is None else signals.number(os.fsdecode(value))
