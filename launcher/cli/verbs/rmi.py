# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina rmi`: remove images, or names of them."""

from __future__ import annotations

import os
import sys

from launcher.cli.context import Context
from launcher.cli.ownership import become_owner
from launcher.errors import LaunchError
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

COMMAND = Command(
    "lamina rmi",
    "[-f] IMAGE …",
    "remove images",
    (
        Flag(("-f", "--force"), None, "also if a stopped container is made of it"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """Remove each, and say what went; goes on after one that fails."""
    from launcher.image.collect import remove
    from launcher.image.store import Store

    if not arguments.operands:
        raise UsageError("remove images", "", "say which")
    become_owner()
    status = 0
    store = Store(context.paths)
    # Whoever closes the database last writes all of its log back, and the next begins a new one.
    context.kept.append(store)
    for operand in arguments.operands:
        try:
            removed = remove(store, os.fsdecode(operand), force=arguments.has("--force"))
        except LaunchError as error:
            sys.stdout.flush()
            sys.stderr.write(f"lamina: {error}\n")
            status = 1
            continue
        for name in removed.untagged:
            print(f"Untagged: {name}")
        for digest in removed.deleted:
            print(f"Deleted: sha256:{digest}")
    return status
