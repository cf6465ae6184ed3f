# SPDX-License-Identifier: GPL-3.0-or-later
"""Ids for `--userns auto`: a range for each container that no other one of this root has.

They come from what /etc/subuid and /etc/subgid grant to `lamina` or `containers`, else from a
range that Debian and systemd leave unused (UIDS-GIDS of systemd: 1879048192 to 2147483647).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable

from launcher import record
from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.record import Record
from launcher.typed import Final

__all__ = ["assign", "free"]

_SIZE: Final = 65536
_OWNERS: Final = (b"lamina", b"containers")
_UNUSED: Final = (1879048192, 2147483647 - 1879048192)

Range = tuple[int, int]  # first id, how many


def assign(paths: Paths, wanted: Record) -> Record:
    """The record with a range of its own in place of "auto", written to its directory.

    Two at once take turns. Raises LaunchError where no range is left.
    """
    if os.geteuid() != 0:
        reason = "an ordinary user's container has a user namespace already"
        raise LaunchError("use", "--userns auto", reason)
    _, _, text = wanted.userns.partition(":")
    size = int(text) if text else _SIZE
    lock = os.open(paths.root + b"/userns.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        uids, gids = _taken(paths)
        uid = free(_granted(b"/etc/subuid"), uids, size)
        gid = free(_granted(b"/etc/subgid"), gids, size)
        if uid is None or gid is None:
            raise LaunchError("use", "--userns auto", f"no {size} ids in a row are left")
        made = wanted._replace(userns=f"{uid}:{gid}:{size}")
        record.save(paths, made)
    finally:
        os.close(lock)
    return made


def free(granted: Iterable[Range], taken: Iterable[Range], size: int) -> int | None:
    """The first of `size` ids in a row, in what is granted and outside of what is taken."""
    occupied = sorted(taken)
    for first, length in sorted(granted):
        candidate = first
        for start, count in occupied:
            if start < candidate + size and candidate < start + count:
                candidate = start + count
        if candidate + size <= first + length:
            return candidate
    return None


def _taken(paths: Paths) -> tuple[list[Range], list[Range]]:
    uids: list[Range] = []
    gids: list[Range] = []
    for each in os.listdir(paths.containers):
        with contextlib.suppress(LaunchError):
            parts = record.load(paths, os.fsdecode(each)).userns.split(":")
            if len(parts) == 3:
                uids.append((int(parts[0]), int(parts[2])))
                gids.append((int(parts[1]), int(parts[2])))
    return uids, gids


def _granted(path: bytes) -> list[Range]:
    """The ranges of subuid(5) for root's containers."""
    found = []
    with contextlib.suppress(OSError), open(path, "rb") as file:
        for line in file.read().splitlines():
            parts = line.strip().split(b":")
            whole = len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit()
            if whole and parts[0] in _OWNERS:
                found.append((int(parts[1]), int(parts[2])))
    return found or [_UNUSED]
