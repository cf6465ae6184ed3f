# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina cp`: files out of a container and into one, running or not."""

from __future__ import annotations

import os
import sys

from launcher.cli.context import Context
from launcher.errors import LaunchError
from launcher.typed import NamedTuple
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

__all__ = ["COMMAND", "run"]

COMMAND = Command(
    "lamina cp",
    "[OPTION…] CONTAINER:SOURCE TARGET|-\n       lamina cp [OPTION…] SOURCE|- CONTAINER:TARGET",
    "copy files out of a container, or into one; - is a tar archive on a standard stream",
    (
        Flag(("-a", "--archive"), None, "keep users and groups"),
        Flag(("-L", "--follow-link"), None, "copy what a symbolic link as SOURCE leads to"),
        Flag(("-q", "--quiet"), None, "as docker's; nothing is told anyway"),
        DEBUG_FLAG,
        HELP_FLAG,
    ),
)


class _Place(NamedTuple):
    """`container` is "" for the host."""

    container: str
    path: bytes


def run(arguments: Arguments, context: Context) -> int:
    """Copy; returns the exit status."""
    if len(arguments.operands) != 2:
        raise UsageError("copy", "", "say what to copy, and where to")
    source, target = map(_place, arguments.operands)
    if bool(source.container) == bool(target.container):
        what = "either place" if source.container else "neither place"
        raise UsageError("copy", "", f"{what} is in a container (CONTAINER:PATH): one has to be")
    if not source.path or not target.path:
        raise UsageError("copy", "", "a path is empty")
    from launcher.image.tar import Damaged
    from launcher.inside import opened
    from launcher.state import State

    with State(context.paths) as state:
        entry = state.find(source.container or target.container)
    try:
        with opened(context.paths, entry) as inside:
            skipped = _copy(inside, source, target, arguments, context)
    except (OSError, Damaged) as error:
        why = error if isinstance(error, OSError) else str(error)
        thing = _named(error) or (target.path if source.path == b"-" else source.path)
        raise LaunchError("copy", thing, why) from error
    if skipped:
        sys.stderr.write("lamina: cp: sockets were left out\n")
    return 0


def _copy(
    inside: object, source: _Place, target: _Place, arguments: Arguments, context: Context
) -> int:
    from launcher import copying
    from launcher.inside import Inside

    assert isinstance(inside, Inside)
    archive, follow = arguments.has("--archive"), arguments.has("--follow-link")
    if source.container and target.path == b"-":
        if os.isatty(1):
            raise LaunchError("copy to", "-", "an archive is not for a terminal: redirect it")
        with open(1, "wb", buffering=1 << 20, closefd=False) as output:
            return copying.archive(inside, source.path, output.write, follow=follow)
    if source.container:
        return copying.copy_out(inside, source.path, target.path, archive=archive, follow=follow)
    if source.path == b"-":
        spool = context.paths.containers
        copying.extract(inside, target.path, lambda size: os.read(0, size), spool, archive=archive)
        return 0
    return copying.copy_in(inside, source.path, target.path, archive=archive, follow=follow)


def _place(word: bytes) -> _Place:
    """As docker: CONTAINER:PATH, unless a slash or a dot at the front makes it a path."""
    container, colon, path = word.partition(b":")
    if not colon or not container or b"/" in container or word.startswith(b"."):
        return _Place("", word)
    return _Place(os.fsdecode(container), path)


def _named(error: BaseException) -> bytes | None:
    name = getattr(error, "filename", None)
    return os.fsencode(name) if isinstance(name, (bytes, str)) else None
