# SPDX-License-Identifier: GPL-3.0-or-later
"""What a running container uses: one look at its cgroup and its network, and two looks compared."""

from __future__ import annotations

import os
import time

from launcher.cgroup import hierarchies
from launcher.cgroup.accounts import Accounts
from launcher.cgroup.group import Group
from launcher.typed import NamedTuple

__all__ = ["Sample", "Usage", "sample", "usage"]


class Sample(NamedTuple):
    """One look. `when` is monotonic time in ns; bytes in the network's two directions."""

    when: int
    accounts: Accounts
    received: int = 0
    sent: int = 0


class Usage(NamedTuple):
    """None: this machine does not account for it.

    cpu    -- share of one processor over the time between two looks, in percent; 200: two are busy
    memory -- bytes, and the limit, which is the machine's memory where none is set
    """

    cpu: float | None
    memory: int | None
    memory_limit: int
    received: int
    sent: int
    block_read: int
    block_written: int
    pids: int | None

    @property
    def memory_share(self) -> float | None:
        """Percent of the limit."""
        if self.memory is None or not self.memory_limit:
            return None
        return self.memory / self.memory_limit * 100


def sample(id: str, pid: int, mounted: tuple[hierarchies.Mounted, ...] | None = None) -> Sample:
    """Look at a container: its id, and its first process, whose network namespace counts.

    `mounted` is what `hierarchies.find` says, where it has been asked already.
    """
    group = Group(id, hierarchies.find() if mounted is None else mounted)
    received, sent = _network(pid)
    return Sample(time.monotonic_ns(), group.accounts(), received, sent)


def usage(before: Sample, after: Sample) -> Usage:
    """What was used between two looks, and by the later one in all."""
    accounts = after.accounts
    cpu = None
    if accounts.cpu is not None and before.accounts.cpu is not None:
        # A container that was started again between the two has begun to count anew.
        used = max(accounts.cpu - before.accounts.cpu, 0)
        passed = after.when - before.when
        cpu = used / passed * 100 if passed > 0 else 0.0
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = accounts.memory_limit
    return Usage(
        cpu,
        accounts.memory,
        total if limit is None else min(limit, total),
        after.received,
        after.sent,
        accounts.block_read or 0,
        accounts.block_written or 0,
        accounts.pids,
    )


def _network(pid: int) -> tuple[int, int]:
    """Bytes received and sent by a process's network namespace, its loopback apart (proc(5)).

    In the namespace of whoever asks, the host's, nothing is the container's or counted.
    """
    try:
        mine = os.stat("/proc/self/ns/net")
        if not pid or os.path.samestat(os.stat(f"/proc/{pid}/ns/net"), mine):
            return 0, 0
        with open(f"/proc/{pid}/net/dev", "rb") as file:
            lines = file.read().splitlines()[2:]
    except OSError:
        return 0, 0
    received = sent = 0
    for line in lines:
        name, _, rest = line.partition(b":")
        fields = rest.split()
        if name.strip() != b"lo" and len(fields) > 8:
            received += int(fields[0])
            sent += int(fields[8])
    return received, sent
