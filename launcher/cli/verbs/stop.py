# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina stop`: stop containers."""

from __future__ import annotations

from launcher import lifecycle
from launcher.cli.context import Context
from launcher.cli.several import each_of
from launcher.cli.timeouts import SIGNAL_FLAG, TIME_FLAG, signal_of, timeout_of
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina stop",
    "[OPTION…] CONTAINER…",
    "stop containers",
    (HELP_FLAG, DEBUG_FLAG, TIME_FLAG, SIGNAL_FLAG),
)


def run(arguments: Arguments, context: Context) -> int:
    """Stop them in turn; returns 1 if one could not be."""
    timeout, number = timeout_of(arguments), signal_of(arguments)
    return each_of(
        context,
        arguments,
        lambda entry: lifecycle.stop(context.paths, entry, timeout, number),
    )
