# SPDX-License-Identifier: GPL-3.0-or-later
"""What a container has changed of its image, told as docker tells it.

Docker knows no renames: what was renamed is deleted under its old name, and added, with all that is
in it, under its new one. And a directory in which anything was changed is changed itself.
"""

from __future__ import annotations

import os

from launcher import rootunion
from launcher.paths import Paths
from launcher.record import Record
from launcher.typed import TYPE_CHECKING, Final, NamedTuple
from unionfs import Flattened, UnionError, diff

if TYPE_CHECKING:
    from unionfs import Change, MountConfig

__all__ = ["Changed", "changes"]

# What a start makes where an image has nothing to mount on.
_MOUNTED_ON: Final = frozenset(
    (b"/dev", b"/proc", b"/sys", b"/etc/hostname", b"/etc/hosts", b"/etc/resolv.conf")
)
# How often to read a container that is changing meanwhile.
_ATTEMPTS: Final = 20


class Changed(NamedTuple):
    """One line: `kind` is A, C or D; `path` begins with a slash."""

    kind: str
    path: bytes


def changes(paths: Paths, record: Record) -> list[Changed]:
    """The changes of a container, running or not, ordered by path. Raises UnionError.

    One that runs may rename or remove what is just being read; then all is read anew.
    """
    union = rootunion.union(paths, record)
    for _ in range(_ATTEMPTS - 1):
        try:
            return _changes(union)
        except (OSError, UnionError) as error:
            cause = error.__cause__ if isinstance(error, UnionError) else error
            if not isinstance(cause, (FileNotFoundError, NotADirectoryError)):
                raise
    return _changes(union)


def _changes(union: MountConfig) -> list[Changed]:
    assert union.upper is not None
    found = diff(union.upper, union.lower, userxattr=union.userxattr, work=union.work, detail=False)
    told: dict[bytes, str] = {}
    moved: list[bytes] = []
    for change in found:
        if change.kind == "R":
            assert change.source is not None
            told.setdefault(change.source, "D")
            told[change.path] = "A"
            if change.type == "directory":
                moved.append(change.path)
        elif change.kind == "D":
            told.setdefault(change.path, "D")
        elif not _is_place_of_mount(union.upper, change):
            told[change.path] = change.kind
    if moved:
        told.update(_moved(union, moved))
    for path in list(told):
        above = path.rpartition(b"/")[0]
        while above and above not in told:
            told[above] = "C"
            above = above.rpartition(b"/")[0]
    return [Changed(told[path], path) for path in sorted(told) if path]


def _is_place_of_mount(upper: bytes, change: Change) -> bool:
    if change.kind != "A":
        return False
    path = upper + change.path
    if change.path == b"/etc":
        return all(b"/etc/" + os.fsencode(name) in _MOUNTED_ON for name in os.listdir(path))
    if change.path not in _MOUNTED_ON:
        return False
    return not os.listdir(path) if change.type == "directory" else not os.stat(path).st_size


def _moved(union: MountConfig, places: list[bytes]) -> dict[bytes, str]:
    """All that is in renamed directories."""
    inside = tuple(place[1:] + b"/" for place in places)
    assert union.upper is not None
    told: dict[bytes, str] = {}
    with Flattened(
        (union.upper,), union.lower, userxattr=union.userxattr, work=union.work
    ) as flattened:
        for item in flattened:
            if not item.mark and item.path.startswith(inside):
                told[b"/" + item.path] = "A"
    return told
