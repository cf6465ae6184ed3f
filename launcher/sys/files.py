# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls on files that the standard library lacks: paths that cannot leave a tree, renames with
flags, and discs."""

from __future__ import annotations

import ctypes
import os
import struct

from launcher.sys.libc import failure, syscall
from launcher.typed import Final

__all__ = [
    "BENEATH",
    "IN_ROOT",
    "NO_MAGICLINKS",
    "NO_SYMLINKS",
    "NO_XDEV",
    "RENAME_EXCHANGE",
    "RENAME_NOREPLACE",
    "openat2",
    "renameat2",
    "start_writeback",
    "syncfs",
]

# Numbers from asm-generic/unistd.h: the same on every architecture since Linux 5.0.
_SYS_OPENAT2: Final = 437

NO_XDEV: Final = 0x01
NO_MAGICLINKS: Final = 0x02
NO_SYMLINKS: Final = 0x04
BENEATH: Final = 0x08
IN_ROOT: Final = 0x10

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2

_RANGE_WRITE: Final = 2

_slow: Final = ctypes.CDLL(None, use_errno=True)  # gives up the interpreter lock meanwhile


def openat2(directory: int, path: bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2): an open that stays where it is told to; the descriptor is the caller's.

    `resolve` is a sum of the constants above. EXDEV or ELOOP where the path leads out.
    """
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    fd: int = syscall(_SYS_OPENAT2, directory, path, how, len(how))
    if fd < 0:
        raise failure(path)
    return fd


def renameat2(olddir: int, old: bytes, newdir: int, new: bytes, flags: int = 0) -> None:
    """rename(2) with flags; EINVAL where the filesystem does not know one."""
    if _slow.renameat2(olddir, old, newdir, new, ctypes.c_uint(flags)) != 0:
        raise failure(old)


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Have a range written to the disc without waiting: a hint, see sync_file_range(2)."""
    _slow.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(length), _RANGE_WRITE)


def syncfs(fd: int) -> None:
    """Write the filesystem of `fd` to its device (syncfs(2)); not on an O_PATH descriptor."""
    if _slow.syncfs(fd) != 0:
        raise failure()
