# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina umount`: take unions down, and repair mount points whose daemon died."""

from __future__ import annotations

from unionfs.cli.arguments import DEBUG, HELP, Command, Flag, parse
from unionfs.errors import UnionError, UsageError
from unionfs.typed import Final

__all__ = ["COMMAND", "run"]

COMMAND: Final = Command(
    "lamina umount",
    "[--lazy] MERGED …",
    "Unmount, and return when the daemon has let go of the layers. A mount point whose daemon\n"
    "died is made usable again.",
    (
        Flag(("-l", "--lazy"), None, "detach now, end when nobody uses it any more"),
        DEBUG,
        HELP,
    ),
)


def run(words: list[bytes]) -> int:
    """The verb; returns the exit status."""
    arguments = parse(COMMAND, words)
    if arguments is None:
        return 0
    if not arguments.operands:
        raise UsageError("unmount", "", f"no mount point is named (see {COMMAND.name} --help)")
    from unionfs.fuse.unmount import unmount

    failures = []
    for path in arguments.operands:
        try:
            unmount(path, lazy=arguments.has("--lazy"))
        except UnionError as error:
            failures.append(error)
    if not failures:
        return 0
    from unionfs.cli import complain

    for failure in failures[:-1]:
        complain(failure)
    raise failures[-1]
