# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether two trees are equal, file by file."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

Tree = dict[str, tuple[object, ...]]


def read(root: Path) -> Tree:
    """All below a directory, by path: type, mode, owner, time, device, xattrs, names and content.

    The top itself is left out: a container's is its own, and podman makes it read-only.
    """
    tree: Tree = {}
    links: dict[tuple[int, int], list[str]] = {}
    paths = sorted(root.rglob("*"))
    for path in paths:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            links.setdefault((found.st_dev, found.st_ino), []).append(_name(root, path))
    for path in paths:
        found = path.lstat()
        names = links.get((found.st_dev, found.st_ino), [])
        tree[_name(root, path)] = (
            found.st_mode,
            found.st_uid,
            found.st_gid,
            found.st_mtime_ns,
            found.st_rdev,
            _xattrs(path),
            tuple(sorted(names)),
            _content(path, found),
        )
    return tree


def to_the_second(tree: Tree) -> Tree:
    """The same tree with the times of a tool that writes whole seconds, the nearest."""
    return {
        name: (*each[:3], (int(str(each[3])) + 500_000_000) // 1_000_000_000, *each[4:])
        for name, each in tree.items()
    }


def differences(one: Tree, other: Tree) -> list[str]:
    """A line for each path that is not the same in both."""
    fields = ("mode", "owner", "group", "time", "device", "xattrs", "names", "content")
    lines: list[str] = []
    for name in sorted({*one, *other}):
        if name not in one or name not in other:
            lines.append(f"{name!a}: only in the {'first' if name in one else 'second'}")
        elif one[name] != other[name]:
            wrong = [
                f"{field} {here!a} → {there!a}"
                for field, here, there in zip(fields, one[name], other[name], strict=True)
                if here != there
            ]
            lines.append(f"{name!a}: {', '.join(wrong)}")
    return lines


def _name(root: Path, path: Path) -> str:
    return os.path.relpath(path, root)


def _xattrs(path: Path) -> tuple[tuple[str, bytes], ...]:
    names = os.listxattr(path, follow_symlinks=False)
    return tuple(sorted((name, os.getxattr(path, name, follow_symlinks=False)) for name in names))


def _content(path: Path, found: os.stat_result) -> object:
    if stat.S_ISLNK(found.st_mode):
        return os.readlink(path)
    if not stat.S_ISREG(found.st_mode):
        return None
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return found.st_size, digest.hexdigest()
