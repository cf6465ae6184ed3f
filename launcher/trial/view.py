# SPDX-License-Identifier: GPL-3.0-or-later
"""The tree that the command saw, read without a mount: where what is applied comes from."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import unionfs
from launcher.trial.record import Trial

__all__ = ["View", "opened"]


class View:
    """One union of a try, read by paths (b"/x/y"). Made by `opened`."""

    __slots__ = ("_links", "_upper", "union")

    def __init__(self, union: unionfs.Union, upper: bytes) -> None:
        self.union = union
        self._upper = upper
        self._links: dict[int, list[bytes]] | None = None

    def find(self, path: bytes) -> tuple[unionfs.Node, unionfs.Stat] | None:
        """The object at a path; None if there is none. Raises OSError."""
        node = self.union.root
        status = None
        for name in path.strip(b"/").split(b"/"):
            if not node.is_dir:
                return None
            met = self.union.lookup(node, name)
            if met is None:
                return None
            node, status = met
        return None if status is None else (node, status)

    def need(self, path: bytes) -> tuple[unionfs.Node, unionfs.Stat]:
        """The object at a path. Raises FileNotFoundError if there is none."""
        found = self.find(path)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return found

    @contextmanager
    def content(self, node: unionfs.Node) -> Iterator[int]:
        """A descriptor of a file's content, for as long as the block lasts."""
        file = self.union.open(node, os.O_RDONLY)
        try:
            yield file.fd
        finally:
            self.union.release(file)

    def names_in_upper(self, path: bytes) -> list[bytes]:
        """All paths under which the upper layer holds the file that it has at `path`."""
        try:
            number = os.lstat(self._upper + path).st_ino
        except OSError:
            return []
        if self._links is None:
            self._links = dict(_links(self._upper))
        return self._links.get(number, [])


def _links(top: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """By inode: the names of files with several of them, in a tree of one's own."""
    found: dict[int, list[bytes]] = {}
    steps = [b""]
    while steps:
        path = steps.pop()
        with os.scandir(top + path) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    steps.append(path + b"/" + entry.name)
                elif not entry.is_symlink():
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink > 1:
                        found.setdefault(status.st_ino, []).append(path + b"/" + entry.name)
    yield from found.items()


@contextmanager
def opened(trial: Trial, place: int) -> Iterator[View]:
    """The view of one union of a try. Raises UnionError."""
    # Two lower layers: an upper layer may not lie within a lower one, as it does in a home.
    config = unionfs.MountConfig(
        lower=(trial.upper(place), trial.places[place].lower), userxattr=trial.userxattr
    )
    # A union takes the umask of its process.
    mask = os.umask(0)
    try:
        union = unionfs.Union(config)
    finally:
        os.umask(mask)
    try:
        yield View(union, trial.upper(place))
    finally:
        union.close()
