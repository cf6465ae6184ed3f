# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina attach`: the user's terminal becomes that of a running container."""

from __future__ import annotations

import os

from launcher import console, control, record
from launcher.cli import foreground
from launcher.cli.context import Context
from launcher.errors import LaunchError
from launcher.lifecycle import STREAMS
from launcher.state import Entry, State
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

__all__ = ["COMMAND", "attach", "run"]

COMMAND = Command(
    "lamina attach",
    "[OPTION…] CONTAINER",
    "follow a running container's output, give it input",
    (
        HELP_FLAG,
        DEBUG_FLAG,
        Flag(("--no-stdin",), None, "give it no input"),
        Flag(("--detach-keys",), "KEYS", "what detaches from a terminal (ctrl-p,ctrl-q)"),
        Flag(("--sig-proxy",), None, "pass signals on to it (true)", standing=True),
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """Stay until it ends; returns its exit status."""
    if len(arguments.operands) != 1:
        raise UsageError("attach", "", "it takes one container")
    with State(context.paths) as state:
        entry = state.find(os.fsdecode(arguments.operands[0]))
    return attach(
        context,
        entry,
        stdin=not arguments.has("--no-stdin"),
        sig_proxy=arguments.has("--sig-proxy"),
        keys=arguments.one("--detach-keys"),
    )


def attach(
    context: Context, entry: Entry, *, stdin: bool, sig_proxy: bool, keys: bytes | None
) -> int:
    """Attach to a container that runs until it ends or the user detaches."""
    if entry.running is None:
        raise LaunchError("attach to container", entry.row.name, "it is not running")
    described = record.load(context.paths, entry.row.id)
    wanted = foreground.detach_keys(keys, described)
    stdin = stdin and described.interactive
    foreground.check_terminal(described, stdin=stdin)
    connection = control.connect(context.paths, entry.row.id)
    connection.request("attach", streams=list(STREAMS.values()), stdin=stdin)
    ended = console.attend(
        connection, stdin=stdin, tty=described.tty, sig_proxy=sig_proxy, keys=wanted
    )
    return foreground.conclude(context, described, connection, ended)
