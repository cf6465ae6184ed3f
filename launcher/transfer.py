# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying trees between places that do not trust each other: out of a container, and into one.

A tree is read as the entries of an archive (`Tree`), and entries are made into a tree (`Landing`).
Either goes by descriptors, one name at a time, without following a symbolic link that it finds; so
nothing that a container's processes rename meanwhile leads anywhere else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator

from launcher.errors import LaunchError
from launcher.image import tar
from launcher.image.pack import describe
from launcher.image.tar import Entry
from launcher.image.tarwrite import data_extents
from launcher.sys import mount
from launcher.typed import Final, NamedTuple

__all__ = ["Landing", "Owner", "Tree"]

_PATH: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_STRICT: Final = mount.RESOLVE_BENEATH | mount.RESOLVE_NO_SYMLINKS
_CHUNK: Final = 1 << 24
_UNSUPPORTED: Final = (errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.EINVAL)


class Owner(NamedTuple):
    """Whose the copies are: `uid` and `gid`; or, where these are None, whose the originals are,
    with what root is called where they come from and where they go.
    """

    uid: int | None = None
    gid: int | None = None
    roots: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))

    def of(self, entry: Entry) -> tuple[int, int]:
        """User and group of a copy."""
        (from_uid, to_uid), (from_gid, to_gid) = self.roots
        uid = entry.uid - from_uid + to_uid if self.uid is None else self.uid
        gid = entry.gid - from_gid + to_gid if self.gid is None else self.gid
        return max(uid, 0), max(gid, 0)


