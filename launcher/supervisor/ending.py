# SPDX-License-Identifier: GPL-3.0-or-later
"""The last entries of a run: how it ended, and with `--rm` the removal of the container.

Loaded at the end only: SQLite would double what a supervisor holds in memory.
"""

from __future__ import annotations

from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.state import State
from launcher.typed import NamedTuple

__all__ = ["End", "note", "remove"]


class End(NamedTuple):
    """How a run ended; see `state.Row`."""

    when: int
    code: int
    oom: bool = False
    stopped: bool = False
    error: str = ""


def note(paths: Paths, id: str, end: End, *, removing: bool) -> None:
    """Enter the end of a run, or that the container is to be removed now."""
    with State(paths) as state:
        state.finished(id, end.when, end.code, oom=end.oom, stopped=end.stopped, error=end.error)
        if removing:
            state.begin_removal(id)


def remove(paths: Paths, id: str) -> None:
    """Remove a container that does not run: its files, its anonymous volumes, its row."""
    from launcher import containers

    with State(paths) as state:
        try:
            row = state.row(id)
        except LaunchError:
            return  # somebody was faster
    containers.discard(paths, row, volumes=True)
