# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina exec`: runs a further command in a running container."""

from __future__ import annotations

import os

from launcher.cli import foreground
from launcher.cli.context import Context
from launcher.enter import Command as Inside
from launcher.enter import enter
from launcher.errors import LaunchError
from launcher.image.model import ImageConfig
from launcher.options import reading
from launcher.state import State
from unionfs import DEBUG_FLAG, Arguments, Command, Flag, UsageError

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina exec",
    "[OPTION…] CONTAINER COMMAND [ARGUMENT…]",
    "run a further command in a running container",
    (
        Flag(("-h", "--help"), None, "show this text"),
        DEBUG_FLAG,
        Flag(("-d", "--detach"), None, "leave it running"),
        Flag(("-i", "--interactive"), None, "give it this command's input"),
        Flag(("-t", "--tty"), None, "give it a terminal"),
        Flag(("-e", "--env"), "NAME[=VALUE]", "set a variable; without = take it from here"),
        Flag(("--env-file",), "FILE", "read variables, one a line"),
        Flag(("-w", "--workdir"), "DIR", "start in this directory"),
        Flag(("-u", "--user"), "USER[:GROUP]", "be this user, by name or number"),
        Flag(("--privileged",), None, "give it every right"),
        Flag(("--detach-keys",), "KEYS", "what detaches from a terminal (ctrl-p,ctrl-q)"),
    ),
    ordered=True,
)


def run(arguments: Arguments, context: Context) -> int:
    """Run it; returns its exit status, or 0 at once with `--detach`."""
    if len(arguments.operands) < 2:
        raise UsageError("execute in a container", "", "a container and a command are needed")
    reference = os.fsdecode(arguments.operands[0])
    with State(context.paths) as state:
        entry = state.find(reference)
    if entry.running is None:
        raise LaunchError("execute in container", reference, "it is not running", 1)
    user = arguments.one("--user")
    wanted = Inside(
        args=tuple(arguments.operands[1:]),
        env=reading.environment(arguments, ImageConfig()),
        cwd=arguments.one("--workdir"),
        user=None if user is None else os.fsdecode(user),
        privileged=arguments.has("--privileged"),
    )
    ended = enter(
        context.paths,
        entry,
        wanted,
        detach=arguments.has("--detach"),
        interactive=arguments.has("--interactive"),
        terminal=arguments.has("--tty"),
        keys=arguments.one("--detach-keys"),
    )
    foreground.warn(ended.warnings)
    return ended.code
