# SPDX-License-Identifier: GPL-3.0-or-later
"""The namespaces a supervisor lives in: mounts of its own, and for an ordinary user ids too.

What is mounted there is seen by the container alone and ends with its last process, however that
comes about. For an ordinary user it is a user namespace besides, in which the user is root and has
the subordinate ids (subuid(5)): there a union can be mounted and its files belong to whom they
should. The maps are written from outside (`launcher.idmap`).
"""

from __future__ import annotations

import os

from launcher.errors import LaunchError
from launcher.sys import mount, process

__all__ = ["become", "become_root", "enter", "needed"]


def needed() -> bool:
    """Whether this process needs a user namespace to make containers."""
    return os.geteuid() != 0


def enter(*, users: bool) -> None:
    """Leave the caller's mount namespace for a copy that hears of its mounts but tells none.

    `users`: a new user namespace too, whose ids are still to be mapped.
    """
    process.unshare(process.CLONE_NEWNS | (process.CLONE_NEWUSER if users else 0))
    mount.mount_setattr(mount.AT_FDCWD, b"/", recursive=True, propagation=mount.MS_SLAVE)


def become_root() -> None:
    """Once the ids are mapped: become root of the user namespace."""
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def become() -> None:
    """Of an ordinary user's process: become root where the user's containers have their ids.

    For commands that read or write files which may belong to subordinate ids. The process must not
    have threads. Raises LaunchError.
    """
    from launcher import idmap

    entered, say = os.pipe2(os.O_CLOEXEC)
    # The maps have to be written by somebody who stays outside.
    mapper = os.fork()
    if mapper == 0:
        code = 1
        try:
            os.close(say)
            if os.read(entered, 1):
                idmap.write(os.getppid(), idmap.of_caller())
                code = 0
        finally:
            os._exit(code)
    os.close(entered)
    try:
        enter(users=True)
        os.write(say, b"e")
    except OSError as error:
        raise LaunchError("make", "a user namespace", error) from error
    finally:
        os.close(say)
        _, status = os.waitpid(mapper, 0)
    if status != 0:
        raise LaunchError("map", "the users of containers", "it was refused (see newuidmap(1))")
    become_root()
