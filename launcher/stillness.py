# SPDX-License-Identifier: GPL-3.0-or-later
"""A container that stands still for as long as its files are read.

Its processes are frozen by their cgroup, as `pause` does, but its state stays what it is. A guard,
a process forked for the purpose, thaws them should this one be killed meanwhile.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.state import Entry

__all__ = ["still"]


@contextlib.contextmanager
def still(paths: Paths, entry: Entry) -> Iterator[None]:
    """Freeze the processes of a container that runs; and have written what they have written.

    Raises LaunchError where they cannot be frozen.
    """
    running = entry.running
    if running is None or running.state not in ("running", "stopping"):
        yield
        return
    from launcher.cgroup.group import Group
    from launcher.cgroup.hierarchies import find

    group = Group(entry.row.id, find())
    guard, released = _guard(group)
    try:
        group.freeze()
        _write_back(running.pid)
        yield
    finally:
        try:
            _thaw(group)
        finally:
            os.close(released)
            os.waitpid(guard, 0)


def _guard(group: object) -> tuple[int, int]:
    """A process that thaws when this one has gone: its pid, and a descriptor to be closed then."""
    from launcher.cgroup.group import Group

    assert isinstance(group, Group)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.close(reader)
        return pid, writer
    try:
        os.setsid()
        os.close(writer)
        os.read(reader, 1)
        _thaw(group)
    finally:
        os._exit(0)


def _thaw(group: object) -> None:
    from launcher.cgroup.group import Group

    assert isinstance(group, Group)
    # It may have ended meanwhile: what is not there is not frozen.
    with contextlib.suppress(LaunchError, OSError):
        group.thaw()


def _write_back(pid: int) -> None:
    """What a process has written through a mapping may still wait in the union's page cache."""
    from launcher.sys import files

    with contextlib.suppress(OSError):
        fd = os.open(b"/proc/%d/root/." % pid, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            files.syncfs(fd)
        finally:
            os.close(fd)
