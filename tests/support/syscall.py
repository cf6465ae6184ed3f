# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls that Python's os module lacks, for tests.

Written from the manual pages and kept apart from unionfs.sys, so that a mistake there cannot hide
itself here.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import NamedTuple

AT_FDCWD = -100
AT_SYMLINK_NOFOLLOW = 0x100
AT_SYMLINK_FOLLOW = 0x400
AT_EMPTY_PATH = 0x1000

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
RENAME_WHITEOUT = 4

UTIME_NOW = (1 << 30) - 1
UTIME_OMIT = (1 << 30) - 2

FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2
FALLOC_FL_ZERO_RANGE = 16

STATX_BTIME = 0x800

_CLONE_NEWNS = 0x20000
_MS_REC = 1 << 14
_MS_SLAVE = 1 << 19

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_libc.opendir.restype = ctypes.c_void_p
_libc.fdopendir.restype = ctypes.c_void_p
_libc.readdir.restype = ctypes.c_void_p
_libc.telldir.restype = ctypes.c_long

_SYS_STATX = {"x86_64": 332, "aarch64": 291}[os.uname().machine]

Path = str | bytes


def _check(result: int, *names: Path) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), *names[:1])
    return result


def renameat2(old: Path, new: Path, flags: int = 0) -> None:
    """renameat2(2) with both names relative to the working directory."""
    _check(_libc.renameat2(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags), old)


def leave_mount_namespace() -> None:
    """unshare(2) with CLONE_NEWNS: nobody else gets copies of what this process mounts then.

    What is mounted and unmounted outside still comes in (MS_SLAVE, mount_namespaces(7)).
    """
    _check(_libc.unshare(_CLONE_NEWNS))
    _check(_libc.mount(None, b"/", None, ctypes.c_ulong(_MS_SLAVE | _MS_REC), None))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2)."""
    _check(_libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length)))


def utimensat(path: Path, atime: tuple[int, int], mtime: tuple[int, int], flags: int = 0) -> None:
    """utimensat(2); times are (seconds, nanoseconds), where UTIME_NOW and UTIME_OMIT pass."""
    times = struct.pack("qqqq", *atime, *mtime)
    _check(_libc.utimensat(AT_FDCWD, os.fsencode(path), times, flags), path)


def futimens(fd: int, atime: tuple[int, int], mtime: tuple[int, int]) -> None:
    """futimens(3)."""
    _check(_libc.futimens(fd, struct.pack("qqqq", *atime, *mtime)))


def utimensat_null(path: Path, flags: int = 0) -> None:
    """utimensat(2) with a null pointer for the times: now."""
    _check(_libc.utimensat(AT_FDCWD, os.fsencode(path), None, flags), path)


def linkat(old: Path | int, new: Path, flags: int = 0) -> None:
    """linkat(2); a number is a descriptor, linked with AT_EMPTY_PATH."""
    if isinstance(old, int):
        _check(_libc.linkat(old, b"", AT_FDCWD, os.fsencode(new), flags | AT_EMPTY_PATH), new)
    else:
        _check(_libc.linkat(AT_FDCWD, os.fsencode(old), AT_FDCWD, os.fsencode(new), flags), old)


def syncfs(fd: int) -> None:
    """syncfs(2)."""
    _check(_libc.syncfs(fd))


class Statx(NamedTuple):
    """What the tests use of struct statx (statx(2))."""

    mask: int
    mode: int
    ino: int
    btime_ns: int


def statx(path: Path, mask: int) -> Statx:
    """statx(2) of a name relative to the working directory, symbolic links not followed."""
    buffer = ctypes.create_string_buffer(256)
    _check(
        _libc.syscall(_SYS_STATX, AT_FDCWD, os.fsencode(path), AT_SYMLINK_NOFOLLOW, mask, buffer),
        path,
    )
    got_mask = struct.unpack_from("I", buffer, 0)[0]
    mode = struct.unpack_from("H", buffer, 28)[0]
    ino = struct.unpack_from("Q", buffer, 32)[0]
    seconds, nanoseconds = struct.unpack_from("qI", buffer, 80)
    return Statx(got_mask, mode, ino, seconds * 1_000_000_000 + nanoseconds)


class DirectoryStream:
    """opendir(3), readdir(3), telldir(3), seekdir(3) and rewinddir(3) as they are."""

    def __init__(self, path: Path) -> None:
        handle = _libc.opendir(os.fsencode(path))
        if not handle:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error), path)
        self._handle = ctypes.c_void_p(handle)

    def read(self) -> tuple[bytes, int, int] | None:
        """The next entry as (name, d_ino, d_type), or None at the end."""
        ctypes.set_errno(0)
        entry = _libc.readdir(self._handle)
        if not entry:
            error = ctypes.get_errno()
            if error:
                raise OSError(error, os.strerror(error))
            return None
        # struct dirent of 64-bit Linux: ino u64, off s64, reclen u16, type u8, name.
        ino, _, length, kind = struct.unpack("QqHB", ctypes.string_at(entry, 19))
        name = ctypes.string_at(entry + 19, length - 19).split(b"\0", 1)[0]
        return name, ino, kind

    def tell(self) -> int:
        return int(_libc.telldir(self._handle))

    def seek(self, place: int) -> None:
        _libc.seekdir(self._handle, ctypes.c_long(place))

    def rewind(self) -> None:
        _libc.rewinddir(self._handle)

    def rest(self) -> list[tuple[bytes, int, int]]:
        """Every entry from here to the end."""
        entries = []
        while (entry := self.read()) is not None:
            entries.append(entry)
        return entries

    def close(self) -> None:
        _libc.closedir(self._handle)

    def __enter__(self) -> DirectoryStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
