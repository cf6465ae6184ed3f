# SPDX-License-Identifier: GPL-3.0-or-later
"""All that can be seen of a tree without changing it, for comparison."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple


class Face(NamedTuple):
    """All that is compared of one object."""

    ino: int
    mode: int
    nlink: int
    owner: tuple[int, int]
    rdev: int
    size: int
    mtime_ns: int
    content: bytes
    xattrs: tuple[tuple[str, bytes], ...]


def faces(root: Path) -> dict[str, Face]:
    """Every object below `root` by its path; directories without link count and size."""
    found = {}
    for base, directories, files in os.walk(root, onerror=_refuse):
        for name in [*directories, *files]:
            path = os.path.join(base, name)
            seen = os.lstat(path)
            kind = stat.S_IFMT(seen.st_mode)
            data = b""
            if kind == stat.S_IFREG:
                data = Path(path).read_bytes()
            elif kind == stat.S_IFLNK:
                data = os.fsencode(os.readlink(path))
            is_directory = kind == stat.S_IFDIR
            xattrs = sorted(os.listxattr(path, follow_symlinks=False))
            found[os.path.relpath(path, root)] = Face(
                seen.st_ino,
                seen.st_mode,
                0 if is_directory else seen.st_nlink,
                (seen.st_uid, seen.st_gid),
                seen.st_rdev,
                0 if is_directory else seen.st_size,
                seen.st_mtime_ns,
                data,
                tuple((key, os.getxattr(path, key, follow_symlinks=False)) for key in xattrs),
            )
    return found


def _refuse(error: OSError) -> None:
    raise error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:60]}… ({len(text)} characters)"


def differences(one: dict[str, Face], two: dict[str, Face]) -> list[str]:
    """One line for each thing that is not the same in both."""
    found = [f"{name}: only on one side" for name in sorted(one.keys() ^ two.keys())]
    for name in sorted(one.keys() & two.keys()):
        for field, left, right in zip(Face._fields, one[name], two[name], strict=True):
            if left != right:
                found.append(f"{name}: {field} {_short(left)}, then {_short(right)}")
    return found
