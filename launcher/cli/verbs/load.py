# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina load`: take in images that `save`, docker, podman or skopeo wrote."""

from __future__ import annotations

import os
import sys

from launcher.cli.context import Context
from launcher.cli.ownership import become_owner
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

COMMAND = Command(
    "lamina load",
    "[-i ARCHIVE|DIRECTORY]",
    "load images from an archive (docker's or OCI), an OCI layout, or standard input",
    (
        Flag(("-i", "--input"), "PATH", "what to load, instead of standard input"),
        Flag(("-q", "--quiet"), None, "show no progress"),
        DEBUG_FLAG,
        HELP_FLAG,
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """Load, and print each image's name, or its id where it has none."""
    from launcher.cli.progress import Progress
    from launcher.image.loading import load

    if arguments.operands:
        raise UsageError("load", os.fsdecode(arguments.operands[0]), "say it with -i")
    source = arguments.one("--input") or b"-"
    if source == b"-" and sys.stdin.isatty():
        raise UsageError("load", "", "standard input is a terminal; say what to load with -i")
    become_owner()
    with Progress("load", silent=arguments.has("--quiet")) as progress:
        loaded = load(context.paths, source, progress.update)
    for note in loaded.notes:
        sys.stderr.write(f"lamina: load: {note}\n")
    for id, names in loaded.images:
        for name in names:
            print(f"Loaded image: {name}")
        if not names:
            print(f"Loaded image ID: sha256:{id}")
    return 0
