# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina rm`: removes containers, with all that they changed."""

from __future__ import annotations

import os

from launcher import containers
from launcher.cli.context import Context
from launcher.cli.several import each_of
from launcher.errors import LaunchError
from launcher.state import Entry, State
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina rm",
    "[OPTION…] CONTAINER…",
    "remove containers",
    (
        HELP_FLAG,
        DEBUG_FLAG,
        Flag(("-f", "--force"), None, "kill those that run; those that are not there are no error"),
        Flag(("-v", "--volumes"), None, "remove their anonymous volumes, too"),
        Flag(("-a", "--all"), None, "all that do not run, or with --force all"),
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """Remove them in turn; returns 1 if one of them could not be."""
    force, volumes = arguments.has("--force"), arguments.has("--volumes")

    def act(entry: Entry) -> None:
        containers.remove(context.paths, entry, force=force, volumes=volumes)

    if arguments.has("--all"):
        if arguments.operands:
            raise UsageError("remove containers", "--all", "containers are named besides")
        with State(context.paths) as state:
            every = [each for each in state.all() if force or each.running is None]
        words = [each.row.id.encode() for each in every]
        return each_of(context, Arguments({}, words), act) if words else 0
    if force:
        arguments = Arguments(arguments.flags, _there(arguments.operands, context))
        if not arguments.operands:
            return 0
    return each_of(context, arguments, act)


def _there(operands: list[bytes], context: Context) -> list[bytes]:
    """Without those that are gone already: `rm -f` is content with the result, as docker's is."""
    if not operands:
        raise UsageError("remove containers", "", "none is named")
    there = []
    with State(context.paths) as state:
        for each in operands:
            try:
                state.find(os.fsdecode(each))
            except LaunchError as error:
                if "there is none" in str(error.reason):
                    continue
            there.append(each)
    return there
