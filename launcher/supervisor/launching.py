# SPDX-License-Identifier: GPL-3.0-or-later
"""From a container's record to what is started: `launcher.specify`, as a supervisor uses it.

The union is served by another thread of this process: its root is opened in a way that lets go of
the interpreter's lock (`launcher.sys.mount.openat2`, os.open).
"""

from __future__ import annotations

import os

from launcher import specify, start, steps
from launcher.paths import Paths
from launcher.record import Record
from launcher.spec import Resources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from launcher.supervisor.execs import Wanted
    from launcher.supervisor.life import Life

__all__ = ["enter", "launch", "resources"]


def resources(record: Record) -> Resources:
    """The limits of the container's cgroup."""
    return specify.resources(record)


def launch(
    paths: Paths,
    record: Record,
    merged: bytes,
    stdio: tuple[int, int, int],
    terminal: int,
    size: tuple[int, int],
) -> start.Launch:
    """What `start.begin` takes for the first process; its terminal is `size` rows and columns."""
    root = os.open(merged, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        made = specify.launch(paths, record, root, merged, stdio, terminal)
    finally:
        os.close(root)
    if not record.tty:
        return made
    return made._replace(
        plan=tuple(
            steps.OpenTerminal(*size) if isinstance(step, steps.OpenTerminal) else step
            for step in made.plan
        )
    )


def enter(
    life: Life,
    started: start.Started,
    wanted: Wanted,
    stdio: tuple[int, int, int],
    terminal: int,
) -> start.Launch:
    """What `start.begin` takes for a further process."""
    root = os.open(life.merged, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return specify.enter(
            life.paths,
            life.record,
            root,
            started,
            wanted.args,
            stdio,
            terminal,
            env=wanted.env,
            cwd=wanted.cwd,
            user=wanted.user,
            privileged=wanted.privileged,
        )
    finally:
        os.close(root)
