# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina version`: the version of lamina, and of what it stands on."""

from __future__ import annotations

import os
import sys

from launcher.cli.context import Context
from launcher.documents import json_text
from launcher.information import version
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

COMMAND = Command(
    "lamina version",
    "[-f TEMPLATE]",
    "show the version of lamina, and of what it stands on",
    (
        Flag(("-f", "--format"), "TEMPLATE", "json, or a template like {{.Client.Version}}"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)
_TITLES = {
    "Version": "Version",
    "PythonVersion": "Python version",
    "Arch": "OS/Arch",
    "KernelVersion": "Kernel version",
}


def run(arguments: Arguments, context: Context) -> int:
    """Print it; returns the exit status."""
    if arguments.operands:
        raise UsageError("show the version", "", "it takes no names")
    form = os.fsdecode(arguments.one("--format") or b"")
    document = version()
    if form == "json":
        sys.stdout.write(json_text(document) + "\n")
    elif form:
        from launcher.cli.template.evaluation import render
        from launcher.cli.template.parser import parse

        sys.stdout.write(render(parse(form), document) + "\n")
    else:
        found = document["Client"]
        sys.stdout.write("lamina:\n")
        for key, title in _TITLES.items():
            value = f"{found['Os']}/{found['Arch']}" if key == "Arch" else found[key]
            sys.stdout.write(f" {title + ':':<18} {value}\n")
    return 0
