# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina tries`: the tries that are kept, or what one of them changed."""

from __future__ import annotations

import os
import sys
import time

from launcher.cli.context import Context
from launcher.errors import LaunchError, shown
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

COMMAND = Command(
    "lamina tries",
    "[--diff] [--all] [TRY]",
    "list the tries that are kept, or show what one of them changed and is not applied",
    (
        Flag(("-d", "--diff"), None, "of a try: what changed in the text of files"),
        Flag(("-a", "--all"), None, "of a try: also what is applied"),
        Flag(("-q", "--quiet"), None, "ids only"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """Print; returns the exit status."""
    if len(arguments.operands) > 1:
        raise UsageError("show", shown(arguments.operands[1]), "one try at a time")
    if arguments.operands:
        return _show(arguments, context)
    return _list(arguments, context)


def _show(arguments: Arguments, context: Context) -> int:
    from launcher.cli.tries import complete, show_changes, show_differences
    from launcher.trial import changes, record

    trial = record.find(context.paths, os.fsdecode(arguments.operands[0]))
    complete(trial)
    with record.hold(trial):
        items = changes.kept(trial)
        if not arguments.has("--all"):
            items = [item for item in items if not item.done]
        if arguments.has("--diff"):
            show_differences(trial, items, sys.stdout)
        else:
            show_changes(trial, items, sys.stdout)
    return 0


def _list(arguments: Arguments, context: Context) -> int:
    from launcher.cli.tables import aligned
    from launcher.cli.times import ago
    from launcher.trial import changes, record

    lines = [["TRY", "BEGUN", "STATE", "CHANGES", "COMMAND"]]
    now = time.time_ns()
    for trial in record.all_tries(context.paths):
        state = record.state_of(trial)
        left = ""
        if state == "kept":
            try:
                items = changes.kept(trial)
            except LaunchError:
                state = "damaged"
            else:
                pending = sum(not item.done for item in items)
                left = f"{pending} of {len(items)}" if pending < len(items) else str(pending)
                if not pending:
                    state, left = "applied", str(len(items))
        command = shown(b" ".join(trial.args))
        if arguments.has("--quiet"):
            sys.stdout.write(trial.id + "\n")
        lines.append([trial.id, ago(trial.started, now), state, left, command])
    if not arguments.has("--quiet"):
        sys.stdout.write(aligned(lines))
    return 0
