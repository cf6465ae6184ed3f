# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina try`: run a command on a union over the machine's own root, then ask what to keep."""

from __future__ import annotations

import sys

from launcher.cli.context import Context
from launcher.typed import TYPE_CHECKING
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

if TYPE_CHECKING:
    from launcher.trial.changes import Item
    from launcher.trial.record import Trial

COMMAND = Command(
    "lamina try",
    "[--yes | --no | --keep] [--diff] [--network none|host] [--base DIR] CMD [ARG …]",
    "run a command on a copy of this machine, then choose what of its changes to keep",
    (
        Flag(("-y", "--yes"), None, "apply all changes without asking"),
        Flag(("-n", "--no"), None, "show the changes and throw them away"),
        Flag(("-k", "--keep"), None, "keep them for lamina apply, without asking"),
        Flag(("-d", "--diff"), None, "show what changed in the text of files, too"),
        Flag(("--network",), "NAME", "none (default) or host: the machine's own network"),
        Flag(("--base",), "DIR", "use the tree at DIR in place of the machine's root"),
        Flag(("-l", "--list"), None, "list the tries that are kept (as lamina tries)"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
    ordered=True,
)


def run(arguments: Arguments, context: Context) -> int:
    """Run the command, show what it changed, decide; returns the command's exit status."""
    if arguments.has("--list"):
        from launcher.cli.verbs import tries

        return tries.run(Arguments({}, []), context)
    decisions = [key for key in ("--yes", "--no", "--keep") if arguments.has(key)]
    if len(decisions) > 1:
        raise UsageError("use", " and ".join(decisions), "they exclude each other")
    if not arguments.operands:
        raise UsageError("try", "", "no command is given (see lamina try --help)")
    from launcher.trial import record
    from launcher.trial.trying import attempt

    network = (arguments.one("--network") or b"none").decode(errors="replace")
    base = arguments.one("--base") or b"/"
    trial, ended, items = attempt(context.paths, base, tuple(arguments.operands), network)
    for each in ended.warnings:
        sys.stderr.write(f"lamina: warning: {each}\n")
    record.sweep(context.paths)
    if not items:
        _remove(trial)
        sys.stderr.write("lamina: nothing was changed\n")
        return ended.status
    decision = decisions[0][2:] if decisions else ""
    failed = _decide(trial, items, decision, ended.alone, differences=arguments.has("--diff"))
    return ended.status or failed


def _decide(
    trial: Trial, items: list[Item], decision: str, alone: bool, *, differences: bool
) -> int:
    """Show the changes and do what is wanted with them; 1 if that failed."""
    from launcher.cli.tries import show_changes, show_differences

    if not alone:
        sys.stderr.write("\n")
        show_changes(trial, items, sys.stderr)
        if differences:
            sys.stderr.write("\n")
            show_differences(trial, items, sys.stderr)
    if not decision:
        asking = not alone and sys.stdin.isatty() and sys.stderr.isatty()
        decision = _ask(trial, items) if asking else "keep"
    if decision == "yes":
        return _apply(trial, items)
    if decision == "no":
        _remove(trial)
        sys.stderr.write("lamina: the changes were thrown away\n")
        return 0
    from launcher.trial import record

    record.sync(trial)
    sys.stderr.write(
        f"lamina: the changes are kept as {trial.id}\n"
        f"  lamina apply {trial.id}     writes them\n"
        f"  lamina discard {trial.id}   throws them away\n"
    )
    return 0


def _ask(trial: Trial, items: list[Item]) -> str:
    from launcher.cli.tries import show_differences

    if trial.status:
        sys.stderr.write(f"The command ended with status {trial.status}.\n")
    while True:
        try:
            sys.stderr.write("Apply these changes? [y]es, [N]o, [k]eep for later, [d]iff: ")
            sys.stderr.flush()
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            line = ""
        if not line:  # the end of input, or Ctrl-C: nothing is decided
            sys.stderr.write("\n")
            return "keep"
        answer = line.strip().lower()
        if answer in ("d", "diff"):
            show_differences(trial, items, sys.stderr)
            continue
        for decision in ("yes", "no", "keep"):
            if answer in (decision, decision[0]):
                return decision
        if not answer:
            return "no"


def _apply(trial: Trial, items: list[Item]) -> int:
    from launcher.cli.tries import report, say_conflicts
    from launcher.trial import record
    from launcher.trial.apply import apply, conflicts

    with record.hold(trial):
        objections = conflicts(trial, items)
        if objections:
            say_conflicts(trial, objections, sys.stderr)
            sys.stderr.write(
                f"lamina: nothing was written; the changes are kept as {trial.id} "
                "(see lamina apply --help)\n"
            )
            return 1
        outcome = apply(trial, items, items, force=False)
    report(trial, outcome, sys.stderr)
    sys.stderr.write(
        f"lamina: applied {len(outcome.applied)} of {len(items)} changes "
        f"(lamina apply --undo {trial.id} takes them back)\n"
    )
    return 1 if outcome.failed else 0


def _remove(trial: Trial) -> None:
    from launcher.trial import record

    with record.hold(trial):
        record.remove(trial)
