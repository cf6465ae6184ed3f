# SPDX-License-Identifier: GPL-3.0-or-later
"""How much there is in a directory tree."""

from __future__ import annotations

import os

__all__ = ["content_size"]


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
