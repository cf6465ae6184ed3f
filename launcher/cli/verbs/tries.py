# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina tries`: the tries that are kept, or what one of them changed."""

from __future__ import annotations

import os
import sys
import time

from launcher.cli.context import Context
from launcher.errors import LaunchError, shown
from launcher.typed import TYPE_CHECKING, Final
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

if TYPE_CHECKING:
    from launcher.trial.changes import Item
    from launcher.trial.record import Trial

COMMAND = Command(
    "lamina tries",
    "[-q] [--format TEMPLATE] [--diff] [--all] [TRY]",
    "list the tries that are kept, or show what one of them changed and is not applied",
    (
        Flag(("-d", "--diff"), None, "of a try: what changed in the text of files"),
        Flag(("-a", "--all"), None, "of a try: also what is applied"),
        Flag(("--format",), "TEMPLATE", "table, json, or a template like {{.ID}} {{.State}}"),
        Flag(("-q", "--quiet"), None, "ids only"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)


_TITLES: Final = {
    "ID": "TRY",
    "Begun": "BEGUN",
    "BegunAt": "BEGUN AT",
    "State": "STATE",
    "Changes": "CHANGES",
    "Command": "COMMAND",
}
_COLUMNS: Final = ("ID", "Begun", "State", "Changes", "Command")
_FIELDS: Final = ("Kind", "Path", "Type", "Size", "What", "Source", "Applied")


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
        form = os.fsdecode(arguments.one("--format") or b"")
        if form:
            sys.stdout.write(_changes(trial, items, form))
        elif arguments.has("--diff"):
            show_differences(trial, items, sys.stdout)
        else:
            show_changes(trial, items, sys.stdout)
    return 0


def _list(arguments: Arguments, context: Context) -> int:
    from launcher.cli.listing import Listing, show
    from launcher.cli.times import ago, wall_clock
    from launcher.documents import Row
    from launcher.trial import record

    tries = record.all_tries(context.paths)
    if arguments.has("--quiet"):
        sys.stdout.write("".join(trial.id + "\n" for trial in tries))
        return 0
    now = time.time_ns()
    rows = []
    for trial in tries:
        state, changes = _state(trial)
        rows.append(
            Row(
                {
                    "Begun": ago(trial.started, now),
                    "BegunAt": wall_clock(trial.started),
                    "Changes": changes,
                    "Command": shown(b" ".join(trial.args)),
                    "ID": trial.id,
                    "State": state,
                }
            )
        )
    form = os.fsdecode(arguments.one("--format") or b"")
    sys.stdout.write(show(Listing(_TITLES, _COLUMNS), rows, form))
    return 0


def _state(trial: Trial) -> tuple[str, str]:
    """What a try has come to, and how many changes of it are left."""
    from launcher.trial import changes, record

    state = record.state_of(trial)
    if state != "kept":
        return state, ""
    try:
        items = changes.kept(trial)
    except LaunchError:
        return "damaged", ""
    pending = sum(not item.done for item in items)
    if not pending:
        return "applied", str(len(items))
    return state, f"{pending} of {len(items)}" if pending < len(items) else str(pending)


def _changes(trial: Trial, items: list[Item], form: str) -> str:
    """One row for each change."""
    from launcher.cli.listing import Listing, show
    from launcher.cli.tries import path_of
    from launcher.documents import Row

    titles = {name: name.upper() for name in _FIELDS}
    rows = []
    for item in items:
        top = trial.places[item.place].mountpoint.rstrip(b"/")
        source = "" if item.source is None else shown(top + item.source)
        rows.append(
            Row(
                {
                    "Applied": item.done,
                    "Kind": item.kind,
                    "Path": path_of(trial, item),
                    "Size": item.size,
                    "Source": source,
                    "Type": item.type,
                    "What": ",".join(item.what),
                }
            )
        )
    return show(Listing(titles, _FIELDS), rows, form)
