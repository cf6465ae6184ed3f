# SPDX-License-Identifier: GPL-3.0-or-later
"""What nobody needs any more: containers that have ended, and what crashes left behind.

Each function removes and says what it removed and how many bytes that freed; what cannot be
removed is passed to `complain` and stays.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from launcher import containers, runtime, volumes
from launcher.diskuse import content_size
from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.state import Entry, State
from launcher.typed import NamedTuple

__all__ = ["Pruned", "prune_containers", "prune_orphans", "prune_volumes"]

Complain = Callable[[LaunchError], None]


class Pruned(NamedTuple):
    """What went: ids or names, and bytes."""

    names: tuple[str, ...] = ()
    size: int = 0


def prune_containers(paths: Paths, fits: Callable[[Entry], bool], complain: Complain) -> Pruned:
    """Remove the containers that do not run and that `fits` lets go, with their volumes kept."""
    with State(paths) as state:
        entries = [each for each in state.all() if each.running is None and fits(each)]
    gone, size = [], 0
    for entry in entries:
        freed = content_size(paths.container(entry.row.id) + b"/upper")
        try:
            containers.remove(paths, entry)
        except LaunchError as error:
            complain(error)
            continue
        gone.append(entry.row.id)
        size += freed
    return Pruned(tuple(gone), size)


def prune_orphans(paths: Paths, complain: Complain) -> Pruned:
    """Remove directories of containers that were never entered, or whose row is gone; and the
    runtime directories of containers that there are not.
    """
    gone, size = [], 0
    for id in containers.orphans(paths):
        freed = content_size(paths.container(id))
        try:
            containers.erase(paths, id)
        except OSError as error:
            complain(LaunchError("remove", paths.container(id), error))
            continue
        gone.append(id)
        size += freed
    with State(paths) as state:
        known = {entry.row.id for entry in state.all()}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(paths.run + b"/containers"):
            id = os.fsdecode(name)
            if id not in known and not runtime.alive(paths, id):
                with contextlib.suppress(OSError):
                    runtime.clear(paths, id)
    return Pruned(tuple(gone), size)


def prune_volumes(
    paths: Paths, fits: Callable[[volumes.Volume], bool], complain: Complain
) -> Pruned:
    """Remove the volumes that no container uses and that `fits` lets go."""
    used = volumes.users(paths)
    gone, size = [], 0
    for each in volumes.every(paths):
        if each.name in used or not fits(each):
            continue
        freed = content_size(volumes.data(paths, each.name))
        try:
            volumes.remove(paths, each.name)
        except LaunchError as error:
            complain(error)
            continue
        gone.append(each.name)
        size += freed
    return Pruned(tuple(gone), size)
