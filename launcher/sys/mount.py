# SPDX-License-Identifier: GPL-3.0-or-later
"""Mounts by descriptor: open_tree, fsopen, move_mount, mount_setattr, pivot_root, openat2.

Each raises `OSError`. Descriptors passed in stay the caller's; descriptors returned belong to the
caller and are close-on-exec. A path of b"" means the descriptor itself.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct

from launcher.sys.libc import Waiting, failure, syscall, waiting_syscall
from launcher.typed import Final, Iterable
from unionfs.light import contextlib

# Numbers from asm-generic/unistd.h: the same on every architecture since Linux 5.0.
_SYS_OPEN_TREE: Final = 428
_SYS_MOVE_MOUNT: Final = 429
_SYS_FSOPEN: Final = 430
_SYS_FSCONFIG: Final = 431
_SYS_FSMOUNT: Final = 432
_SYS_OPENAT2: Final = 437
_SYS_MOUNT_SETATTR: Final = 442
_PIVOT_ROOT: Final = {"x86_64": 155, "ppc64le": 203, "s390x": 217}
# All others take it from asm-generic/unistd.h.
_SYS_PIVOT_ROOT: Final = _PIVOT_ROOT.get(os.uname().machine, 41)

AT_FDCWD: Final = -100
_AT_SYMLINK_NOFOLLOW: Final = 0x100
_AT_EMPTY_PATH: Final = 0x1000
_AT_RECURSIVE: Final = 0x8000

RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

_OPEN_TREE_CLONE: Final = 1
_MOVE_MOUNT_F_EMPTY_PATH: Final = 0x04
_MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
_FSOPEN_CLOEXEC: Final = 1
_FSCONFIG_SET_FLAG: Final = 0
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_CMD_CREATE: Final = 6
_FSMOUNT_CLOEXEC: Final = 1

MOUNT_ATTR_RDONLY: Final = 0x01
MOUNT_ATTR_NOSUID: Final = 0x02
MOUNT_ATTR_NODEV: Final = 0x04
MOUNT_ATTR_NOEXEC: Final = 0x08
MOUNT_ATTR_RELATIME: Final = 0x00
MOUNT_ATTR_NOATIME: Final = 0x10
MOUNT_ATTR_STRICTATIME: Final = 0x20
MOUNT_ATTR__ATIME: Final = 0x70
MOUNT_ATTR_NODIRATIME: Final = 0x80

MS_UNBINDABLE: Final = 1 << 17
MS_PRIVATE: Final = 1 << 18
MS_SLAVE: Final = 1 << 19
MS_SHARED: Final = 1 << 20

MNT_DETACH: Final = 2


def openat2(dirfd: int, path: bytes, flags: int, resolve: int, mode: int = 0) -> int:
    """openat2(2): an open whose way through links and mounts is limited by `resolve`."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, mode, resolve)
    # EAGAIN: a rename or mount elsewhere made a ".." uncertain; openat2(2) says to try again.
    for _ in range(64):
        fd: int = waiting_syscall(_SYS_OPENAT2, dirfd, path, how, ctypes.c_size_t(len(how)))
        if fd >= 0:
            return fd
        if ctypes.get_errno() != errno.EAGAIN:
            break
    raise failure(path)


def open_tree(dirfd: int, path: bytes, *, recursive: bool) -> int:
    """A detached clone of the mount at `path`, with what is mounted below it if `recursive`."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH | _AT_RECURSIVE * recursive
    fd: int = syscall(_SYS_OPEN_TREE, dirfd, path, ctypes.c_uint(flags))
    if fd < 0:
        raise failure(path)
    return fd


def new_filesystem(
    kind: bytes, source: bytes, options: Iterable[tuple[bytes, bytes | None]], attributes: int
) -> int:
    """A detached mount of a new instance of filesystem `kind` (fsopen(2) to fsmount(2)).

    `options` are names with a value, or None for a bare flag. The kernel's own sentence about a
    refused option, where it gives one, is the error's path.
    """
    context: int = syscall(_SYS_FSOPEN, kind, _FSOPEN_CLOEXEC)
    if context < 0:
        raise failure(kind)
    try:
        if source:
            _configure(context, _FSCONFIG_SET_STRING, b"source", source)
        for name, value in options:
            command = _FSCONFIG_SET_FLAG if value is None else _FSCONFIG_SET_STRING
            _configure(context, command, name, value)
        _configure(context, _FSCONFIG_CMD_CREATE, None, None)
        fd: int = syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes)
        if fd < 0:
            raise failure(kind)
        return fd
    finally:
        os.close(context)


def _configure(context: int, command: int, name: bytes | None, value: bytes | None) -> None:
    if syscall(_SYS_FSCONFIG, context, command, name, value, 0) != 0:
        error = failure(name)
        with contextlib.suppress(OSError):  # the context's log is empty: ENODATA
            error.filename = os.read(context, 512).strip()
        raise error


def move_mount(mount: int, target: int) -> None:
    """Attach a detached mount on the object that `target` is open on."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    if syscall(_SYS_MOVE_MOUNT, mount, b"", target, b"", ctypes.c_uint(flags)) != 0:
        raise failure()


def mount_setattr(
    dirfd: int,
    path: bytes,
    *,
    recursive: bool,
    wanted: int = 0,
    cleared: int = 0,
    propagation: int = 0,
) -> None:
    """Change the attributes or the propagation of a mount, or a whole tree (mount_setattr(2))."""
    how = struct.pack("=QQQQ", wanted, cleared, propagation, 0)
    flags = _AT_EMPTY_PATH | _AT_RECURSIVE * recursive
    done = syscall(
        _SYS_MOUNT_SETATTR, dirfd, path, ctypes.c_uint(flags), how, ctypes.c_size_t(len(how))
    )
    if done != 0:
        raise failure(path)


def pivot_root(new: bytes, old: bytes) -> None:
    """Make `new` the root of this mount namespace and put the old one on `old`."""
    if syscall(_SYS_PIVOT_ROOT, new, old) != 0:
        raise failure(new)


def umount(path: bytes, flags: int = 0) -> None:
    """umount2(2)."""
    if Waiting.umount2(path, flags) != 0:
        raise failure(path)
