# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina diff`: what a container changed of its image; or, of a union, what its upper changes."""

from __future__ import annotations

import os
import sys

import unionfs
from launcher.cli.context import Context
from launcher.cli.ownership import become_owner
from launcher.errors import LaunchError
from unionfs import Arguments, Command

__all__ = ["COMMAND", "run"]

# The words are those of the union's own verb of this name, unless they name a container.
COMMAND = Command(
    "lamina diff",
    "CONTAINER | MERGED | [--lower CD …] UPPER",
    "list what was changed in a container, a mounted union, or an upper directory",
    (),
)


def run(arguments: Arguments, context: Context) -> int:
    """List the changes; returns the exit status."""
    words = arguments.operands
    if len(words) == 1 and not words[0].startswith((b"-", b"/", b".")) and b"/" not in words[0]:
        status = _container(os.fsdecode(words[0]), context)
        if status is not None:
            return status
    return unionfs.command_line(["diff", *map(os.fsdecode, words)])


def _container(name: str, context: Context) -> int | None:
    """List what a container changed; None if there is no such container, but a directory."""
    from launcher import record
    from launcher.state import State

    try:
        with State(context.paths) as state:
            entry = state.find(name)
    except LaunchError:
        if os.path.isdir(name):
            return None
        raise
    become_owner()
    from launcher.difference import changes

    write = sys.stdout.buffer.write
    for changed in changes(context.paths, record.load(context.paths, entry.row.id)):
        write(b"%s %s\n" % (changed.kind.encode(), changed.path))
    sys.stdout.buffer.flush()
    return 0
