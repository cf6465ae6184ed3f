# SPDX-License-Identifier: GPL-3.0-or-later
"""The work directory: where objects are made before one rename puts them in their place.

Layout, as kernel overlayfs keeps it: ``work/`` for temporaries (swept at mount), ``index/`` for
hard links of lower files, ``work/incompat/volatile`` while a volatile mount lives, and
``work/journal`` where one is kept. Upper and work
are locked (flock(2)) against a second mount, and refused if they overlap with another layer.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from unionfs import journal, names
from unionfs.config import MountConfig
from unionfs.errors import UnionError
from unionfs.layer import O_DIRECTORY_PATH, Layer, proc_path
from unionfs.light import contextlib
from unionfs.sys import calls
from unionfs.typed import Final

_TEMPORARIES: Final = b"work"
_INDEX: Final = b"index"
_INCOMPAT: Final = b"incompat"
_VOLATILE: Final = b"volatile"
_WHITEOUT: Final = b"whiteout"
_FULL: Final = frozenset((errno.ENOSPC, errno.EDQUOT))


class Workdir:
    """The work directory of one mounted union.

    fd        -- O_PATH descriptor of work/work, where temporaries are made
    index_fd  -- O_PATH descriptor of work/index, or -1 without index
    indexed   -- names in the index
    can_mknod -- device 0:0 can be made, so whiteouts are devices; else they are xwhiteouts
    can_xattr -- the upper filesystem holds the private xattrs
    can_rename_whiteout -- cleared when the filesystem refuses RENAME_WHITEOUT
    """

    def __init__(self, config: MountConfig, upper: Layer, workfd: int, prefix: bytes) -> None:
        self._config = config
        self._prefix = prefix
        self._path = config.work or b""
        self._counter = 0
        self._locks: list[int] = []
        self._workfd = workfd
        self.fd = -1
        self.index_fd = -1
        self.indexed: set[bytes] = set()
        self.can_mknod = True
        self.can_xattr = True
        self.can_rename_whiteout = True
        self._whiteout = False
        try:
            self._lock(upper)
            self._prepare(config)
        except OSError as error:
            self.close()
            raise UnionError("use work directory", self._path, error) from error
        except BaseException:
            self.close()
            raise

    def _lock(self, upper: Layer) -> None:
        for root, path in ((upper.root, upper.path), (self._workfd, self._path)):
            fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
            self._locks.append(fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno != errno.EWOULDBLOCK:
                    raise
                raise UnionError(
                    "use upper directory", path, "it is in use by another mount"
                ) from error

    def _prepare(self, config: MountConfig) -> None:
        self.fd = _make_directory(self._workfd, _TEMPORARIES)
        if _has(self.fd, _INCOMPAT + b"/" + _VOLATILE):
            raise UnionError(
                "use upper directory",
                config.upper or b"",
                "a volatile mount of it did not end cleanly; "
                "discard it, or keep it as it is by removing "
                + os.fsdecode(self._path)
                + "/work/incompat",
            )
        self.sweep()
        self._probe()
        if config.index and config.format == "overlay" and self.can_xattr:
            self.index_fd = _make_directory(self._workfd, _INDEX)
            self.indexed = set(os.listdir(b"/proc/self/fd/%d" % self.index_fd))
        if config.volatile and not config.read_only:
            incompat = _make_directory(self.fd, _INCOMPAT)
            try:
                os.close(_make_directory(incompat, _VOLATILE))
            finally:
                os.close(incompat)

    def sweep(self) -> None:
        """Remove what a daemon that was killed left half-made."""
        for name in os.listdir(b"/proc/self/fd/%d" % self.fd):
            if name == journal.NAME and (self._config.journal or self._config.read_only):
                continue
            if name != _INCOMPAT:
                remove_tree(self.fd, name)

    def _probe(self) -> None:
        """Find out, on one temporary, what the upper filesystem can do.

        A full one cannot be asked and is taken for able: to make room, one has to mount it first.
        """
        name = self.temporary()
        try:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.fd))
        except OSError as error:
            if error.errno in _FULL:
                return
            raise
        try:
            os.setxattr(
                proc_path(self.fd, name),
                self._prefix + names.OPAQUE,
                b"y",
                follow_symlinks=False,
            )
        except OSError as error:
            self.can_xattr = error.errno in _FULL
            if self._config.format == "overlay" and not self.can_xattr:
                hint = "" if self._config.userxattr else "; try -o userxattr"
                raise UnionError(
                    "use upper directory",
                    self._config.upper or b"",
                    f"its filesystem does not hold {os.fsdecode(self._prefix)}* xattrs "
                    f"({os.strerror(error.errno or 0)}){hint}, or format=aufs",
                ) from error
        finally:
            os.unlink(name, dir_fd=self.fd)
        try:
            os.mknod(name, stat.S_IFCHR | 0o600, 0, dir_fd=self.fd)
        except OSError as error:
            if error.errno == errno.EROFS:
                raise
            self.can_mknod = error.errno in _FULL
        else:
            os.unlink(name, dir_fd=self.fd)

    def temporary(self) -> bytes:
        """A name for a new object in `fd`."""
        self._counter += 1
        return b"#%x" % self._counter

    def whiteout(self) -> bytes:
        """A fresh whiteout in `fd`, to be moved into place: a device 0:0, else an xwhiteout.

        Devices share one inode by hard links, as many as the filesystem allows.
        """
        name = self.temporary()
        if not self.can_mknod:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self.fd))
            path = proc_path(self.fd, name)
            os.setxattr(path, self._prefix + names.WHITEOUT, b"y", follow_symlinks=False)
            return name
        self.place_whiteout(self.fd, name)
        return name

    def place_whiteout(self, dirfd: int, name: bytes) -> None:
        """Make a device whiteout at a free name; EEXIST if it is not free."""
        if self._whiteout:
            try:
                os.link(_WHITEOUT, name, src_dir_fd=self.fd, dst_dir_fd=dirfd)
            except OSError as error:
                if error.errno not in (errno.EMLINK, errno.ENOENT, errno.EPERM):
                    raise
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(_WHITEOUT, dir_fd=self.fd)
            else:
                return
        self._whiteout = False
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=dirfd)
        with contextlib.suppress(OSError):
            os.link(name, _WHITEOUT, src_dir_fd=dirfd, dst_dir_fd=self.fd)
            self._whiteout = True

    def discard(self, name: bytes) -> None:
        """Remove an object from `fd`, whatever it holds; what cannot go is swept at next mount."""
        with contextlib.suppress(OSError):
            remove_tree(self.fd, name)

    def close(self) -> None:
        """Unlock and close; a volatile mount that comes this far has ended cleanly."""
        if self.fd >= 0 and self._config.volatile and len(self._locks) == 2:
            with contextlib.suppress(OSError):
                calls.syncfs(self._locks[1])
                remove_tree(self.fd, _INCOMPAT)
        if self.fd >= 0 and self._whiteout:
            with contextlib.suppress(OSError):
                os.unlink(_WHITEOUT, dir_fd=self.fd)
        for fd in (self.fd, self.index_fd, self._workfd, *self._locks):
            if fd >= 0:
                os.close(fd)
        self.fd = self.index_fd = self._workfd = -1
        self._locks = []


def refuse_overlap(upper: bytes, work: bytes, lower: tuple[bytes, ...]) -> None:
    """Raise UnionError where one of the directories lies in another that it must not lie in.

    A lower that is the top of a mount may contain upper and work (the machine's root as the CD).
    """
    real_upper, real_work = os.path.realpath(upper), os.path.realpath(work)
    if _inside(real_work, real_upper):
        raise UnionError("use work directory", work, "it lies inside the upper directory")
    if _inside(real_upper, real_work):
        raise UnionError("use upper directory", upper, "it lies inside the work directory")
    for path in lower:
        real = os.path.realpath(path)
        for other, role in ((real_upper, "upper"), (real_work, "work")):
            if _inside(real, other):
                raise UnionError("use lower layer", path, f"it lies inside the {role} directory")
            if _inside(other, real) and not _tops_mount(real):
                thing = upper if role == "upper" else work
                raise UnionError(f"use {role} directory", thing, "it lies inside a lower layer")


def _tops_mount(path: bytes) -> bool:
    above = os.path.dirname(path)
    return path == above or (
        calls.statx(calls.AT_FDCWD, path, 0).mount_id
        != calls.statx(calls.AT_FDCWD, above, 0).mount_id
    )


def _inside(path: bytes, other: bytes) -> bool:
    return path == other or path.startswith(other.rstrip(b"/") + b"/")


def _make_directory(dirfd: int, name: bytes) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=dirfd)
    return os.open(name, O_DIRECTORY_PATH, dir_fd=dirfd)


def _has(dirfd: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=dirfd, follow_symlinks=False)
    except OSError:
        return False
    return True


def remove_tree(dirfd: int, name: bytes) -> None:
    """Remove ``name`` and all below it, without following symlinks; any depth."""
    try:
        os.unlink(name, dir_fd=dirfd)
        return
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    # A stack of open directories instead of recursion: a tree may be deeper than Python's stack.
    path = [name]
    fds = [dirfd]
    try:
        while path:
            fd = os.open(path[-1], O_DIRECTORY_PATH, dir_fd=fds[-1])
            below = _unlink_entries(fd)
            if below is not None:
                fds.append(fd)
                path.append(below)
                continue
            os.close(fd)
            os.rmdir(path.pop(), dir_fd=fds[-1])
            if len(fds) > 1:
                os.close(fds.pop())
    finally:
        for fd in fds[1:]:
            os.close(fd)


def _unlink_entries(fd: int) -> bytes | None:
    """Unlink every non-directory in ``fd``; the name of a directory in it, or None if empty."""
    below: bytes | None = None
    for name in os.listdir(b"/proc/self/fd/%d" % fd):
        try:
            os.unlink(name, dir_fd=fd)
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):
                raise
            below = name
    return below
