# SPDX-License-Identifier: GPL-3.0-or-later
"""What is mounted, read from /proc/self/mountinfo (proc_pid_mountinfo(5)).

Nothing here touches a mounted tree, so nothing here can wait for a daemon that does not answer,
and a daemon may ask about its own mount.
"""

from __future__ import annotations

import os

from unionfs.typed import NamedTuple

__all__ = ["Mounted", "located", "mount_over", "mounts", "topmost"]


class Mounted(NamedTuple):
    """One mount of this process's namespace.

    device     -- "MAJOR:MINOR", which no two filesystems mounted at one time share
    root       -- which directory of the filesystem is mounted; not b"/" for bind mounts of a part
    mountpoint -- where
    options    -- of the mount, and those of the filesystem
    """

    device: str
    root: bytes
    mountpoint: bytes
    fstype: str
    source: bytes
    options: tuple[str, ...]

    @property
    def user_id(self) -> int | None:
        """Who mounted it, as FUSE filesystems tell (fuse(4))."""
        for option in self.options:
            if option.startswith("user_id="):
                return int(option[8:])
        return None


def mounts() -> list[Mounted]:
    """Every mount, in mount order: of two on one directory the later covers the earlier."""
    found = []
    with open("/proc/self/mountinfo", "rb") as stream:
        for line in stream:
            fields = line.rstrip(b"\n").split(b" ")
            dash = fields.index(b"-", 6)
            options = b",".join((fields[5], *fields[dash + 3 :]))
            found.append(
                Mounted(
                    os.fsdecode(fields[2]),
                    _unescape(fields[3]),
                    _unescape(fields[4]),
                    os.fsdecode(fields[dash + 1]),
                    _unescape(fields[dash + 2]),
                    tuple(os.fsdecode(options).split(",")),
                )
            )
    return found


def topmost(path: bytes, table: list[Mounted]) -> Mounted | None:
    """The mount that one meets on exactly the absolute `path`."""
    return next((entry for entry in reversed(table) if entry.mountpoint == path), None)


def mount_over(path: bytes, table: list[Mounted]) -> Mounted | None:
    """The mount that the absolute, resolved `path` lies in."""
    while True:
        found = topmost(path, table)
        if found is not None or path == b"/":
            return found
        path = os.path.dirname(path)


def located(path: bytes) -> bytes:
    """The absolute path of `path`, its directory resolved, its last component left untouched.

    The last component may be a mount point whose daemon is gone or does not answer: to look at it
    would fail, or wait for ever.
    """
    directory, name = os.path.split(os.path.join(os.getcwdb(), path).rstrip(b"/"))
    if name in (b"", b".", b".."):
        return os.path.realpath(path)
    return os.path.join(os.path.realpath(directory), name)


def _unescape(field: bytes) -> bytes:
    """Space, tab, newline and backslash are written as octal numbers there."""
    if b"\\" not in field:
        return field
    first, *rest = field.split(b"\\")
    return first + b"".join(bytes([int(piece[:3], 8)]) + piece[3:] for piece in rest)
