# SPDX-License-Identifier: GPL-3.0-or-later
"""Making the objects of a case: each with exact mode and owner, whatever the umask."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

# Three users of the cases and a group besides; no account need exist.
ANNE = 10001
BERT = 10002
CLUB = 10003

LONG = "n" * 255
TOO_LONG = "n" * 256


def file(
    name: str | bytes, data: bytes = b"", mode: int = 0o644, uid: int = 0, gid: int | None = None
) -> None:
    """A regular file."""
    with open(name, "wb") as stream:
        stream.write(data)
    _dress(name, mode, uid, gid)


def directory(name: str | bytes, mode: int = 0o755, uid: int = 0, gid: int | None = None) -> None:
    """A directory."""
    os.mkdir(name)
    _dress(name, mode, uid, gid)


def fifo(name: str, mode: int = 0o644, uid: int = 0, gid: int | None = None) -> None:
    """A FIFO."""
    os.mkfifo(name)
    _dress(name, mode, uid, gid)


def device(name: str, kind: int = stat.S_IFCHR, major: int = 1, minor: int = 3) -> None:
    """A device node; by default the null device."""
    os.mknod(name, kind | 0o666, os.makedev(major, minor))
    _dress(name, 0o666, 0, 0)


def socket(name: str) -> None:
    """A UNIX domain socket that nobody listens on (mknod(2))."""
    os.mknod(name, stat.S_IFSOCK | 0o644)


def open_house(uid: int = ANNE) -> None:
    """Give the working directory to `uid`, so that the case can act as that user."""
    os.chown(".", uid, uid)


def _dress(name: str | bytes, mode: int, uid: int, gid: int | None) -> None:
    os.chown(name, uid, uid if gid is None else gid)
    os.chmod(name, mode)


KINDS: dict[str, Callable[[str], None]] = {
    "file": file,
    "directory": directory,
    "fifo": fifo,
    "character": device,
    "block": lambda name: device(name, stat.S_IFBLK, 7, 7),
    "socket": socket,
    "symlink": lambda name: os.symlink("nowhere", name),
}


def one_of_each(prefix: str = "") -> list[str]:
    """An object of every type, named by its type; the names."""
    for kind, make in KINDS.items():
        make(prefix + kind)
    return [prefix + kind for kind in KINDS]


def in_space(name: str, *, size: int, data: bytes, offset: int) -> None:
    """A sparse file of `size` bytes with `data` at `offset`."""
    with open(name, "wb") as stream:
        stream.truncate(size)
        stream.seek(offset)
        stream.write(data)
    os.chmod(name, 0o644)
