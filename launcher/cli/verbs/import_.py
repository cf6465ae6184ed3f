# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina import`: an image of a directory or an archive."""

from __future__ import annotations

import os
import sys

from launcher.cli.context import Context
from launcher.cli.ownership import become_owner
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

COMMAND = Command(
    "lamina import",
    "[-c CHANGE …] [-m TEXT] DIRECTORY|ARCHIVE|- [REPOSITORY[:TAG]]",
    "make an image of a directory or a tar archive",
    (
        Flag(
            ("-c", "--change"), "INSTRUCTION", "as in a Dockerfile: CMD, ENV, USER … (repeatable)"
        ),
        Flag(("-m", "--message"), "TEXT", "say where it is from"),
        Flag(("-q", "--quiet"), None, "show no progress"),
        DEBUG_FLAG,
        HELP_FLAG,
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """Import and print the new image's id."""
    from launcher.cli.progress import Progress
    from launcher.image.importing import import_image

    if not 1 <= len(arguments.operands) <= 2:
        raise UsageError("import", "", "say what to import, and a name for it")
    source = arguments.operands[0]
    name = os.fsdecode(arguments.operands[1]) if len(arguments.operands) > 1 else None
    changes = [os.fsdecode(each) for each in arguments.all("--change")]
    message = os.fsdecode(arguments.one("--message") or b"")
    become_owner()
    with Progress(source, silent=arguments.has("--quiet")) as progress:
        imported = import_image(context.paths, source, name, changes, message, progress.update)
    for note in imported.notes:
        sys.stderr.write(f"lamina: import: {note}\n")
    print(f"sha256:{imported.id}")
    return 0
