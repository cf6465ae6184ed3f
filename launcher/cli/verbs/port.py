# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina port`: where the ports of a container are published."""

from __future__ import annotations

import os
import sys

from launcher.cli.container_rows import Look
from launcher.cli.context import Context
from launcher.errors import LaunchError
from launcher.state import State
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, UsageError

COMMAND = Command(
    "lamina port",
    "CONTAINER [PORT[/PROTOCOL]]",
    "show where the ports of a container are published",
    (HELP_FLAG, DEBUG_FLAG),
)


def run(arguments: Arguments, context: Context) -> int:
    """Print the addresses; returns the exit status."""
    if not 1 <= len(arguments.operands) <= 2:
        raise UsageError("show ports", "", "it takes a container, and a port (see --help)")
    name, *wanted = (os.fsdecode(word) for word in arguments.operands)
    with State(context.paths) as state:
        look = Look(context.paths, state.find(name))
    published = sorted(
        (inside, protocol, f"[{address}]" if ":" in address else address, outside)
        for address, outside, inside, protocol in look.ports
        if outside
    )
    if not wanted:
        for inside, protocol, address, outside in published:
            sys.stdout.write(f"{inside}/{protocol} -> {address}:{outside}\n")
        return 0
    number, _, protocol = wanted[0].partition("/")
    if not number.isdigit() or int(number) > 65535:
        raise UsageError("understand port", wanted[0], "it is written PORT[/PROTOCOL]")
    found = [
        f"{address}:{outside}\n"
        for inside, kind, address, outside in published
        if (inside, kind) == (int(number), protocol or "tcp")
    ]
    if not found:
        reason = f"{number}/{protocol or 'tcp'} is not published"
        raise LaunchError("show ports of", name, reason)
    sys.stdout.write("".join(found))
    return 0
