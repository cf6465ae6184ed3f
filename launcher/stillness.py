# SPDX-License-Identifier: GPL-3.0-or-later
"""A container that stands still for as long as its files are read.

Its supervisor freezes its processes, as for `pause`, and lets them go on when the connection ends:
also if this process is killed.
"""

from __future__ import annotations

import os

from launcher import control, runtime
from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.state import Entry
from launcher.typed import Iterator
from unionfs.light import contextlib

__all__ = ["still"]


@contextlib.contextmanager
def still(paths: Paths, entry: Entry) -> Iterator[str]:
    """Have the processes of a container that runs stand still; what they wrote is then in its
    upper. Gives "", or why they could not be frozen (an ordinary user's may have no cgroup).
    """
    running = entry.running
    if running is None or not running.pid:
        yield ""
        return
    with contextlib.ExitStack() as ends:
        why = ""
        try:
            connection = ends.enter_context(control.connect(paths, entry.row.id))
            connection.request("hold")
        except LaunchError as error:
            # One that has ended meanwhile is still by itself.
            why = str(error.reason) if runtime.alive(paths, entry.row.id) else ""
        _write_back(running.pid)
        yield why


def _write_back(pid: int) -> None:
    """What a process has written through a mapping may still wait in the union's page cache."""
    from launcher.sys import files

    with contextlib.suppress(OSError):
        fd = os.open(b"/proc/%d/root/." % pid, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            files.syncfs(fd)
        finally:
            os.close(fd)
