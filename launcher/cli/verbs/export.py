# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina export`: a container's files as an archive."""

from __future__ import annotations

import os
import sys

from launcher.cli.context import Context
from launcher.cli.ownership import become_owner
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

COMMAND = Command(
    "lamina export",
    "[-o FILE] CONTAINER",
    "write a container's files to a tar archive, or to standard output",
    (
        Flag(("-o", "--output"), "FILE", "where to write, instead of standard output"),
        Flag(("-q", "--quiet"), None, "show no progress"),
        DEBUG_FLAG,
        HELP_FLAG,
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """Export one container."""
    from launcher.cli.outputs import output_file
    from launcher.cli.progress import Progress
    from launcher.image.exporting import export
    from launcher.state import State

    if len(arguments.operands) != 1:
        raise UsageError("export", "", "say one container")
    output = arguments.one("--output")
    if output is None and os.isatty(1):
        raise UsageError("export", "", "say where with -o: a terminal is no place for it")
    paths = context.paths
    with State(paths) as state:
        entry = state.find(os.fsdecode(arguments.operands[0]))
    become_owner()
    with Progress("export", silent=arguments.has("--quiet")) as progress:
        if output is None:
            sys.stdout.flush()
            notes = export(paths, entry, 1, progress.update)
        else:
            with output_file(output, "export to") as fd:
                notes = export(paths, entry, fd, progress.update)
    for note in notes:
        sys.stderr.write(f"lamina: export: {note}\n")
    return 0
