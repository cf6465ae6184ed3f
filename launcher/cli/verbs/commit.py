# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina commit`: an image of a container as it is now."""

from __future__ import annotations

import os
import sys

from launcher.cli.context import Context
from launcher.cli.ownership import become_owner
from launcher.image.committing import Wishes, commit
from launcher.image.store import Store
from launcher.state import State
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina commit",
    "[OPTION…] CONTAINER [REPOSITORY[:TAG]]",
    "make an image of a container's changes",
    (
        Flag(("-a", "--author"), "TEXT", "who made it"),
        Flag(
            ("-c", "--change"), "INSTRUCTION", "as in a Dockerfile: CMD, ENV, USER … (repeatable)"
        ),
        Flag(("-m", "--message"), "TEXT", "what for"),
        Flag(
            ("-p", "--pause"),
            None,
            "the container stands still meanwhile (default; --pause=false)",
            standing=True,
        ),
        Flag(("-q", "--quiet"), None, "tell nothing but the id"),
        DEBUG_FLAG,
        HELP_FLAG,
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """Commit and print the new image's id."""
    if not 1 <= len(arguments.operands) <= 2:
        raise UsageError("commit", "", "name a container, and what the image is to be called")
    container, *name = map(os.fsdecode, arguments.operands)
    become_owner()
    store = Store(context.paths)
    # Closing the database would cost more than finding the container: it ends with the process.
    context.kept.append(store)
    entry = State(context.paths, store.db).find(container)
    wishes = Wishes(
        name[0] if name else None,
        os.fsdecode(arguments.one("--author") or b""),
        os.fsdecode(arguments.one("--message") or b""),
        tuple(map(os.fsdecode, arguments.all("--change"))),
        arguments.one("--pause") != b"false",
    )
    made = commit(store, entry, wishes)
    if not arguments.has("--quiet"):
        for note in made.notes:
            sys.stderr.write(f"lamina: commit: {note}\n")
    print(f"sha256:{made.id}")
    return 0
