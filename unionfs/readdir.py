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

from unionfs.layer import Part
from unionfs.node import DT_DIRECTORY, Directory, Names
from unionfs.origin import public_ino
from unionfs.stack import Stack
from unionfs.typed import Final, Iterator, NamedTuple

_DT_REGULAR: Final = stat.S_IFREG >> 12
_DT_SYMLINK: Final = stat.S_IFLNK >> 12
_WHITEOUT: Final = -1


def entries(stack: Stack, part: Part) -> Iterator[tuple[bytes, int, int]]:
    """Names in one part with d_type and d_ino; a whiteout as type -1 under the name it hides."""
    marks = stack.marks
    reserved = marks.wh
    plain = not part.xwhiteouts
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
                    yield name[4:], _WHITEOUT, 0
            elif entry.is_symlink():
                yield name, _DT_SYMLINK, entry.inode()
            # Not a symlink, so none is followed; to say so would cost a call twice the time.
            elif plain and entry.is_file():
                yield name, _DT_REGULAR, entry.inode()
            elif entry.is_dir():
                yield name, DT_DIRECTORY, entry.inode()
            else:
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if marks.is_whiteout(part, name, status):
                    yield name, _WHITEOUT, 0
                else:
                    yield name, status.st_mode >> 12, entry.inode()


class Scanned(NamedTuple):
    """What a merged directory holds.

    names   -- its name map
    types   -- name → d_type, in the order of the listing
    numbers -- name → public number, for the names that can be told without looking them up
    """

    names: Names
    types: dict[bytes, int]
    numbers: dict[bytes, int]


def scan(stack: Stack, directory: Directory, most: int = sys.maxsize) -> Scanned | None:
    """Read a merged directory; None as soon as there are more names than ``most``."""
    parts = directory.parts
    depth = len(parts)
    if depth == 1 and most == sys.maxsize:
        return _scan_alone(stack, directory, parts[0])
    table: Names = {}
    numbers: dict[bytes, int] = {}
    types: dict[bytes, int] = {}
    hidden: set[bytes] = set()
    for position, part in enumerate(parts):
        index = position - depth
        whiteouts: set[bytes] = set()
        filesystem = part.layer.filesystem
        # An upper object may show the number of what it was copied from. Where that is so the
        # directory says it is impure; a directory that goes on below always does.
        uncertain = part.layer.index == 0 and directory.impure
        private = part.layer.private
        plain = filesystem == 0
        for name, kind, real in entries(stack, part):
            if kind == _WHITEOUT:
                whiteouts.add(name)
            elif name in hidden:
                continue
            elif name not in types:
                types[name] = kind
                table[name] = index
                if not (uncertain or (kind == DT_DIRECTORY and not private)):
                    numbers[name] = real if plain else public_ino(filesystem, real)
                if len(table) > most:
                    return None
            else:
                above = table[name]
                if isinstance(above, int) and above + depth == 0 and directory.upper is not None:
                    numbers.pop(name, None)
                table[name] = (above, index) if isinstance(above, int) else (*above, index)
        hidden |= whiteouts
    return Scanned(table, types, numbers)


def _scan_alone(stack: Stack, directory: Directory, part: Part) -> Scanned:
    """`scan` where there is nothing to merge, which is most directories."""
    rows, numbers = _rows_alone(stack, directory, part)
    types = dict(rows)
    return Scanned(dict.fromkeys(types, -1), types, numbers)


def _rows_alone(
    stack: Stack, directory: Directory, part: Part
) -> tuple[list[tuple[bytes, int]], dict[bytes, int]]:
    """Names with their types, and their numbers, of a directory with nothing to merge."""
    filesystem = part.layer.filesystem
    if stack.marks.wh or part.xwhiteouts:
        listed = [found for found in entries(stack, part) if found[1] != _WHITEOUT]
    else:
        listed = _unmarked(stack, part)
    # See `scan` for which numbers are certain.
    if part.layer.index == 0 and directory.impure:
        numbers = {}
    elif filesystem == 0 and part.layer.private:
        numbers = {name: real for name, _, real in listed}
    else:
        private = part.layer.private
        numbers = {
            name: public_ino(filesystem, real)
            for name, kind, real in listed
            if private or kind != DT_DIRECTORY
        }
    return [(name, kind) for name, kind, _ in listed], numbers


def _unmarked(stack: Stack, part: Part) -> list[tuple[bytes, int, int]]:
    """`entries` of a part where only devices can be whiteouts, without them: at twice the speed."""
    try:
        fd = part.open()
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        return []
    listed: list[tuple[bytes, int, int]] = []
    add = listed.append
    with os.scandir(b"/proc/self/fd/%d" % fd) as found:
        for entry in found:
            if not entry.is_symlink():
                # Nothing is followed here; to say so would cost a call twice the time.
                if entry.is_file():
                    add((entry.name, _DT_REGULAR, entry.inode()))
                    continue
                if entry.is_dir():
                    add((entry.name, DT_DIRECTORY, entry.inode()))
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if not stack.marks.is_whiteout(part, entry.name, status):
                    add((entry.name, status.st_mode >> 12, entry.inode()))
            else:
                add((entry.name, _DT_SYMLINK, entry.inode()))
    return listed


def load_names(stack: Stack, directory: Directory, most: int = sys.maxsize) -> Names | None:
    """Read the merged name map and keep it; None if it is too large to keep."""
    scanned = scan(stack, directory, most)
    if scanned is not None:
        stack.remember_names(directory, scanned.names)
    return directory.names


def is_empty(stack: Stack, directory: Directory) -> bool:
    """Whether a merged directory shows no name but "." and ".."."""
    if directory.names is None and len(directory.parts) == 1:
        return all(kind == _WHITEOUT for _, kind, _ in entries(stack, directory.parts[0]))
    if directory.names is not None:
        return not directory.names
    scanned = scan(stack, directory, 0)
    return scanned is not None


class Listing:
    """An open directory: a snapshot of its names, so that an offset is simply an index.

    node    -- the directory
    entries -- (name, d_type) with "." and ".." first; d_type is S_IFMT >> 12
    numbers -- name → st_ino, for the names whose number is known without looking them up
    """

    __slots__ = ("_stack", "entries", "node", "numbers")

    def __init__(self, stack: Stack, node: Directory) -> None:
        self.node = node
        self._stack = stack
        self.entries: list[tuple[bytes, int]] = []
        self.numbers: dict[bytes, int] = {}
        self.rewind()

    def rewind(self) -> None:
        """Read the directory anew, as rewinddir(3) asks."""
        node, stack = self.node, self._stack
        listed: list[tuple[bytes, int]] = [(b".", DT_DIRECTORY), (b"..", DT_DIRECTORY)]
        self.entries, self.numbers = listed, {}
        if node.gone:
            return
        if stack.descriptors.full:
            stack.descriptors.trim()
        if len(node.parts) == 1:
            rows, self.numbers = _rows_alone(stack, node, node.parts[0])
            listed += rows
            return
        scanned = scan(stack, node)
        assert scanned is not None
        stack.remember_names(node, scanned.names)
        listed += scanned.types.items()
        self.numbers = scanned.numbers
