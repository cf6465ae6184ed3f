# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina kill`: sends containers a signal, SIGKILL unless told otherwise."""

from __future__ import annotations

import os

from launcher import lifecycle, signals
from launcher.cli.context import Context
from launcher.cli.several import each_of
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina kill",
    "[OPTION…] CONTAINER…",
    "send containers a signal (SIGKILL)",
    (HELP_FLAG, DEBUG_FLAG, Flag(("-s", "--signal"), "SIGNAL", "its name or number")),
)


def run(arguments: Arguments, context: Context) -> int:
    """Send it to each; returns 1 if one could not be reached."""
    number = signals.number(os.fsdecode(arguments.one("--signal") or b"KILL"))
    return each_of(context, arguments, lambda entry: lifecycle.kill(context.paths, entry, number))