class Tree:
    """What is to be copied: an object, and if it is a directory all that is below it.

    fd   -- O_PATH descriptor of the object; the caller's
    name -- what it is called in the entries, b"" for none

    Iterating gives each entry with a descriptor of its content, or -1; that is closed at the next.
    `skipped` counts the sockets that were left out.
    """

    def __init__(self, fd: int, name: bytes) -> None:
        self._fd = fd
        self._name = name
        self._links: dict[tuple[int, int], bytes] = {}
        self.skipped = 0

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(os.fstat(self._fd).st_mode)

    def __iter__(self) -> Iterator[tuple[Entry, int]]:
        yield from self._object(os.dup(self._fd), self._name)

    def _object(self, top: int, path: bytes) -> Iterator[tuple[Entry, int]]:
        """One object and, after it, what is below; takes the descriptor over."""
        pending = [(top, path)]
        try:
            while pending:
                fd, path = pending.pop()
                try:
                    found = os.fstat(fd)
                    if not stat.S_ISDIR(found.st_mode):
                        yield from self._leaf(fd, path, found)
                        continue
                    yield describe(fd, b"", path + b"/" if path else b"./", found), -1
                    listing = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
                    try:
                        names = sorted(map(os.fsencode, os.listdir(listing)))
                    finally:
                        os.close(listing)
                    below: list[bytes] = []
                    for name in names:
                        where = path + b"/" + name if path else name
                        try:
                            child = os.open(name, _PATH, dir_fd=fd)
                        except FileNotFoundError:  # gone since it was listed
                            continue
                        if stat.S_ISDIR(os.fstat(child).st_mode):
                            os.close(child)
                            below.append(name)
                            continue
                        try:
                            yield from self._leaf(child, where, os.fstat(child))
                        finally:
                            os.close(child)
                    for name in reversed(below):
                        where = path + b"/" + name if path else name
                        with contextlib.suppress(FileNotFoundError):
                            child = os.open(name, _PATH | os.O_DIRECTORY, dir_fd=fd)
                            pending.append((child, where))
                finally:
                    os.close(fd)
        finally:
            for fd, _ in pending:
                os.close(fd)

    def _leaf(self, fd: int, path: bytes, found: os.stat_result) -> Iterator[tuple[Entry, int]]:
        if stat.S_IFMT(found.st_mode) not in tar.KINDS:
            self.skipped += 1
            return
        entry = describe(fd, b"", path, found)
        if found.st_nlink > 1:
            first = self._links.setdefault((found.st_dev, found.st_ino), path)
            if first != path:
                yield entry._replace(kind=tar.HARD_LINK, size=0, link=first, xattrs=()), -1
                return
        if entry.kind != tar.FILE:
            yield entry, -1
            return
        content = os.open(b"/proc/self/fd/%d" % fd, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if found.st_blocks * 512 < found.st_size:
                pieces = data_extents(content, found.st_size, worth=1)
                if pieces != ((0, found.st_size),):
                    entry = entry._replace(sparse=pieces)
            yield entry, content
        finally:
            os.close(content)


class Landing:
    """Where entries become a tree: below the directory `fd`, which stays the caller's.

    owner  -- whose the copies are
    opened -- opens a directory by its path below `fd`; by default no symbolic link is followed
    """

    def __init__(self, fd: int, owner: Owner, opened: Callable[[bytes], int] | None = None) -> None:
        self._fd = fd
        self._owner = owner
        self._opened = opened or self._strictly
        self._directories: list[tuple[bytes, Entry]] = []

    def _strictly(self, path: bytes) -> int:
        return mount.openat2(self._fd, path or b".", os.O_PATH | os.O_DIRECTORY, _STRICT)

    def put(self, entry: Entry, parent: bytes, name: bytes, content: int, offset: int = 0) -> None:
        """Make one object, in place of what is there; a directory is merged with one.

        parent, name -- where; b"", b"" is the directory of the landing itself
        content      -- a descriptor with a file's content from `offset` on; without its holes
                        where the entry is sparse and `offset` is not 0
        Raises LaunchError where a directory would replace something else, or the other way round.
        """
        if not name:
            return
        directory = self._parent(parent)
        try:
            if entry.kind == tar.DIRECTORY:
                self._make_directory(directory, parent, name, entry)
                return
            self._clear(directory, parent, name)
            if entry.kind == tar.HARD_LINK:
                self._link(directory, name, entry)
            elif entry.kind == tar.FILE:
                self._file(directory, name, entry, content, offset)
            else:
                self._special(directory, name, entry)
        finally:
            os.close(directory)

    def finish(self) -> None:
        """Set what directories are to look like, when nothing changes their times any more."""
        for path, entry in reversed(self._directories):
            fd = self._opened(path)
            try:
                self._dress(b"/proc/self/fd/%d" % fd, entry, follow=True)
            finally:
                os.close(fd)

    def _parent(self, path: bytes) -> int:
        try:
            return self._opened(path)
        except FileNotFoundError:
            above, _, name = path.rpartition(b"/")
            directory = self._parent(above)
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o755, dir_fd=directory)
                    uid, gid = self._owner.of(Entry(path, tar.DIRECTORY))
                    os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
            finally:
                os.close(directory)
            return self._opened(path)

    def _make_directory(self, directory: int, parent: bytes, name: bytes, entry: Entry) -> None:
        path = parent + b"/" + name if parent else name
        try:
            os.mkdir(name, 0o700, dir_fd=directory)
        except FileExistsError:
            found = os.stat(name, dir_fd=directory, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                raise LaunchError(
                    "copy", path, "a directory cannot replace what is there"
                ) from None
        self._directories.append((path, entry))

    def _clear(self, directory: int, parent: bytes, name: bytes) -> None:
        try:
            os.unlink(name, dir_fd=directory)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno == errno.EBUSY:  # something is mounted on it: it is written to
                return
            if error.errno != errno.EISDIR:
                raise
            reason = "it would replace a directory"
            raise LaunchError("copy", parent + b"/" + name if parent else name, reason) from None

    def _file(self, directory: int, name: bytes, entry: Entry, content: int, offset: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=directory)
        try:
            os.ftruncate(fd, 0)
            if entry.sparse is None:
                _copy(content, offset, fd, 0, entry.size)
            else:
                at = offset
                for begin, length in entry.sparse:
                    _copy(content, at if offset else begin, fd, begin, length)
                    at += length
                os.ftruncate(fd, entry.size)
            self._dress(b"/proc/self/fd/%d" % fd, entry, follow=True)
        finally:
            os.close(fd)

    def _link(self, directory: int, name: bytes, entry: Entry) -> None:
        above, _, target = entry.link.rpartition(b"/")
        source = self._opened(above)
        try:
            os.link(target, name, src_dir_fd=source, dst_dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(source)

    def _special(self, directory: int, name: bytes, entry: Entry) -> None:
        if entry.kind == tar.SYMLINK:
            os.symlink(entry.link, name, dir_fd=directory)
        else:
            kinds = {
                tar.FIFO: stat.S_IFIFO,
                tar.CHARACTER_DEVICE: stat.S_IFCHR,
                tar.BLOCK_DEVICE: stat.S_IFBLK,
            }
            os.mknod(name, kinds[entry.kind] | 0o600, os.makedev(*entry.device), dir_fd=directory)
        path = b"/proc/self/fd/%d/%s" % (directory, name)
        self._dress(path, entry, follow=False)

    def _dress(self, path: bytes, entry: Entry, *, follow: bool) -> None:
        uid, gid = self._owner.of(entry)
        found = os.stat(path, follow_symlinks=follow)
        if (found.st_uid, found.st_gid) != (uid, gid):
            os.chown(path, uid, gid, follow_symlinks=follow)
        for name, value in entry.xattrs:
            try:
                os.setxattr(path, name, value, follow_symlinks=follow)
            except OSError as error:
                if error.errno not in _UNSUPPORTED:
                    raise
        if entry.kind != tar.SYMLINK:
            os.chmod(path, entry.mode)
        os.utime(path, ns=(entry.mtime, entry.mtime), follow_symlinks=follow)


def _copy(source: int, start: int, target: int, at: int, length: int) -> None:
    """Copy a range, in the kernel where it can; a source that has become shorter ends it."""
    end = start + length
    while start < end:
        try:
            done = os.copy_file_range(source, target, min(end - start, _CHUNK), start, at)
        except OSError as error:
            if error.errno not in (
                errno.EXDEV,
                errno.EINVAL,
                errno.EOPNOTSUPP,
                errno.ENOSYS,
                errno.EIO,
            ):
                raise
            done = os.pwrite(target, os.pread(source, min(end - start, 1 << 20), start), at)
        if not done:
            break
        start += done
        at += done
