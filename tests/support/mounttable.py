# SPDX-License-Identifier: GPL-3.0-or-later
"""What is mounted where, read from the kernel without touching the mounted trees."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import NamedTuple


class MountEntry(NamedTuple):
    """One line of /proc/self/mountinfo (proc_pid_mountinfo(5))."""

    mountpoint: bytes
    fstype: str
    source: bytes
    options: frozenset[str]
    super_options: frozenset[str]
    device: tuple[int, int]


def _unescape(field: bytes) -> bytes:
    return re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field)


def mounts() -> list[MountEntry]:
    """Every mount of this process's namespace, in mount order."""
    entries = []
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        left, right = line.split(b" - ", 1)
        _, _, device, _, mountpoint, options, *_ = left.split(b" ")
        fstype, source, super_options = right.split(b" ", 2)
        major, minor = device.split(b":")
        entries.append(
            MountEntry(
                _unescape(mountpoint),
                fstype.decode(),
                _unescape(source),
                frozenset(options.decode().split(",")),
                frozenset(os.fsdecode(super_options).split(",")),
                (int(major), int(minor)),
            )
        )
    return entries


def mount_at(path: str | Path) -> MountEntry | None:
    """The topmost mount on exactly `path`, or None."""
    wanted = os.fsencode(path)
    return next((entry for entry in reversed(mounts()) if entry.mountpoint == wanted), None)


def unmount_all(path: str | Path) -> int:
    """Detach every mount on exactly `path`, dead ones too; how many there were."""
    count = 0
    while mount_at(path) is not None:
        run("umount", "--lazy", str(path))
        count += 1
    return count


def run(*command: str) -> str:
    """Run a command to its end and return what it printed; AssertionError with its complaint."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"{' '.join(command)}: status {done.returncode}: {done.stderr}")
    return done.stdout
