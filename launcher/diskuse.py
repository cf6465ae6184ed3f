# SPDX-License-Identifier: GPL-3.0-or-later
"""How much there is in a directory tree, or in a layer."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable

from launcher import database
from launcher.image import catalog
from launcher.paths import Paths

__all__ = ["content_size", "layer_sizes"]


def layer_sizes(paths: Paths, layers: Iterable[str]) -> dict[str, int]:
    """The bytes in the files of lower layers, by the directories that they are."""
    db = database.connect(paths)
    try:
        return {each: _layer_size(db, paths, os.fsencode(each)) for each in set(layers)}
    finally:
        db.close()


def _layer_size(db: sqlite3.Connection, paths: Paths, layer: bytes) -> int:
    if layer == b"/":
        # The machine's own: what its filesystem has in use, since counting takes minutes.
        whole = os.statvfs(layer)
        return (whole.f_blocks - whole.f_bfree) * whole.f_frsize
    above, _, tree = layer.rpartition(b"/")
    known = None
    if above.startswith(paths.root + b"/"):
        known = catalog.known_layer(db, os.fsdecode(tree))
    return content_size(layer) if known is None else known.size


def content_size(path: bytes) -> int:
    """The bytes in the files of a tree, each file once whatever its names; as docker counts.

    Other filesystems that are mounted in it are no part of it. What cannot be read counts as
    nothing: the tree may change meanwhile.
    """
    total = 0
    seen: set[tuple[int, int]] = set()
    ahead = [path]
    try:
        device = os.lstat(path).st_dev
    except OSError:
        return 0
    while ahead:
        try:
            with os.scandir(ahead.pop()) as entries:
                for entry in entries:
                    stat = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        if stat.st_dev == device:
                            ahead.append(entry.path)
                        continue
                    if stat.st_nlink > 1:
                        if (stat.st_dev, stat.st_ino) in seen:
                            continue
                        seen.add((stat.st_dev, stat.st_ino))
                    total += stat.st_size
        except OSError:
            continue
    return total
