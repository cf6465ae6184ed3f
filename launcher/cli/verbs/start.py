# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina start`: starts containers that do not run, with the edits of their last run."""

from __future__ import annotations

import os

from launcher import lifecycle
from launcher.cli import foreground
from launcher.cli.context import Context
from launcher.cli.several import each_of
from launcher.starting import begin
from launcher.state import Entry, State
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina start",
    "[OPTION…] CONTAINER…",
    "start containers that do not run",
    (
        HELP_FLAG,
        DEBUG_FLAG,
        Flag(("--all",), None, "all that do not run"),
        Flag(("-f", "--filter"), "FILTER", "with --all: only what fits, as restart-policy=always"),
        Flag(("-a", "--attach"), None, "show its output and pass signals on; one container only"),
        Flag(("-i", "--interactive"), None, "attach, and pass input on"),
        Flag(("--detach-keys",), "KEYS", "what detaches from a terminal (ctrl-p,ctrl-q)"),
        Flag(("--sig-proxy",), None, "pass signals on to it (true)", standing=True),
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """Start them in turn; returns 0, or 1 if one could not be, or with --attach its own status."""
    attached = arguments.has("--attach") or arguments.has("--interactive")
    if arguments.has("--all"):
        if arguments.operands or attached:
            reason = "it takes no names, and nothing is attached to"
            raise UsageError("start containers", "--all", reason)
        arguments = arguments._replace(operands=_all_that_fit(arguments, context))
        if not arguments.operands:
            return 0
    elif arguments.has("--filter"):
        raise UsageError("start containers", "--filter", "it goes with --all")
    if not arguments.operands:
        raise UsageError("start containers", "", "none is named")
    if attached:
        if len(arguments.operands) > 1:
            raise UsageError("start containers", "--attach", "it takes one container only")
        return _start_attached(arguments, context)
    spare = [context.starting]

    def start(entry: Entry) -> None:
        foreground.warn(lifecycle.start(context.paths, entry, spare.pop() if spare else None))

    return each_of(context, arguments, start)


def _all_that_fit(arguments: Arguments, context: Context) -> list[bytes]:
    """The names of the containers that do not run and that the filters let through, oldest first:
    a later one may use what is another's.
    """
    from launcher.cli.container_filters import KEYS, selector
    from launcher.cli.container_rows import Look
    from launcher.cli.filters import read_filters

    with State(context.paths) as state:
        looks = [Look(context.paths, each) for each in state.all() if each.running is None]
        fits = selector(context.paths, state, read_filters(arguments.all("--filter"), KEYS))
        return [os.fsencode(each.entry.row.name) for each in reversed(looks) if fits(each)]


def _start_attached(arguments: Arguments, context: Context) -> int:
    with State(context.paths) as state:
        entry = state.find(os.fsdecode(arguments.operands[0]))
    record = lifecycle.startable(context.paths, entry)
    stdin = arguments.has("--interactive")
    if record is None:
        from launcher.cli.verbs.attach import attach

        return attach(
            context,
            entry,
            stdin=stdin,
            sig_proxy=arguments.has("--sig-proxy"),
            keys=arguments.one("--detach-keys"),
        )
    stdin = stdin and record.interactive
    foreground.check_terminal(record, stdin=stdin)
    return foreground.run_attached(
        context,
        record,
        context.starting or begin(),
        ("stdout", "stderr"),
        stdin=stdin,
        sig_proxy=arguments.has("--sig-proxy"),
        keys=foreground.detach_keys(arguments.one("--detach-keys"), record),
    )
