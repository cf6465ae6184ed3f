# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina apply`: write changes of a try to the machine, or take that back."""

from __future__ import annotations

import os
import sys

from launcher.cli.context import Context
from launcher.errors import LaunchError
from launcher.typed import TYPE_CHECKING
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

if TYPE_CHECKING:
    from launcher.trial.record import Trial

COMMAND = Command(
    "lamina apply",
    "[--undo] [--force | --skip] [--dry-run] TRY [PATH …]",
    "write what a try changed, or only PATHs of it, to the machine",
    (
        Flag(("--undo",), None, "put back what the last apply of the try replaced"),
        Flag(("-f", "--force"), None, "also over what the machine has changed since"),
        Flag(("--skip",), None, "leave out what the machine has changed since, write the rest"),
        Flag(("--dry-run",), None, "only say what would be done"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """Apply or undo; returns the exit status: 1 if anything was refused or failed."""
    if not arguments.operands:
        raise UsageError("apply", "", "no try is named (lamina tries lists them)")
    if arguments.has("--force") and arguments.has("--skip"):
        raise UsageError("use", "--force and --skip", "they exclude each other")
    from launcher.cli.tries import complete
    from launcher.trial import record

    reference, *paths = arguments.operands
    trial = record.find(context.paths, os.fsdecode(reference))
    complete(trial)
    with record.hold(trial):
        if arguments.has("--undo"):
            if paths:
                raise UsageError("undo", paths[0], "an apply is taken back as a whole")
            return _undo(trial, arguments)
        return _apply(trial, arguments, paths)


def _apply(trial: Trial, arguments: Arguments, paths: list[bytes]) -> int:
    from launcher.cli.tries import absolute, report, say_conflicts, show_changes
    from launcher.trial import changes
    from launcher.trial.apply import apply, conflicts, finish, unfinished

    failed = 0
    if unfinished(trial) and not arguments.has("--dry-run"):
        sys.stdout.write("an apply was interrupted: finishing it first\n")
        outcome = finish(trial)
        if outcome is not None:
            report(trial, outcome, sys.stderr)
            failed = 1 if outcome.failed else 0
    items = changes.kept(trial)
    if all(item.done for item in items):
        sys.stdout.write("everything is applied\n")
        return failed
    wanted = changes.chosen(trial, items, [absolute(trial, path) for path in paths])
    force = arguments.has("--force")
    objections = [] if force else conflicts(trial, wanted)
    if objections:
        say_conflicts(trial, objections, sys.stderr)
        failed = 1
        if not arguments.has("--skip"):
            if not arguments.has("--dry-run"):
                sys.stderr.write("lamina: nothing was written (--skip leaves these out)\n")
                return failed
        else:
            wanted = changes.without(wanted, [each.item for each in objections])
    if arguments.has("--dry-run"):
        show_changes(trial, wanted, sys.stdout)
        return failed
    if not wanted:
        return failed
    outcome = apply(trial, items, wanted, force=force)
    report(trial, outcome, sys.stderr)
    sys.stdout.write(
        f"applied {len(outcome.applied)} of {len(wanted)} changes "
        f"(lamina apply --undo {trial.id} takes them back)\n"
    )
    return 1 if outcome.failed else failed


def _undo(trial: Trial, arguments: Arguments) -> int:
    from launcher.errors import shown
    from launcher.trial import journal, undo

    log = journal.latest(trial)
    if log is None:
        raise LaunchError("undo try", trial.id, "nothing of it is applied")
    with log:
        force = arguments.has("--force")
        refusals = [] if force else undo.refusals(trial, log)
        untouched = bool(refusals)
        if not refusals and not arguments.has("--dry-run"):
            refusals = undo.undo(trial, log, force=force)
            if not refusals:
                sys.stdout.write("put back what the apply replaced\n")
        for each in refusals:
            sys.stderr.write(f"lamina: cannot put back {shown(each.path)}: {each.reason}\n")
        if untouched:
            sys.stderr.write("lamina: nothing was put back (--force does so all the same)\n")
    return 1 if refusals else 0
