# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's side of a try: objects below one root, reached one directory at a time, and the state
they are in.

A parent directory is opened beneath its root without following a symlink and without crossing a
mount (openat2(2)), so that nothing that is renamed, linked or mounted meanwhile leads elsewhere;
everything is then done to one name in it.
"""

from __future__ import annotations

import os
import stat
from hashlib import blake2b

from launcher.sys import files
from launcher.typed import Final, NamedTuple

__all__ = ["Host", "State", "Tree", "look", "look_at_tree", "open_directory", "split"]

_STRICT: Final = files.BENEATH | files.NO_SYMLINKS | files.NO_XDEV
_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Paths beyond PATH_MAX are walked in pieces of at most this many bytes.
_PIECE: Final = 3072


class State(NamedTuple):
    """An object as it was found. Times in nanoseconds; `mode` with its type.

    tree -- digest of all that is below a directory which is to go as a whole, else ""
    """

    mode: int
    ino: int
    uid: int
    gid: int
    size: int
    mtime: int
    ctime: int
    tree: str = ""

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    def same_object(self, other: State | None) -> bool:
        """Whether it is that object still, with the content it had.

        Not the change time: that moves when a name is given or taken. Entries of a directory do
        not count.
        """
        if other is None or (self.ino, stat.S_IFMT(self.mode)) != (
            other.ino,
            stat.S_IFMT(other.mode),
        ):
            return False
        return self.is_directory or (self.size, self.mtime) == (other.size, other.mtime)

    def unchanged(self, other: State | None) -> bool:
        """Whether nothing at all was done to it; for a directory, to itself or to its `tree`."""
        if other is None or not self.same_object(other) or self.tree != other.tree:
            return False
        if self.is_directory:
            return (self.mode, self.uid, self.gid) == (other.mode, other.uid, other.gid)
        return self.ctime == other.ctime


class Tree(NamedTuple):
    """What lies below a directory: a digest of it all, its size in bytes, the latest change."""

    digest: str
    size: int
    latest: int


class Host:
    """A directory of the host's, below which paths (b"/x/y") are meant. Closed by `close`."""

    __slots__ = ("path", "root")

    def __init__(self, path: bytes) -> None:
        self.path = path
        self.root = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def parent(self, path: bytes) -> tuple[int, bytes]:
        """A descriptor of the directory that a path ends in, the caller's, and the last name."""
        above, name = split(path)
        return open_directory(self.root, above), name

    def look(self, path: bytes) -> State | None:
        """The state of an object; None where there is none, or where a parent is missing."""
        try:
            directory, name = self.parent(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            return look(directory, name)
        finally:
            os.close(directory)

    def look_whole(self, path: bytes) -> tuple[State | None, Tree | None]:
        """The state of an object that is to go, with all below it where it is a directory."""
        try:
            directory, name = self.parent(path)
        except (FileNotFoundError, NotADirectoryError):
            return None, None
        try:
            state = look(directory, name)
            if state is None or not state.is_directory:
                return state, None
            tree = look_at_tree(directory, name)
            return state._replace(tree=tree.digest), tree
        finally:
            os.close(directory)

    def close(self) -> None:
        os.close(self.root)


def split(path: bytes) -> tuple[bytes, bytes]:
    """The directory, without slashes at its ends, and the name of a path."""
    above, _, name = path.rpartition(b"/")
    return above.strip(b"/"), name


def open_directory(root: int, path: bytes) -> int:
    """Open a directory beneath `root` (O_PATH): of any length, no symlink, no other mount."""
    if not path:
        return os.open(b".", _DIRECTORY, dir_fd=root)
    fd = -1
    rest = path
    while rest:
        piece, rest = _piece(rest)
        try:
            below = files.openat2(root if fd < 0 else fd, piece, _DIRECTORY, _STRICT)
        finally:
            if fd >= 0:
                os.close(fd)
        fd = below
    return fd


def _piece(path: bytes) -> tuple[bytes, bytes]:
    if len(path) <= _PIECE:
        return path, b""
    cut = path.rindex(b"/", 0, _PIECE)
    return path[:cut], path[cut + 1 :]


def look(directory: int, name: bytes) -> State | None:
    """The state of one name; None if there is none."""
    try:
        found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return State(
        found.st_mode,
        found.st_ino,
        found.st_uid,
        found.st_gid,
        0 if stat.S_ISDIR(found.st_mode) else found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def look_at_tree(directory: int, name: bytes) -> Tree:
    """What lies below the directory `name`, which itself is not part of the digest."""
    digest = blake2b(digest_size=16)
    size = latest = 0
    top = os.open(name, _DIRECTORY, dir_fd=directory)
    try:
        # By path from the top: a descriptor for each level would run out in a deep tree.
        steps = [b""]
        while steps:
            path = steps.pop()
            fd = open_directory(top, path)
            try:
                for each in sorted(os.listdir(b"/proc/self/fd/%d" % fd)):
                    state = look(fd, each)
                    if state is None:
                        continue
                    below = path + b"/" + each if path else each
                    digest.update(b"%d " % len(below) + below)
                    digest.update(
                        b"%o %d %d %d %d %d %d\n"
                        % (
                            state.mode,
                            state.ino,
                            state.uid,
                            state.gid,
                            state.size,
                            0 if state.is_directory else state.mtime,
                            0 if state.is_directory else state.ctime,
                        )
                    )
                    size += state.size
                    latest = max(latest, state.ctime)
                    if state.is_directory:
                        steps.append(below)
            finally:
                os.close(fd)
    finally:
        os.close(top)
    return Tree(digest.hexdigest(), size, latest)
