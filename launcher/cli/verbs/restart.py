# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina restart`: stop containers and start them again."""

from __future__ import annotations

from launcher import lifecycle
from launcher.cli.context import Context
from launcher.cli.timeouts import FLAGS, end_each
from unionfs import Arguments, Command

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina restart", "[OPTION…] CONTAINER…", "stop containers and start them again", FLAGS
)


def run(arguments: Arguments, context: Context) -> int:
    """Stop containers and start them again; returns 1 if one could not be."""
    return end_each(context, arguments, lifecycle.restart)
