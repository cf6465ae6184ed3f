# SPDX-License-Identifier: GPL-3.0-or-later
"""System calls on directory descriptors: one function a call, each raising ``OSError``.

Nothing here keeps state but the loaded C library and constants. Descriptors passed in stay the
caller's; descriptors returned belong to the caller and are close-on-exec. Names are ``bytes``.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct

from unionfs.typed import Final, NamedTuple

_libc: Final = ctypes.CDLL(None, use_errno=True)
_syscall: Final = _libc.syscall
_syscall.restype = ctypes.c_long
# Without giving up the interpreter lock: for calls that take less time than that.
_quick_syscall: Final = ctypes.PyDLL(None).syscall
_quick_syscall.restype = ctypes.c_long

# Numbers from asm-generic/unistd.h: the same on every architecture since Linux 5.0.
_SYS_OPEN_TREE: Final = 428
_SYS_OPENAT2: Final = 437
_SYS_MOUNT_SETATTR: Final = 442
_SYS_LISTXATTRAT: Final = 465

AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_SYMLINK_FOLLOW: Final = 0x400
AT_EMPTY_PATH: Final = 0x1000

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
RENAME_WHITEOUT: Final = 4

UTIME_NOW: Final = (1 << 30) - 1
UTIME_OMIT: Final = (1 << 30) - 2

RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08

OPEN_TREE_CLONE: Final = 1
MOUNT_ATTR_RDONLY: Final = 0x01
MOUNT_ATTR_NOSUID: Final = 0x02
MOUNT_ATTR_NODEV: Final = 0x04
MOUNT_ATTR_NOATIME: Final = 0x10
_MOUNT_ATTR_ATIME: Final = 0x70

_RANGE_WRITE: Final = 2
_FICLONE: Final = 0x40049409
_FS_IOC_GETFSUUID: Final = 0x80111500
_EXT4_IOC_GETFSUUID: Final = 0x8008662C

STATX_BTIME: Final = 0x800
STATX_MNT_ID: Final = 0x1000


def _fail(path: bytes | None = None) -> OSError:
    number = ctypes.get_errno()
    if path is None:
        return OSError(number, os.strerror(number))
    return OSError(number, os.strerror(number), path)


class _Timespec(ctypes.Structure):
    _fields_ = (("tv_sec", ctypes.c_int64), ("tv_nsec", ctypes.c_int64))


_Timespecs: Final = _Timespec * 2


def renameat2(olddir: int, old: bytes, newdir: int, new: bytes, flags: int) -> None:
    """rename(2) with flags; EINVAL where the filesystem does not know a flag."""
    if _libc.renameat2(olddir, old, newdir, new, flags) != 0:
        raise _fail(old)


def utimensat(dirfd: int, name: bytes, atime: int, mtime: int, flags: int = 0) -> None:
    """Set times in ns since the epoch, `NOW`, or `OMIT` to leave one as it is (utimensat(2))."""
    if atime > OMIT and mtime > OMIT and atime != NOW and mtime != NOW:
        follow = not flags & AT_SYMLINK_NOFOLLOW
        where = None if dirfd == AT_FDCWD else dirfd
        os.utime(name, ns=(atime, mtime), dir_fd=where, follow_symlinks=follow)
        return
    times = _Timespecs()
    for slot, value in ((times[0], atime), (times[1], mtime)):
        if value == NOW:
            slot.tv_nsec = UTIME_NOW
        elif value == OMIT:
            slot.tv_nsec = UTIME_OMIT
        else:
            slot.tv_sec, slot.tv_nsec = divmod(value, 1_000_000_000)
    if _libc.utimensat(dirfd, name, ctypes.byref(times), flags) != 0:
        raise _fail(name)


# Sentinels that no time in ns a filesystem stores can be mistaken for (year -292 billion).
NOW: Final = -(1 << 80)
OMIT: Final = -(1 << 81)


class Handle(NamedTuple):
    """A file handle as of name_to_handle_at(2)."""

    kind: int
    data: bytes


_HANDLE_SPACE: Final = 128
_HANDLE_ROOM: Final = struct.pack("=Ii", _HANDLE_SPACE, 0) + bytes(_HANDLE_SPACE)
_HandleBuffer: Final = ctypes.c_char * len(_HANDLE_ROOM)
_handle_head: Final = struct.Struct("=Ii").unpack_from
# Where the call writes what nobody reads.
_mount_id: Final = ctypes.byref(ctypes.c_int())


def name_to_handle(dirfd: int, name: bytes, flags: int = 0) -> Handle:
    """The handle of an object; ``name`` b"" with AT_EMPTY_PATH means the descriptor itself.

    EOPNOTSUPP where the filesystem has none.
    """
    buffer = _HandleBuffer.from_buffer_copy(_HANDLE_ROOM)
    if _libc.name_to_handle_at(dirfd, name, buffer, _mount_id, flags) != 0:
        raise _fail(name)
    raw = buffer.raw
    size, kind = _handle_head(raw)
    return Handle(kind, raw[8 : 8 + size])


def open_by_handle(mountfd: int, handle: Handle, flags: int) -> int:
    """Open by handle on the filesystem of ``mountfd``; asks for CAP_DAC_READ_SEARCH."""
    raw = struct.pack("=Ii", len(handle.data), handle.kind) + handle.data
    buffer = ctypes.create_string_buffer(raw, len(raw))
    fd: int = _libc.open_by_handle_at(mountfd, buffer, flags | os.O_CLOEXEC)
    if fd < 0:
        raise _fail()
    return fd


def openat2(dirfd: int, path: bytes, flags: int, resolve: int) -> int:
    """openat2(2): an open that refuses symlinks, escapes or mount crossings as asked."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
    fd: int = _syscall(_SYS_OPENAT2, dirfd, path, how, len(how))
    if fd < 0:
        raise _fail(path)
    return fd


