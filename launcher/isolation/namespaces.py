# SPDX-License-Identifier: GPL-3.0-or-later
"""Namespaces by their names in the OCI runtime specification."""

from __future__ import annotations

from launcher.sys import process
from launcher.typed import Final

__all__ = ["FILES", "FLAGS"]

FLAGS: Final = {
    "user": process.CLONE_NEWUSER,
    "pid": process.CLONE_NEWPID,
    "mount": process.CLONE_NEWNS,
    "network": process.CLONE_NEWNET,
    "uts": process.CLONE_NEWUTS,
    "ipc": process.CLONE_NEWIPC,
    "cgroup": process.CLONE_NEWCGROUP,
    "time": process.CLONE_NEWTIME,
}

# Their files in /proc/PID/ns.
FILES: Final = {
    "user": "user",
    "pid": "pid",
    "mount": "mnt",
    "network": "net",
    "uts": "uts",
    "ipc": "ipc",
    "cgroup": "cgroup",
    "time": "time",
}
