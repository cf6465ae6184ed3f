# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina discard`: throw kept tries away, with what they need to be taken back."""

from __future__ import annotations

import os
import sys

from launcher.cli.context import Context
from launcher.errors import LaunchError
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

COMMAND = Command(
    "lamina discard",
    "--all | TRY …",
    "throw away tries; what was applied of them stays, and cannot be undone any more",
    (Flag(("-a", "--all"), None, "every try that is not running"), HELP_FLAG, DEBUG_FLAG),
)


def run(arguments: Arguments, context: Context) -> int:
    """Discard; returns the exit status."""
    from launcher.trial import record

    every = arguments.has("--all")
    if every == bool(arguments.operands):
        raise UsageError("discard", "", "name tries, or --all (lamina tries lists them)")
    paths = context.paths
    status = 0
    wanted = [os.fsdecode(each) for each in arguments.operands]
    if every:
        wanted = [each.id for each in record.all_tries(paths) if record.state_of(each) != "running"]
    for reference in wanted:
        try:
            trial = record.find(paths, reference)
            with record.hold(trial):
                record.remove(trial)
            sys.stdout.write(f"{trial.id}\n")
        except LaunchError as error:
            sys.stdout.flush()
            sys.stderr.write(f"lamina: {error}\n")
            status = 1
    record.sweep(paths)
    return status
