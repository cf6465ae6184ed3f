# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina rename`: gives a container another name."""

from __future__ import annotations

import os

from launcher import amend
from launcher.cli.context import Context
from launcher.state import State
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, UsageError

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina rename",
    "CONTAINER NAME",
    "give a container another name",
    (HELP_FLAG, DEBUG_FLAG),
)


def run(arguments: Arguments, context: Context) -> int:
    """Rename it; returns the exit status."""
    if len(arguments.operands) != 2:
        raise UsageError("rename a container", "", "it takes a container and its new name")
    reference, name = (os.fsdecode(each) for each in arguments.operands)
    with State(context.paths) as state:
        entry = state.find(reference)
    amend.rename(context.paths, entry, name.removeprefix("/"))
    return 0
