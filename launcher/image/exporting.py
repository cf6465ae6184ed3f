# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina export`: all that a container's root filesystem holds, as one plain archive."""

from __future__ import annotations

import os
from collections.abc import Callable

from launcher import record as records
from launcher import rootunion
from launcher.errors import LaunchError
from launcher.image import flat
from launcher.image.tar import Damaged
from launcher.image.tarwrite import Writer
from launcher.paths import Paths
from launcher.state import Entry
from unionfs import Flattened, UnionError

__all__ = ["export"]


def export(
    paths: Paths, entry: Entry, target: int, watch: Callable[[int, int], None] | None = None
) -> tuple[str, ...]:
    """Write the merged tree of a container, whether it runs or not, to a descriptor.

    Mounts and volumes are no part of it. Returns what was left out. Raises LaunchError, OSError of
    the target.
    """
    union = rootunion.union(paths, records.load(paths, entry.row.id))
    assert union.upper is not None
    total = 0

    def write(data: bytes) -> None:
        nonlocal total
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(target, rest) :]
        total += len(data)
        if watch is not None:
            watch(total, 0)

    try:
        with Flattened(
            (union.upper,), union.lower, userxattr=union.userxattr, work=union.work, alone=True
        ) as flattened:
            writer = Writer(write)
            notes = flat.write(flattened, writer).notes
            writer.close()
    except (Damaged, UnionError) as error:
        raise LaunchError("export", entry.row.name, str(error)) from error
    return notes
