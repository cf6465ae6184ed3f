# SPDX-License-Identifier: GPL-3.0-or-later
"""What clears up behind a supervisor that was killed: its container's processes, cgroup, state.

Each supervisor starts an undertaker: a shell, since that is small, which waits for the end of a
pipe. A supervisor that ends by itself says so there before; otherwise the shell becomes `main`,
which tidies. Where the undertaker was killed too, the next command that meets the container does
it (`tidy`): a runtime directory whose lock nobody holds tells.
"""

from __future__ import annotations

import os
import sys
import time

from launcher import runtime
from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.typed import Final
from unionfs.light import contextlib

__all__ = ["Undertaker", "abandoned", "main", "remove_cgroup", "tidy"]

_SHELL: Final = "/bin/sh"
# `read` fails at the end of the pipe, and on what has no newline.
_SCRIPT: Final = 'trap "" HUP INT TERM; read word || exec "$@"'
_KILLED: Final = 137
_REASON: Final = "its supervisor was killed"
_PATIENCE: Final = 5.0  # seconds
_PAUSE: Final = 0.02


class Undertaker:
    """One that waits. `dismiss` it when there is nothing to be cleared up."""

    __slots__ = ("_fd",)

    def __init__(self, paths: Paths, id: str) -> None:
        reader, self._fd = os.pipe2(os.O_CLOEXEC)
        try:
            above = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
            environment = {
                "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                "PYTHONPATH": os.pathsep.join(
                    filter(None, (above, os.environ.get("PYTHONPATH", "")))
                ),
            }
            words = [
                sys.executable,
                "-m",
                __name__,
                os.fsdecode(paths.root),
                os.fsdecode(paths.run),
            ]
            os.posix_spawn(
                _SHELL,
                ["lamina-undertaker", "-c", _SCRIPT, "lamina-undertaker", *words, id],
                environment,
                file_actions=[(os.POSIX_SPAWN_DUP2, reader, 0)],
            )
        except BaseException:
            os.close(self._fd)
            raise
        finally:
            os.close(reader)

    def dismiss(self) -> None:
        """It goes without doing anything; nobody waits for that."""
        with contextlib.suppress(BrokenPipeError):  # killed
            os.write(self._fd, b"bye\n")
        os.close(self._fd)


def abandoned(paths: Paths, id: str) -> bool:
    """Whether a supervisor of this container was killed and nobody has cleared up behind it."""
    return os.path.isdir(paths.runtime(id)) and not runtime.alive(paths, id)


def tidy(paths: Paths, id: str) -> bool:
    """Clear up behind a supervisor that was killed; nothing to do where there is none.

    Its container's processes and cgroup are gone when this returns, its end is in the database, and
    a container that was to be removed at its end is. False: somebody else is at it, or it has been
    started again.
    """
    if not os.path.isdir(paths.runtime(id)):
        return True
    try:
        lock = runtime.claim(paths, id)
    except LaunchError:
        return False
    try:
        _bury(paths, id)
    finally:
        runtime.clear(paths, id)
        os.close(lock)
    return True


def _bury(paths: Paths, id: str) -> None:
    from launcher.state import State
    from launcher.sys import mount

    remove_cgroup(id)
    # The undertaker lives in the supervisor's mount namespace, where the union, which nobody serves
    # any more, is still mounted.
    with contextlib.suppress(OSError):
        mount.umount(paths.container(id) + b"/merged", mount.MNT_DETACH)
    with State(paths) as state:
        try:
            row = state.row(id)
        except LaunchError:
            return
        if row.started > row.finished:
            state.finished(id, time.time_ns(), _KILLED, error=_REASON)
        removing = bool(row.removing)
    if removing or _is_automatic(paths, id):
        from launcher.supervisor.ending import remove

        remove(paths, id)


def _is_automatic(paths: Paths, id: str) -> bool:
    from launcher.record import load

    try:
        return load(paths, id).auto_remove
    except LaunchError:
        return False


def remove_cgroup(id: str) -> None:
    """Kill what is left of a container and remove its cgroup."""
    from launcher.cgroup.group import Group
    from launcher.cgroup.hierarchies import find

    Group(id, find()).remove()


def main() -> None:
    """`python -m launcher.supervisor.undertaker ROOT RUN ID`."""
    root, run, id = sys.argv[1:]
    paths = Paths(os.fsencode(root), os.fsencode(run))
    # The pipe may end before the lock is free: the kernel closes a killed process's files in an
    # order of its own, and copies of it that were about to become something else hold both.
    deadline = time.monotonic() + _PATIENCE
    while not tidy(paths, id) and time.monotonic() < deadline:
        time.sleep(_PAUSE)


if __name__ == "__main__":
    main()
