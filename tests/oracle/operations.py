# SPDX-License-Identifier: GPL-3.0-or-later
"""The vocabulary: one frozen value per file operation, printed as the Python that makes it.

An operation knows which verb of a target it is, and which objects it touches, so that their
attributes can be compared right after it. Steps (remounting and the like) concern the trial as a
whole and are in `steps`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from tests.oracle.targets import Target, Where
from tests.oracle.values import Bytes, Octal, OpenFlags, Time

__all__ = [
    "Allocate",
    "Chmod",
    "Chown",
    "Close",
    "Fsync",
    "Getxattr",
    "Link",
    "List",
    "Mkdir",
    "Mknod",
    "Open",
    "Operation",
    "Read",
    "ReadAt",
    "Readlink",
    "Removexattr",
    "Rename",
    "Rmdir",
    "Save",
    "Seek",
    "Setxattr",
    "Stat",
    "Symlink",
    "Truncate",
    "Unlink",
    "Utimens",
    "WriteAt",
]


_MODE = Octal(0o644)
_SAVING = OpenFlags(os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
_DIRECTORY_MODE = Octal(0o755)


@runtime_checkable
class Operation(Protocol):
    """What a history consists of."""

    def apply(self, on: Target) -> object:
        """Perform it; the value to compare, or OSError."""

    def touched(self) -> tuple[Where, ...]:
        """Paths and descriptors whose attributes it may have changed."""


def parent(path: bytes) -> bytes:
    return os.path.dirname(path) or b"."


@dataclass(frozen=True)
class Open:
    """open(2); on success the descriptor is known by its slot."""

    slot: int
    path: bytes
    flags: OpenFlags
    mode: Octal = _MODE

    def apply(self, on: Target) -> object:
        on.open(self.slot, self.path, self.flags, self.mode)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.path, parent(self.path))


@dataclass(frozen=True)
class Close:
    slot: int

    def apply(self, on: Target) -> object:
        on.close(self.slot)
        return None

    def touched(self) -> tuple[Where, ...]:
        return ()


@dataclass(frozen=True)
class ReadAt:
    """pread(2)."""

    slot: int
    size: int
    offset: int

    def apply(self, on: Target) -> object:
        return on.pread(self.slot, self.size, self.offset)

    def touched(self) -> tuple[Where, ...]:
        return ()


@dataclass(frozen=True)
class WriteAt:
    """pwrite(2), which appends on a descriptor opened with O_APPEND."""

    slot: int
    data: Bytes
    offset: int

    def apply(self, on: Target) -> object:
        return on.pwrite(self.slot, bytes(self.data), self.offset)

    def touched(self) -> tuple[Where, ...]:
        return (self.slot,)


@dataclass(frozen=True)
class Read:
    """The whole content through a new descriptor."""

    path: bytes

    def apply(self, on: Target) -> object:
        return on.read(self.path)

    def touched(self) -> tuple[Where, ...]:
        return ()


@dataclass(frozen=True)
class Save:
    """open(2) for writing with further flags, one write, close."""

    path: bytes
    data: Bytes
    flags: OpenFlags = _SAVING
    mode: Octal = _MODE

    def apply(self, on: Target) -> object:
        on.open(-1, self.path, self.flags, self.mode)
        try:
            return on.pwrite(-1, bytes(self.data), 0)
        finally:
            on.close(-1)

    def touched(self) -> tuple[Where, ...]:
        return (self.path, parent(self.path))


@dataclass(frozen=True)
class Truncate:
    where: Where
    size: int

    def apply(self, on: Target) -> object:
        on.truncate(self.where, self.size)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.where,)


@dataclass(frozen=True)
class Allocate:
    """fallocate(2)."""

    slot: int
    mode: int
    offset: int
    length: int

    def apply(self, on: Target) -> object:
        on.fallocate(self.slot, self.mode, self.offset, self.length)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.slot,)


@dataclass(frozen=True)
class Seek:
    """lseek(2), for SEEK_DATA and SEEK_HOLE."""

    slot: int
    offset: int
    whence: int

    def apply(self, on: Target) -> object:
        return on.lseek(self.slot, self.offset, self.whence)

    def touched(self) -> tuple[Where, ...]:
        return ()


@dataclass(frozen=True)
class Fsync:
    slot: int
    data_only: bool = False

    def apply(self, on: Target) -> object:
        on.fsync(self.slot, self.data_only)
        return None

    def touched(self) -> tuple[Where, ...]:
        return ()


@dataclass(frozen=True)
class Mkdir:
    path: bytes
    mode: Octal = _DIRECTORY_MODE

    def apply(self, on: Target) -> object:
        on.mkdir(self.path, self.mode)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.path, parent(self.path))


@dataclass(frozen=True)
class Mknod:
    path: bytes
    mode: Octal
    device: tuple[int, int] = (0, 0)

    def apply(self, on: Target) -> object:
        on.mknod(self.path, self.mode, os.makedev(*self.device))
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.path, parent(self.path))


@dataclass(frozen=True)
class Symlink:
    content: bytes
    path: bytes

    def apply(self, on: Target) -> object:
        on.symlink(self.content, self.path)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.path, parent(self.path))


@dataclass(frozen=True)
class Link:
    """linkat(2); a slot as the source means AT_EMPTY_PATH."""

    source: Where
    path: bytes
    follow: bool = False

    def apply(self, on: Target) -> object:
        on.link(self.source, self.path, self.follow)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.source, self.path, parent(self.path))


@dataclass(frozen=True)
class Unlink:
    path: bytes

    def apply(self, on: Target) -> object:
        on.unlink(self.path)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.path, parent(self.path))


@dataclass(frozen=True)
class Rmdir:
    path: bytes

    def apply(self, on: Target) -> object:
        on.rmdir(self.path)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.path, parent(self.path))


@dataclass(frozen=True)
class Rename:
    """renameat2(2): flags 1 is RENAME_NOREPLACE, 2 is RENAME_EXCHANGE."""

    old: bytes
    new: bytes
    flags: int = 0

    def apply(self, on: Target) -> object:
        on.rename(self.old, self.new, self.flags)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.old, self.new, parent(self.old), parent(self.new))


@dataclass(frozen=True)
class Chmod:
    where: Where
    mode: Octal

    def apply(self, on: Target) -> object:
        on.chmod(self.where, self.mode)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.where,)


@dataclass(frozen=True)
class Chown:
    """-1 leaves an id as it is."""

    where: Where
    uid: int
    gid: int
    follow: bool = True

    def apply(self, on: Target) -> object:
        on.chown(self.where, self.uid, self.gid, self.follow)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.where,)


@dataclass(frozen=True)
class Utimens:
    where: Where
    atime: Time
    mtime: Time
    follow: bool = True

    def apply(self, on: Target) -> object:
        on.utimens(self.where, self.atime, self.mtime, self.follow)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.where,)


@dataclass(frozen=True)
class Setxattr:
    """setxattr(2): flags 1 is XATTR_CREATE, 2 is XATTR_REPLACE."""

    where: Where
    name: bytes
    value: Bytes
    flags: int = 0
    follow: bool = True

    def apply(self, on: Target) -> object:
        on.setxattr(self.where, self.name, bytes(self.value), self.flags, self.follow)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.where,)


@dataclass(frozen=True)
class Removexattr:
    where: Where
    name: bytes
    follow: bool = True

    def apply(self, on: Target) -> object:
        on.removexattr(self.where, self.name, self.follow)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.where,)


@dataclass(frozen=True)
class Getxattr:
    where: Where
    name: bytes
    follow: bool = True

    def apply(self, on: Target) -> object:
        return on.getxattr(self.where, self.name, self.follow)

    def touched(self) -> tuple[Where, ...]:
        return ()


@dataclass(frozen=True)
class Readlink:
    path: bytes

    def apply(self, on: Target) -> object:
        return on.readlink(self.path)

    def touched(self) -> tuple[Where, ...]:
        return ()


@dataclass(frozen=True)
class Stat:
    """Whether it can be reached; its attributes are compared as of every touched object."""

    where: Where
    follow: bool = False

    def apply(self, on: Target) -> object:
        on.stat(self.where, self.follow)
        return None

    def touched(self) -> tuple[Where, ...]:
        return (self.where,)


@dataclass(frozen=True)
class List:
    """Names and types, in no order."""

    where: Where

    def apply(self, on: Target) -> object:
        return sorted((name, kind) for name, kind, _ in on.listing(self.where))

    def touched(self) -> tuple[Where, ...]:
        return ()


AnyOperation: TypeAlias = (
    Open
    | Close
    | ReadAt
    | WriteAt
    | Read
    | Save
    | Truncate
    | Allocate
    | Seek
    | Fsync
    | Mkdir
    | Mknod
    | Symlink
    | Link
    | Unlink
    | Rmdir
    | Rename
    | Chmod
    | Chown
    | Utimens
    | Setxattr
    | Removexattr
    | Getxattr
    | Readlink
    | Stat
    | List
)
