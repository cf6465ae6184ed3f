# SPDX-License-Identifier: GPL-3.0-or-later
"""An ordinary user as root of a user namespace: how a try serves unions without privilege.

The caller's own ids keep their numbers, so that the command is who its user is; root in there is a
subordinate id (subuid(5)). Without any, the caller's ids are all there are, and stand for root.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

import prctl

from launcher import idmap
from launcher.errors import LaunchError
from launcher.spec import IdMapping
from launcher.sys import process

__all__ = ["become_root", "hand_over", "maps_of_caller", "within"]


def maps_of_caller() -> idmap.IdMaps:
    """The maps of such a namespace."""
    widest = idmap.of_caller()
    if len(widest.uid) < 2 or len(widest.gid) < 2:
        return idmap.IdMaps(widest.uid[:1], widest.gid[:1])
    uid, gid = os.getuid(), os.getgid()
    return idmap.IdMaps(
        (IdMapping(0, widest.uid[1].host_id, 1), IdMapping(uid, uid, 1)),
        (IdMapping(0, widest.gid[1].host_id, 1), IdMapping(gid, gid, 1)),
    )


def become_root(mapping: tuple[int, int]) -> None:
    """Enter a new namespace and take its root's ids; whoever made this process maps them.

    `mapping`: one byte is written to the first descriptor when there is something to map, and one
    is read from the second when it is done. The process ends if none comes.
    """
    process.unshare(process.CLONE_NEWUSER)
    prctl.set_dumpable(1)  # or /proc/PID/uid_map would not be the caller's to write
    os.write(mapping[0], b"u")
    if os.read(mapping[1], 1) != b"m":
        os._exit(1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # Which clears what was set before (prctl(2)).
    prctl.set_pdeathsig(signal.SIGKILL)


def within(action: Callable[[], None]) -> None:
    """Do something in a child that is root of such a namespace. Raises LaunchError if it fails."""
    maps = maps_of_caller()
    wants, has = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(wants[0])
            os.close(has[1])
            become_root((wants[1], has[0]))
            action()
            status = 0
        finally:
            os._exit(status)
    os.close(wants[1])
    os.close(has[0])
    try:
        if os.read(wants[0], 1):
            idmap.write(child, maps)
            os.write(has[1], b"m")
    finally:
        os.close(wants[0])
        os.close(has[1])
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended != 0:
        raise LaunchError("act as root of a user namespace", b"", "it was refused")


def hand_over(directory: bytes, caller: tuple[int, int]) -> None:
    """Give what lies in a directory to the caller; for root of the namespace."""
    for above, inner, files in os.walk(directory):
        for name in [*inner, *files]:
            try:
                os.chown(above + b"/" + name, *caller, follow_symlinks=False)
            except OSError:
                continue  # of an id that is not mapped, or where there is only the one
