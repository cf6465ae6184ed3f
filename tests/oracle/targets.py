# SPDX-License-Identifier: GPL-3.0-or-later
"""What operations are performed on: the verbs of a target, and the targets with a root directory.

A `Target` raises OSError with the errno that a process would see. `Rooted` is any directory of
this machine: the model, kernel overlayfs, a mounted union. The union in process is in `inprocess`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from tests.oracle import overlayfs
from tests.oracle.values import NOW, OMIT, UMASK, Time
from tests.support import syscall
from tests.support.clock import wait_until
from tests.support.daemon import Daemon, Option

Where = bytes | int
"""A path below the root (b"." is the root), or the slot of an open descriptor."""


class Seen(NamedTuple):
    """Attributes as stat(2) gives them; times in ns."""

    ino: int
    dev: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    atime: int
    mtime: int
    ctime: int


class Listed(NamedTuple):
    """A directory entry: d_name, d_type, and d_ino where the target tells."""

    name: bytes
    kind: int
    ino: int | None


@dataclass(frozen=True)
class Place:
    """The directories a union is made of; lower topmost first."""

    lowers: tuple[bytes, ...]
    upper: bytes
    work: bytes


class Target(Protocol):
    """The verbs, all relative to one root.

    name -- in messages
    kind -- what deviations are listed by: plain, kernel, inprocess, pyfuse3, device; variants of
            how it is mounted follow after a plus
    """

    name: str
    kind: str

    def open(self, slot: int, path: bytes, flags: int, mode: int) -> None: ...
    def close(self, slot: int) -> None: ...
    def pread(self, slot: int, size: int, offset: int) -> bytes: ...
    def pwrite(self, slot: int, data: bytes, offset: int) -> int: ...
    def fsync(self, slot: int, data_only: bool) -> None: ...
    def fallocate(self, slot: int, mode: int, offset: int, length: int) -> None: ...
    def lseek(self, slot: int, offset: int, whence: int) -> int: ...
    def read(self, path: bytes) -> bytes: ...
    def truncate(self, where: Where, size: int) -> None: ...
    def mkdir(self, path: bytes, mode: int) -> None: ...
    def mknod(self, path: bytes, mode: int, device: int) -> None: ...
    def symlink(self, content: bytes, path: bytes) -> None: ...
    def link(self, source: Where, path: bytes, follow: bool) -> None: ...
    def unlink(self, path: bytes) -> None: ...
    def rmdir(self, path: bytes) -> None: ...
    def rename(self, old: bytes, new: bytes, flags: int) -> None: ...
    def chmod(self, where: Where, mode: int) -> None: ...
    def chown(self, where: Where, uid: int, gid: int, follow: bool) -> None: ...
    def utimens(self, where: Where, atime: Time, mtime: Time, follow: bool) -> None: ...
    def setxattr(
        self, where: Where, name: bytes, value: bytes, flags: int, follow: bool
    ) -> None: ...
    def removexattr(self, where: Where, name: bytes, follow: bool) -> None: ...
    def getxattr(self, where: Where, name: bytes, follow: bool) -> bytes: ...
    def listxattr(self, where: Where, follow: bool) -> list[bytes]: ...
    def readlink(self, path: bytes) -> bytes: ...
    def stat(self, where: Where, follow: bool) -> Seen: ...
    def listing(self, where: Where) -> list[Listed]: ...
    def forget(self) -> None:
        """Drop what is cached of names."""


class Contender(Target, Protocol):
    """A target that shows a stack of layers."""

    def attach(self, place: Place) -> None:
        """Show the layers."""

    def detach(self) -> None:
        """End that, with every descriptor closed before."""

    def abandon(self) -> None:
        """End that by force, whatever is still open; nothing is raised."""


class Rooted:
    """A target that is a directory."""

    def __init__(self, name: str, kind: str, root: Path) -> None:
        self.name = name
        self.kind = kind
        self.root = os.fsencode(root)
        self.slots: dict[int, int] = {}

    def _at(self, where: Where) -> bytes | int:
        if isinstance(where, int):
            return self.slots[where]
        return self.root + b"/" + where

    def _path(self, path: bytes) -> bytes:
        return self.root + b"/" + path

    def open(self, slot: int, path: bytes, flags: int, mode: int) -> None:
        quiet = os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        with umask():
            self.slots[slot] = os.open(self._path(path), flags | quiet, mode)

    def close(self, slot: int) -> None:
        os.close(self.slots.pop(slot))

    def close_all(self) -> None:
        for slot in list(self.slots):
            with contextlib.suppress(OSError):
                self.close(slot)

    def pread(self, slot: int, size: int, offset: int) -> bytes:
        return os.pread(self.slots[slot], size, offset)

    def pwrite(self, slot: int, data: bytes, offset: int) -> int:
        return os.pwrite(self.slots[slot], data, offset)

    def fsync(self, slot: int, data_only: bool) -> None:
        (os.fdatasync if data_only else os.fsync)(self.slots[slot])

    def fallocate(self, slot: int, mode: int, offset: int, length: int) -> None:
        syscall.fallocate(self.slots[slot], mode, offset, length)

    def lseek(self, slot: int, offset: int, whence: int) -> int:
        return os.lseek(self.slots[slot], offset, whence)

    def read(self, path: bytes) -> bytes:
        fd = os.open(self._path(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            pieces = []
            while piece := os.read(fd, 1 << 20):
                pieces.append(piece)
            return b"".join(pieces)
        finally:
            os.close(fd)

    def truncate(self, where: Where, size: int) -> None:
        os.truncate(self._at(where), size)

    def mkdir(self, path: bytes, mode: int) -> None:
        with umask():
            os.mkdir(self._path(path), mode)

    def mknod(self, path: bytes, mode: int, device: int) -> None:
        with umask():
            os.mknod(self._path(path), mode, device)

    def symlink(self, content: bytes, path: bytes) -> None:
        os.symlink(content, self._path(path))

    def link(self, source: Where, path: bytes, follow: bool) -> None:
        flags = syscall.AT_SYMLINK_FOLLOW if follow else 0
        syscall.linkat(self._at(source), self._path(path), flags)

    def unlink(self, path: bytes) -> None:
        os.unlink(self._path(path))

    def rmdir(self, path: bytes) -> None:
        os.rmdir(self._path(path))

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        syscall.renameat2(self._path(old), self._path(new), flags)

    def chmod(self, where: Where, mode: int) -> None:
        os.chmod(self._at(where), mode)

    def chown(self, where: Where, uid: int, gid: int, follow: bool) -> None:
        os.chown(self._at(where), uid, gid, follow_symlinks=follow or isinstance(where, int))

    def utimens(self, where: Where, atime: Time, mtime: Time, follow: bool) -> None:
        at = self._at(where)
        times = _timespec(atime), _timespec(mtime)
        if isinstance(at, int):
            syscall.futimens(at, *times)
        else:
            syscall.utimensat(at, *times, 0 if follow else syscall.AT_SYMLINK_NOFOLLOW)

    def setxattr(self, where: Where, name: bytes, value: bytes, flags: int, follow: bool) -> None:
        follow = follow or isinstance(where, int)
        os.setxattr(self._at(where), name, value, flags, follow_symlinks=follow)

    def removexattr(self, where: Where, name: bytes, follow: bool) -> None:
        os.removexattr(self._at(where), name, follow_symlinks=follow or isinstance(where, int))

    def getxattr(self, where: Where, name: bytes, follow: bool) -> bytes:
        follow = follow or isinstance(where, int)
        return os.getxattr(self._at(where), name, follow_symlinks=follow)

    def listxattr(self, where: Where, follow: bool) -> list[bytes]:
        follow = follow or isinstance(where, int)
        names = os.listxattr(self._at(where), follow_symlinks=follow)
        return [os.fsencode(name) for name in names]

    def readlink(self, path: bytes) -> bytes:
        return os.readlink(self._path(path))

    def stat(self, where: Where, follow: bool) -> Seen:
        follow = follow or isinstance(where, int)
        found = os.stat(self._at(where), follow_symlinks=follow)
        return Seen(
            found.st_ino,
            found.st_dev,
            found.st_mode,
            found.st_nlink,
            found.st_uid,
            found.st_gid,
            found.st_rdev,
            found.st_size,
            found.st_blocks,
            found.st_atime_ns,
            found.st_mtime_ns,
            found.st_ctime_ns,
        )

    def listing(self, where: Where) -> list[Listed]:
        at = self._at(where)
        path = b"/proc/self/fd/%d" % at if isinstance(at, int) else at
        with syscall.DirectoryStream(path) as stream:
            return [Listed(name, kind, ino) for name, ino, kind in stream.rest()]

    def forget(self) -> None:
        return


@contextlib.contextmanager
def umask() -> Iterator[None]:
    """With UMASK; a union in process sets that of the process to 0."""
    before = os.umask(UMASK)
    try:
        yield
    finally:
        os.umask(before)


def _timespec(time: Time) -> tuple[int, int]:
    if time == NOW:
        return 0, syscall.UTIME_NOW
    if time == OMIT:
        return 0, syscall.UTIME_OMIT
    assert isinstance(time, int)
    return divmod(time, 1_000_000_000)


class Plain(Rooted):
    """The model: a plain directory, and the few answers in which every union differs from one."""

    def __init__(self, root: Path) -> None:
        super().__init__("plain", "plain", root)
        self._identities: dict[int, tuple[int, int]] = {}

    def mknod(self, path: bytes, mode: int, device: int) -> None:
        # A character device 0:0 is what a whiteout looks like: see deviations, "no-whiteouts".
        if stat.S_ISCHR(mode) and device == 0:
            os.stat(self._path(os.path.dirname(path)))
            try:
                os.lstat(self._path(path))
            except FileNotFoundError:
                raise OSError(errno.EPERM, os.strerror(errno.EPERM), path) from None
        super().mknod(path, mode, device)

    def open(self, slot: int, path: bytes, flags: int, mode: int) -> None:
        super().open(slot, path, flags, mode)
        name = os.readlink(b"/proc/self/fd/%d" % self.slots[slot])
        with contextlib.suppress(OSError):
            self._identities[slot] = _identity(name)

    def close(self, slot: int) -> None:
        self._identities.pop(slot, None)
        super().close(slot)

    def identity(self, where: Where) -> tuple[int, int]:
        """What tells an object from one that later gets its inode number: birth time too."""
        if isinstance(where, int):
            # Its name may be gone; a file that never had one is known by its number alone.
            return self._identities.get(where) or (os.stat(self.slots[where]).st_ino, 0)
        return _identity(self._path(where))

    def walk(self) -> Iterator[tuple[bytes, os.stat_result]]:
        """Every path and its lstat, parents first, in one order for one tree."""
        yield b".", os.lstat(self.root)
        pending = [b""]
        while pending:
            directory = pending.pop()
            below = []
            for name in sorted(os.listdir(self.root + b"/" + directory)):
                path = directory + b"/" + name if directory else name
                found = os.lstat(self.root + b"/" + path)
                yield path, found
                if stat.S_ISDIR(found.st_mode):
                    below.append(path)
            pending.extend(reversed(below))


def _identity(path: bytes) -> tuple[int, int]:
    found = syscall.statx(path, 0x7FF | syscall.STATX_BTIME)
    return found.ino, found.btime_ns


class Kernel(Rooted):
    """Kernel overlayfs."""

    def __init__(self, merged: Path, kind: str, options: Mapping[str, str]) -> None:
        super().__init__("kernel overlayfs", kind, merged)
        self._options = options
        self._mounted = False

    def attach(self, place: Place) -> None:
        # The kernel lets go of the last mount of these layers a while after it is unmounted, and a
        # copy of the mount namespace that some process makes holds it for as long as it lives.
        wait_until(lambda: self._try(place), f"kernel overlayfs takes {place.upper!r} again")

    def _try(self, place: Place) -> bool:
        try:
            overlayfs.mount(self.root, place.lowers, place.upper, place.work, self._options)
        except OSError as error:
            if error.errno == errno.EBUSY:
                return False
            raise
        self._mounted = True
        return True

    def detach(self) -> None:
        overlayfs.unmount(self.root)
        self._mounted = False

    def abandon(self) -> None:
        self.close_all()
        if self._mounted:
            overlayfs.unmount(self.root, lazily=True)
            self._mounted = False

    def forget(self) -> None:
        overlayfs.drop_names(self.root)


class Mounted(Rooted):
    """A union mounted by `lamina mount` over one transport."""

    def __init__(self, merged: Path, kind: str, *, metacopy: bool, userxattr: bool) -> None:
        self._transport = kind.split("+")[0]
        super().__init__(f"lamina over {self._transport}", kind, merged)
        self._options: dict[str, Option] = {
            "metacopy": "on" if metacopy else "off",
            "userxattr": userxattr,
        }
        self._daemon: Daemon | None = None

    def attach(self, place: Place) -> None:
        assert self._daemon is None
        daemon = Daemon(
            Path(os.fsdecode(self.root)),
            place.lowers,
            Path(os.fsdecode(place.upper)),
            Path(os.fsdecode(place.work)),
            self._transport,
            self._options,
        )
        daemon.start()
        self._daemon = daemon

    def detach(self) -> None:
        daemon, self._daemon = self._daemon, None
        assert daemon is not None
        daemon.finish()

    def abandon(self) -> None:
        self.close_all()
        daemon, self._daemon = self._daemon, None
        if daemon is not None:
            daemon.discard()

    def forget(self) -> None:
        overlayfs.drop_names(self.root)

    def log(self) -> str:
        """What the daemon printed so far."""
        return "" if self._daemon is None else self._daemon.read_log()
