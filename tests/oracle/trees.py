# SPDX-License-Identifier: GPL-3.0-or-later
"""Snapshots of whole trees and of single objects, and how two of them differ.

What is compared: names, types, modes, owners, sizes, content, devices, link counts, modification
times (exactly where they were set, as "later than the start" where the clock set them), xattrs with
ACLs, and which paths are one object. Not compared: access times but right after utimensat, change
times but for their being updated, st_blocks, sizes of directories.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from tests.oracle.targets import Seen, Target, Where
from tests.oracle.values import errno_name

CLOCK = "now"


class Face(NamedTuple):
    """Attributes in the form in which they must be equal on all targets."""

    type: str
    mode: str
    uid: int
    gid: int
    nlink: int
    size: int | None
    device: int
    mtime: int | str


_TYPES = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "character device",
    stat.S_IFBLK: "block device",
}


def clock_time(time: int, start: int, end: int) -> int | str:
    """A timestamp, or CLOCK if the test's own clock gave it."""
    return CLOCK if start <= time <= end else time


def face(seen: Seen, start: int, end: int) -> Face:
    kind = stat.S_IFMT(seen.mode)
    special = kind in (stat.S_IFCHR, stat.S_IFBLK)
    return Face(
        _TYPES[kind],
        oct(stat.S_IMODE(seen.mode)),
        seen.uid,
        seen.gid,
        seen.nlink,
        None if kind == stat.S_IFDIR else seen.size,
        seen.rdev if special else 0,
        clock_time(seen.mtime, start, end),
    )


@dataclass(frozen=True)
class Entry:
    """One path of a snapshot."""

    seen: Seen
    face: Face
    content: bytes | None
    xattrs: dict[bytes, bytes]
    d_type: int
    d_ino: int | None


class Snapshot(dict[bytes, Entry]):
    """Entries by path; `ghosts` are paths that are listed, with their d_type, but not there."""

    def __init__(self) -> None:
        super().__init__()
        self.ghosts: dict[bytes, int] = {}


def xattrs_of(target: Target, where: Where) -> dict[bytes, bytes]:
    return {name: _value(target, where, name) for name in target.listxattr(where, False)}


def _value(target: Target, where: Where, name: bytes) -> bytes:
    """The value, or the name of the error: an empty security.capability cannot be read."""
    try:
        return target.getxattr(where, name, False)
    except OSError as error:
        return errno_name(error.errno).encode()


def snapshot(target: Target, start: int, end: int) -> Snapshot:
    """Everything below the root, and the root as b"."."""
    found = Snapshot()
    root = target.stat(b".", False)
    found[b"."] = _entry(target, b".", stat.S_IFMT(root.mode) >> 12, None, start, end)
    pending = [b"."]
    while pending:
        directory = pending.pop()
        for name, kind, ino in target.listing(directory):
            if name in (b".", b".."):
                continue
            path = name if directory == b"." else directory + b"/" + name
            if path in found:
                raise AssertionError(f"{target.name}: {path!r} is listed twice")
            try:
                entry = _entry(target, path, kind, ino, start, end)
            except FileNotFoundError:
                found.ghosts[path] = kind
                continue
            found[path] = entry
            if entry.face.type == "directory":
                pending.append(path)
    return found


def _entry(
    target: Target, path: bytes, d_type: int, d_ino: int | None, start: int, end: int
) -> Entry:
    seen = target.stat(path, False)
    look = face(seen, start, end)
    content: bytes | None = None
    if look.type == "file":
        content = target.read(path)
    elif look.type == "symlink":
        content = target.readlink(path)
    return Entry(seen, look, content, xattrs_of(target, path), d_type, d_ino)


class Difference(NamedTuple):
    """One thing that is not as in the model.

    aspect -- errno, value, names, content, xattrs, identity, d_type, d_ino, ctime or a Face field
    where  -- the path or slot, None for the outcome of an operation
    """

    aspect: str
    where: Where | None
    expected: object
    got: object

    def __str__(self) -> str:
        place = "" if self.where is None else f" of {self.where!r}"
        return (
            f"{self.aspect}{place}: {_brief(self.expected)} in the model, {_brief(self.got)} here"
        )


def _brief(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:280]}… ({len(text)} characters)"


def compare_faces(where: Where, expected: Face, got: Face) -> Iterator[Difference]:
    for field, one, other in zip(Face._fields, expected, got, strict=True):
        if one != other:
            inside = field == "nlink" and expected.type == got.type == "directory"
            yield Difference("directory nlink" if inside else field, where, one, other)


def compare(expected: Snapshot, got: Snapshot) -> Iterator[Difference]:
    """Every difference but of identity."""
    missing = sorted(expected.keys() - got.keys())
    extra = sorted(got.keys() - expected.keys())
    if missing or extra:
        yield Difference("names", None, missing, extra)
    for path, kind in sorted(got.ghosts.items()):
        yield Difference("ghost", path, "not listed", kind)
    for path in sorted(expected.keys() & got.keys()):
        one, other = expected[path], got[path]
        yield from compare_faces(path, one.face, other.face)
        if one.content != other.content:
            yield Difference("content", path, one.content, other.content)
        if one.xattrs != other.xattrs:
            yield Difference("xattrs", path, one.xattrs, other.xattrs)
        if other.d_type != stat.S_IFMT(other.seen.mode) >> 12:
            yield Difference("d_type", path, stat.S_IFMT(other.seen.mode) >> 12, other.d_type)
        if other.d_ino is not None and other.d_ino != other.seen.ino:
            yield Difference("d_ino", path, other.seen.ino, other.d_ino)


class Identities:
    """Which object of the model is which inode of a target, for as long as a mount lives."""

    def __init__(self) -> None:
        self._devices: dict[tuple[int, int], int] = {}
        self._inodes: dict[tuple[int, int], int] = {}

    def check(self, objects: dict[bytes, tuple[int, int]], got: Snapshot) -> Iterator[Difference]:
        """`objects` is each path's identity in the model."""
        devices: dict[tuple[int, int], int] = {}
        inodes: dict[tuple[int, int], int] = {}
        owner: dict[tuple[int, int], bytes] = {}
        for path, one in sorted(objects.items()):
            entry = got.get(path)
            if entry is None:
                continue
            seen = entry.seen
            known = inodes.get(one, self._inodes.get(one, seen.ino))
            if known != seen.ino:
                yield Difference("st_ino", path, known, seen.ino)
            known = devices.get(one, self._devices.get(one, seen.dev))
            if known != seen.dev:
                yield Difference("st_dev", path, known, seen.dev)
            other = owner.setdefault((seen.dev, seen.ino), path)
            if objects[other] != one:
                yield Difference("inode", path, "one of its own", f"that of {other!r}")
            devices[one], inodes[one] = seen.dev, seen.ino
        self._devices, self._inodes = devices, inodes

    def remounted(self) -> None:
        """Inode numbers stay, device numbers may change."""
        self._devices = {}

    def forget(self) -> None:
        self._devices, self._inodes = {}, {}


def errno_of(error: OSError) -> int:
    assert error.errno is not None
    return error.errno


def attributes(target: Target, where: Where) -> tuple[int | None, Seen | None]:
    """lstat or fstat: errno, or attributes."""
    try:
        return None, target.stat(where, False)
    except OSError as error:
        return errno_of(error), None