def clone_mount(path: bytes, *, read_only: bool) -> int:
    """A private, detached, non-recursive clone of the mount at ``path``, rooted there.

    What is mounted below ``path`` is not part of it (open_tree(2)). The clone never updates
    access times, and is read-only if asked, whatever the mount it was made from allows.
    Asks for CAP_SYS_ADMIN. The clone is gone when its last descriptor is closed.
    """
    fd: int = _syscall(_SYS_OPEN_TREE, AT_FDCWD, path, OPEN_TREE_CLONE | os.O_CLOEXEC)
    if fd < 0:
        raise _fail(path)
    try:
        wanted = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
        clear = 0
        if read_only:
            wanted |= MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOATIME
            clear = _MOUNT_ATTR_ATIME
        attr = struct.pack("=QQQQ", wanted, clear, 0, 0)
        done: int = _syscall(_SYS_MOUNT_SETATTR, fd, b"", AT_EMPTY_PATH, attr, len(attr))
        if done != 0:
            raise _fail(path)
    except BaseException:
        os.close(fd)
        raise
    return fd


class Extra(NamedTuple):
    """What statx(2) knows beyond ``os.stat_result``."""

    birthtime_ns: int | None
    mount_id: int | None


def statx(dirfd: int, name: bytes, flags: int = AT_SYMLINK_NOFOLLOW) -> Extra:
    """Birth time in ns and mount id; None for what the filesystem does not tell."""
    buffer = ctypes.create_string_buffer(256)
    wanted = STATX_BTIME | STATX_MNT_ID
    if _libc.statx(dirfd, name, flags, wanted, buffer) != 0:
        raise _fail(name)
    (mask,) = struct.unpack_from("=I", buffer, 0)
    born: int | None = None
    mount: int | None = None
    if mask & STATX_BTIME:
        seconds, nanoseconds = struct.unpack_from("=qI", buffer, 80)
        born = seconds * 1_000_000_000 + nanoseconds
    if mask & STATX_MNT_ID:
        (mount,) = struct.unpack_from("=Q", buffer, 144)
    return Extra(born, mount)


def clone_file(source: int, target: int) -> None:
    """FICLONE: let ``target`` share all of ``source``'s extents (ioctl_ficlone(2))."""
    fcntl.ioctl(target, _FICLONE, source)


def lacks_xattrs(dirfd: int, name: bytes) -> bool:
    """Whether an object is known to have no xattr at all, in one call (listxattrat(2), Linux 6.13).

    False where it has some, where the kernel has no such call, and on any error: the caller then
    asks in the ordinary way. Most objects have none, and this is asked at every first lookup.
    """
    length: int = _quick_syscall(_SYS_LISTXATTRAT, dirfd, name, AT_SYMLINK_NOFOLLOW, None, 0)
    return length == 0


def filesystem_uuid(fd: int) -> bytes:
    """The 16 bytes by which the kernel knows the filesystem; zeros if it does not tell."""
    for request, skip, size in ((_FS_IOC_GETFSUUID, 1, 17), (_EXT4_IOC_GETFSUUID, 8, 24)):
        buffer = bytearray(size)
        if skip == 8:
            struct.pack_into("=II", buffer, 0, 16, 0)
        try:
            fcntl.ioctl(fd, request, buffer, True)
        except OSError:
            continue
        return bytes(buffer[skip : skip + 16])
    return bytes(16)


def setfsids(uid: int, gid: int) -> None:
    """Let this thread create files as ``uid``:``gid`` (setfsuid(2), setfsgid(2)).

    Leaving uid 0 takes the file capabilities (CAP_DAC_OVERRIDE, CAP_MKNOD …) out of the
    effective set and coming back restores them (capabilities(7)). The calls report no error;
    an unprivileged caller may only choose its own ids.
    """
    _libc.setfsgid(ctypes.c_uint(gid))
    _libc.setfsuid(ctypes.c_uint(uid))


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Have the kernel begin to write a range to the disc, without waiting (sync_file_range(2)).

    Only a hint: what it cannot do is left to the fsync(2) that has to follow.
    """
    _libc.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(length), _RANGE_WRITE)


def syncfs(fd: int) -> None:
    """Write the filesystem of ``fd`` to its device (syncfs(2)); not on an O_PATH descriptor."""
    if _libc.syncfs(fd) != 0:
        raise _fail()


def give_back_memory() -> None:
    """Return free heap pages to the kernel (malloc_trim(3)); a no-op on another C library."""
    trim = getattr(_libc, "malloc_trim", None)
    if trim is not None:
        trim(0)


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2), all modes; offset and length in bytes."""
    done = _libc.fallocate(fd, mode, ctypes.c_int64(offset), ctypes.c_int64(length))
    if done != 0:
        raise _fail()
