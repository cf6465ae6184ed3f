# SPDX-License-Identifier: GPL-3.0-or-later
"""`mount.fuse.lamina`: what mount(8) runs for `mount -t fuse.lamina` and for lines of fstab(5).

The calling convention is that of mount(8), "EXTERNAL HELPERS". The source is a label only: it is
what /proc/mounts shows.
"""

from __future__ import annotations

import os

from unionfs.cli.arguments import HELP, Command, Flag, parse
from unionfs.cli.mount import mount
from unionfs.errors import UsageError
from unionfs.options import Choices, OptionError, UnknownOption, apply_options, split_options
from unionfs.typed import Final

__all__ = ["COMMAND", "run"]

COMMAND: Final = Command(
    "mount.fuse.lamina",
    "[SOURCE] TARGET [-fnsv] -o lowerdir=A:B,upperdir=C,workdir=D,…",
    "Mount a union, as mount(8) asks for it. SOURCE is a label.",
    (
        Flag(("-o",), "OPTIONS", "see lamina mount"),
        Flag(("-t",), "TYPE", "ignored: there is one type"),
        Flag(("-f",), None, "check the options, but do not mount"),
        Flag(("-s",), None, "pass over unknown options"),
        Flag(("-n",), None, "ignored: there is no /etc/mtab to write"),
        Flag(("-v",), None, "say what is mounted"),
        HELP,
    ),
)


def run(words: list[bytes]) -> int:
    """The helper; returns the exit status."""
    arguments = parse(COMMAND, words)
    if arguments is None:
        return 0
    if len(arguments.operands) not in (1, 2):
        reason = f"SOURCE and TARGET are needed (see {COMMAND.name} --help)"
        raise UsageError("mount", b" ".join(arguments.operands), reason)
    *source, target = arguments.operands
    choices = Choices()
    try:
        for text in arguments.all("-o"):
            for option in split_options(text):
                try:
                    apply_options(option, choices)
                except UnknownOption:
                    if not arguments.has("-s"):
                        raise
    except OptionError as error:
        raise UsageError("mount", target, str(error)) from error
    if choices.fsname is None and source and source[0]:
        choices.fsname = os.fsdecode(source[0])
    if arguments.has("-f"):
        return 0
    mount(target, choices)
    if arguments.has("-v"):
        from unionfs.cli.output import say

        say(f"{choices.fsname or 'lamina'} mounted on ", target)
    return 0
