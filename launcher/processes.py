# SPDX-License-Identifier: GPL-3.0-or-later
"""The processes of a container as the host sees them: which they are, and what /proc says of each.

Fields are those of `ps -f`, and proc(5) is where they come from.
"""

from __future__ import annotations

import os
import time

from launcher.cgroup import hierarchies
from launcher.cgroup.group import Group
from launcher.typed import NamedTuple

__all__ = ["Process", "look", "pids_of"]


class Process(NamedTuple):
    """One process. `started` in ns since the epoch; `busy` in ns of processor time.

    terminal -- the number of its terminal's device, 0 for none
    command  -- its words, or its name in brackets if it has none
    """

    uid: int
    pid: int
    parent: int
    terminal: int
    started: int
    busy: int
    command: str

    @property
    def share(self) -> int:
        """Percent of one processor over its life (`ps`'s C)."""
        age = time.time_ns() - self.started
        return min(self.busy * 100 // age, 99) if age > 0 else 0


def pids_of(id: str, first: int) -> list[int]:
    """All processes of a container; `first` is its first one.

    They are those in its cgroup. Where it has none, as an ordinary user's may have, they are those
    in the pid namespace of the first.
    """
    pids = Group(id, hierarchies.find()).pids()
    return sorted(set(pids)) if pids else _in_namespace_of(first)


def _in_namespace_of(first: int) -> list[int]:
    try:
        wanted = os.readlink(f"/proc/{first}/ns/pid")
        if wanted == os.readlink("/proc/self/ns/pid"):
            return [first]  # the host's: who else is the container's cannot be told
    except OSError:
        return []
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.readlink(f"/proc/{name}/ns/pid") == wanted:
                    found.append(int(name))
            except OSError:
                continue
    return sorted(found)


def look(pid: int) -> Process | None:
    """What there is to say of a process; None if it has ended."""
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read()
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read()
    except OSError:
        return None
    # The name may hold anything, parentheses and newlines too.
    head, _, tail = line.rpartition(b") ")
    name = head.partition(b"(")[2]
    fields = tail.split()
    tick = 10**9 // os.sysconf("SC_CLK_TCK")
    boot = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    command = words.rstrip(b"\0").replace(b"\0", b" ") or b"[" + name + b"]"
    return Process(
        uid,
        pid,
        parent=int(fields[1]),
        terminal=int(fields[4]),
        started=boot + int(fields[19]) * tick,
        busy=(int(fields[11]) + int(fields[12])) * tick,
        command=os.fsdecode(command),
    )
