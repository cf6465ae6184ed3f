# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's mounts that a supervisor's namespace holds copies of, and which it lets go.

A copy of a shared mount goes when the host takes its own down (mount_namespaces(7)). One of a
private mount stays: a union that somebody mounted by hand would be served, and its upper be in use,
until the last container that was started meanwhile has ended.
"""

from __future__ import annotations

from launcher.sys import mount
from unionfs.light import contextlib

__all__ = ["let_go"]


def let_go(keep: tuple[bytes, ...]) -> None:
    """Detach this namespace's private copies of FUSE mounts, but those that `keep` lies on.

    keep -- absolute paths that the container needs of the host
    """
    with open("/proc/self/mountinfo", "rb") as file:
        table = file.read()
    for line in reversed(table.splitlines()):
        # proc_pid_mountinfo(5): a dash ends the optional fields; the mount point has octal escapes.
        head, _, tail = line.partition(b" - ")
        fields = head.split()
        point, propagation = fields[4], fields[6:]
        kind = tail.partition(b" ")[0].partition(b".")[0]
        if kind not in (b"fuse", b"fuseblk") or b"\\" in point:
            continue
        if any(each.startswith((b"master:", b"shared:")) for each in propagation):
            continue
        if any(path == point or path.startswith(point + b"/") for path in keep):
            continue
        with contextlib.suppress(OSError):  # below a mount that has gone already, or locked
            mount.umount(point, mount.MNT_DETACH)
