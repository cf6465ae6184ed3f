# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina unpause`: have the processes of paused containers go on."""

from __future__ import annotations

from launcher import lifecycle
from launcher.cli.context import Context
from launcher.cli.several import each_of
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina unpause",
    "CONTAINER…",
    "have the processes of paused containers go on",
    (HELP_FLAG, DEBUG_FLAG),
)


def run(arguments: Arguments, context: Context) -> int:
    """Do so to each; returns 1 if one could not be."""
    return each_of(context, arguments, lambda entry: lifecycle.unpause(context.paths, entry))
