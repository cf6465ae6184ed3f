# SPDX-License-Identifier: GPL-3.0-or-later
"""Listings: the names of a merged directory, each once, without what marks hide.

`scan` reads the parts; `load_names` keeps the result as the directory's name map, from which
lookups in many layers are answered; `Listing` is the snapshot an open directory reads from.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from typing import Final

from unionfs.layer import Part
from unionfs.node import DT_DIRECTORY, Directory, Names
from unionfs.stack import Stack

_DT_REGULAR: Final = stat.S_IFREG >> 12
_DT_SYMLINK: Final = stat.S_IFLNK >> 12
_WHITEOUT: Final = -1


def entries(stack: Stack, part: Part) -> Iterator[tuple[bytes, int]]:
    """Names in one part with their d_type, whiteouts as type -1 under the name they hide."""
    marks = stack.marks
    reserved = marks.wh
    try:
        fd = part.open()
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return
    with os.scandir(b"/proc/self/fd/%d" % fd) as found:
        for entry in found:
            name = entry.name
            if reserved and name.startswith(b".wh."):
                if not name.startswith(b".wh..wh."):
                    yield name[4:], _WHITEOUT
            elif entry.is_dir(follow_symlinks=False):
                yield name, DT_DIRECTORY
            elif entry.is_symlink():
                yield name, _DT_SYMLINK
            elif not part.xwhiteouts and entry.is_file(follow_symlinks=False):
                yield name, _DT_REGULAR
            else:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if marks.is_whiteout(part, name, status):
                    yield name, _WHITEOUT
                else:
                    yield name, status.st_mode >> 12


def scan(
    stack: Stack, directory: Directory, most: int = sys.maxsize
) -> tuple[Names, dict[bytes, int]] | None:
    """The merged name map of a directory, and the d_type of each visible name.

    None as soon as there are more names than ``most``.
    """
    table: Names = {}
    types: dict[bytes, int] = {}
    hidden: set[bytes] = set()
    parts = directory.parts
    depth = len(parts)
    for position, part in enumerate(parts):
        index = position - depth
        whiteouts: set[bytes] = set()
        for name, kind in entries(stack, part):
            if kind == _WHITEOUT:
                whiteouts.add(name)
            elif name in hidden:
                continue
            elif name not in types:
                types[name] = kind
                table[name] = index
                if len(table) > most:
                    return None
            else:
                above = table[name]
                table[name] = (above, index) if isinstance(above, int) else (*above, index)
        hidden |= whiteouts
    return table, types


def load_names(stack: Stack, directory: Directory, most: int = sys.maxsize) -> Names | None:
    """Read the merged name map and keep it; None if it is too large to keep."""
    scanned = scan(stack, directory, most)
    if scanned is not None:
        stack.remember_names(directory, scanned[0])
    return directory.names


def is_empty(stack: Stack, directory: Directory) -> bool:
    """Whether a merged directory shows no name but "." and ".."."""
    if directory.names is None and len(directory.parts) == 1:
        return all(kind == _WHITEOUT for _, kind in entries(stack, directory.parts[0]))
    if directory.names is not None:
        return not directory.names
    scanned = scan(stack, directory, 0)
    return scanned is not None


class Listing:
    """An open directory: a snapshot of its names, so that an offset is simply an index.

    node    -- the directory
    entries -- (name, d_type) with "." and ".." first; d_type is S_IFMT >> 12
    """

    __slots__ = ("_stack", "entries", "node")

    def __init__(self, stack: Stack, node: Directory) -> None:
        self.node = node
        self._stack = stack
        self.entries: list[tuple[bytes, int]] = []
        self.rewind()

    def rewind(self) -> None:
        """Read the directory anew, as rewinddir(3) asks."""
        node, stack = self.node, self._stack
        listed: list[tuple[bytes, int]] = [(b".", DT_DIRECTORY), (b"..", DT_DIRECTORY)]
        if node.gone:
            self.entries = listed
            return
        if stack.descriptors.full:
            stack.descriptors.trim()
        if len(node.parts) == 1:
            listed += [row for row in entries(stack, node.parts[0]) if row[1] != _WHITEOUT]
        else:
            scanned = scan(stack, node)
            assert scanned is not None
            table, types = scanned
            stack.remember_names(node, table)
            listed += types.items()
        self.entries = listed
