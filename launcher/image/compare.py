# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether two trees are the same: type, mode, owner, times, xattrs, links and content."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from launcher.errors import shown
from launcher.typed import Final

__all__ = ["differences"]

_PIECE: Final = 1 << 20


def differences(wanted: bytes, found: bytes) -> Iterator[str]:
    """Each way in which the tree `found` is not the tree `wanted`, as one line. Raises OSError."""
    if not os.path.isdir(found):
        yield "it is missing"
        return
    links: dict[tuple[int, int], tuple[int, int]] = {}
    ahead = [b""]
    while ahead:
        path = ahead.pop()
        one, other = wanted + path, found + path
        here, there = os.lstat(one), os.lstat(other)
        yield from (f"{shown(path or b'/')}: {each}" for each in _object(one, here, other, there))
        if not stat.S_ISDIR(here.st_mode):
            pair = links.setdefault((here.st_dev, here.st_ino), (there.st_dev, there.st_ino))
            if pair != (there.st_dev, there.st_ino):
                yield f"{shown(path)}: it is not the same file as its other names"
            continue
        if not stat.S_ISDIR(there.st_mode):
            continue
        names, others = set(os.listdir(one)), set(os.listdir(other))
        yield from (f"{shown(path + b'/' + name)}: it is missing" for name in names - others)
        yield from (f"{shown(path + b'/' + name)}: it was added" for name in others - names)
        ahead.extend(path + b"/" + name for name in sorted(names & others))


def _object(one: bytes, here: os.stat_result, other: bytes, there: os.stat_result) -> Iterator[str]:
    if stat.S_IFMT(here.st_mode) != stat.S_IFMT(there.st_mode):
        yield "it is of another type"
        return
    for what, attribute in (("mode", "st_mode"), ("owner", "st_uid"), ("group", "st_gid")):
        if getattr(here, attribute) != getattr(there, attribute):
            yield f"its {what} differs"
    if here.st_mtime_ns != there.st_mtime_ns and not _whiteout(here):
        yield "its time differs"
    if not stat.S_ISDIR(here.st_mode) and here.st_nlink != there.st_nlink:
        yield "it has another number of names"
    if here.st_rdev != there.st_rdev:
        yield "it is another device"
    if stat.S_ISLNK(here.st_mode) and os.readlink(one) != os.readlink(other):
        yield "it leads elsewhere"
    if _xattrs(one) != _xattrs(other):
        yield "its xattrs differ"
    if stat.S_ISREG(here.st_mode) and (
        here.st_size != there.st_size or not _same_content(one, other)
    ):
        yield "its content differs"


def _whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def _xattrs(path: bytes) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def _same_content(one: bytes, other: bytes) -> bool:
    """Whether two files of one size hold the same; where both have holes nothing is read."""
    with open(one, "rb", buffering=0) as first, open(other, "rb", buffering=0) as second:
        here, there = first.fileno(), second.fileno()
        at = 0
        while True:
            begins = [begin for begin in (_data(here, at), _data(there, at)) if begin is not None]
            if not begins:
                return True
            at = min(begins)
            piece = os.pread(here, _PIECE, at)
            if piece != os.pread(there, _PIECE, at):
                return False
            at += len(piece)


def _data(fd: int, at: int) -> int | None:
    """Where the next content is that is no hole (lseek(2), SEEK_DATA); None behind the last."""
    try:
        return os.lseek(fd, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return None
