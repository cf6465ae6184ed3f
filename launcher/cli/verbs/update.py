# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina update`: changes the limits and the restart policy of containers, running or not."""

from __future__ import annotations

import sys

from launcher import amend
from launcher.cli.context import Context
from launcher.cli.several import each_of
from launcher.options.flags import RESOURCE_FLAGS, RESTART_FLAG
from launcher.options.limits import resources_of, restart_of
from launcher.spec import Resources
from launcher.state import Entry
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, UsageError

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina update",
    "[OPTION…] CONTAINER…",
    "change limits of containers",
    (HELP_FLAG, DEBUG_FLAG, *RESOURCE_FLAGS, RESTART_FLAG),
)


def run(arguments: Arguments, context: Context) -> int:
    """Change each; returns 1 if one of them could not be."""
    if not arguments.flags.keys() - {HELP_FLAG.key, DEBUG_FLAG.key}:
        raise UsageError("update containers", "", "no option says what to change")
    policy = restart_of(arguments)

    def change(old: Resources) -> Resources:
        return resources_of(arguments, old)

    def act(entry: Entry) -> None:
        missing = amend.update(context.paths, entry, change, policy)
        for each in missing:
            line = f"limit not set, this machine has no means for it: {each}"
            sys.stderr.write(f"lamina: {entry.row.name}: {line}\n")

    return each_of(context, arguments, act)
