# SPDX-License-Identifier: GPL-3.0-or-later
"""What is there of a container only while it is started: its lock, its socket, its process.

`RUN/containers/ID/lock` is held (flock(2)) by the supervisor for as long as it lives, so whether a
container is started can be told without asking anybody, after any kind of death, and after a boot.
Beside it `running.json` says what runs, `control` is the supervisor's socket. A directory whose
lock nobody holds is a supervisor's that was killed.
"""

from __future__ import annotations

import fcntl
import os

from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.typed import Final, NamedTuple
from unionfs.light import contextlib, json

__all__ = ["Running", "alive", "claim", "clear", "look", "report"]

# In the order in which they go: without a lock it is nobody's.
_FILES: Final = (
    b"running.json",
    b"running.json.new",
    b"health.json",
    b"health.json.new",
    b"control",
    b"lock",
)
_STATES: Final = ("starting", "running", "paused", "restarting", "stopping")


class Running(NamedTuple):
    """A started container, as its supervisor last said.

    state      -- starting, running, paused, restarting (waits for the next try) or stopping
    pid        -- of the container's first process as the host numbers it; 0 while there is none
    supervisor -- its supervisor's
    started    -- nanoseconds since the epoch
    restarts   -- how often the policy has started it again
    health     -- "", "starting", "healthy" or "unhealthy"
    """

    state: str
    pid: int
    supervisor: int
    started: int
    restarts: int = 0
    health: str = ""


def claim(paths: Paths, id: str) -> int:
    """Become the one supervisor of a container: the lock's descriptor, to be kept open.

    It may be passed on by fork. Raises LaunchError where another one lives.
    """
    directory = paths.runtime(id)
    path = directory + b"/lock"
    while True:
        os.makedirs(directory, 0o700, exist_ok=True)
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:  # the directory has just been cleared
            continue
        try:
            if _lock(fd) and os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        except BlockingIOError:
            os.close(fd)
            raise LaunchError("start container", id[:12], "it is started already") from None
        except FileNotFoundError:
            pass  # the lock of a directory that was cleared meanwhile is nobody's
        os.close(fd)


def _lock(fd: int) -> bool:
    """Take the lock; False if it has to be tried again. BlockingIOError if a supervisor has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        # Who only looks holds it too, shared and for a moment (see `alive`).
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    return True


def alive(paths: Paths, id: str) -> bool:
    """Whether a supervisor holds the lock."""
    try:
        fd = os.open(paths.runtime(id) + b"/lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def report(paths: Paths, id: str, running: Running) -> None:
    """Say what runs; called by the supervisor."""
    path = paths.runtime(id) + b"/running.json"
    fd = os.open(path + b".new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with open(fd, "wb") as file:
        file.write(json.dumps(running._asdict()).encode())
    os.rename(path + b".new", path)


def look(paths: Paths, id: str) -> Running | None:
    """What runs of a container, or None if it is not started."""
    if not alive(paths, id):
        return None
    try:
        with open(paths.runtime(id) + b"/running.json", "rb") as file:
            return Running(**json.loads(file.read()))
    except (FileNotFoundError, ValueError, TypeError):
        return Running("starting", 0, 0, 0)


def clear(paths: Paths, id: str) -> None:
    """Remove the directory; called by the supervisor at its end, or by who finds it dead."""
    directory = paths.runtime(id)
    for name in _FILES:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(directory + b"/" + name)
    with contextlib.suppress(FileNotFoundError):
        os.rmdir(directory)
