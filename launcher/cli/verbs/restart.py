# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina restart`: stop containers and start them again."""

from __future__ import annotations

from launcher import lifecycle
from launcher.cli.context import Context
from launcher.cli.several import each_of
from launcher.cli.timeouts import SIGNAL_FLAG, TIME_FLAG, signal_of, timeout_of
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina restart",
    "[OPTION…] CONTAINER…",
    "stop containers and start them again",
    (HELP_FLAG, DEBUG_FLAG, TIME_FLAG, SIGNAL_FLAG),
)


def run(arguments: Arguments, context: Context) -> int:
    """Restart them in turn; returns 1 if one could not be."""
    timeout, number = timeout_of(arguments), signal_of(arguments)
    return each_of(
        context,
        arguments,
        lambda entry: lifecycle.restart(context.paths, entry, timeout, number),
    )
