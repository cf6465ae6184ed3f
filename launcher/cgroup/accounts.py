# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cgroup has used, in one form for both versions."""

from __future__ import annotations

from launcher.typed import NamedTuple

__all__ = ["Accounts"]


class Accounts(NamedTuple):
    """None: this machine does not account for it. Times are in ns, sizes in bytes.

    `memory` is without the page cache that could be dropped at once, as `docker stats` counts;
    `memory_limit` None means none is set. `oom_kills` counts killed processes.
    """

    cpu: int | None = None
    cpu_throttled: int | None = None
    memory: int | None = None
    memory_limit: int | None = None
    pids: int | None = None
    pids_limit: int | None = None
    block_read: int | None = None
    block_written: int | None = None
    oom_kills: int = 0

    def merged(self, other: Accounts) -> Accounts:
        """Both: each field from where it is known."""
        fields = (
            mine if mine is not None else theirs for mine, theirs in zip(self, other, strict=True)
        )
        both = Accounts(*fields)  # type: ignore[arg-type]
        return both._replace(oom_kills=self.oom_kills + other.oom_kills)
