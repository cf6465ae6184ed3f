# SPDX-License-Identifier: GPL-3.0-or-later
"""What is mounted, as proc_pid_mountinfo(5) says, and waiting for that to change."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

TABLE = "/proc/self/mountinfo"
_ESCAPE = re.compile(rb"\\([0-7]{3})")


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of the table; `options` are those of the mount, then those of the superblock."""

    point: Path
    device: tuple[int, int]
    fstype: str
    source: str
    options: str


def _plain(field: bytes) -> str:
    """Undo the octal escapes of blanks and backslashes."""
    return os.fsdecode(_ESCAPE.sub(lambda match: bytes([int(match[1], 8)]), field))


def _mount(line: bytes) -> Mount:
    before, _, after = line.partition(b" - ")
    fields, rest = before.split(b" "), after.split(b" ")
    major, minor = fields[2].split(b":")
    options = dict.fromkeys((fields[5] + b"," + rest[2]).decode(errors="replace").split(","))
    return Mount(
        point=Path(_plain(fields[4])),
        device=(int(major), int(minor)),
        fstype=_plain(rest[0]),
        source=_plain(rest[1]),
        options=",".join(options),
    )


def mounts() -> list[Mount]:
    """Everything mounted in this namespace, in the order in which it was mounted."""
    with open(TABLE, "rb") as table:
        return [_mount(line) for line in table.read().splitlines()]


def at(point: Path) -> Mount | None:
    """The topmost mount exactly at `point`; the point itself is not touched, so it may be dead."""
    return next((mount for mount in reversed(mounts()) if mount.point == point), None)


def containing(path: Path) -> Mount:
    """The mount that `path` lies on."""
    best = next(mount for mount in mounts() if mount.point == Path("/"))
    for mount in mounts():
        if path.is_relative_to(mount.point) and mount.point.is_relative_to(best.point):
            best = mount
    return best


def below(directory: Path) -> list[Mount]:
    """What is mounted at or below `directory`, last mounted first: the order to unmount in."""
    return [mount for mount in reversed(mounts()) if mount.point.is_relative_to(directory)]


def wait(found: Callable[[], bool], others: list[int], seconds: float) -> bool:
    """Wait until `found`, looking again whenever the mount table changes or one of the descriptors
    `others` becomes readable; False when it has not come true in `seconds`."""
    deadline = monotonic() + seconds
    with open(TABLE, "rb") as table:
        # A change of the table is reported as an exceptional condition.
        poll = select.poll()
        poll.register(table, select.POLLPRI | select.POLLERR)
        for descriptor in others:
            poll.register(descriptor, select.POLLIN)
        while True:
            if found():
                return True
            left = deadline - monotonic()
            if left <= 0:
                return False
            ready = poll.poll(left * 1000)
            if any(descriptor in others for descriptor, _ in ready):
                return found()
