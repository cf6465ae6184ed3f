# SPDX-License-Identifier: GPL-3.0-or-later
"""A directory → the entries of a layer's archive, always in the same order.

A directory's own entry comes first, then what it holds by name, then the directories in it one
after another. Hard links to one file follow its first name. In a directory that is a layer
(`marks`) the union's marks become the names with `.wh.` of the OCI image specification (layer.md).
"""

from __future__ import annotations

import errno
import os
import stat

from launcher.errors import shown
from launcher.image import tar
from launcher.image.layermarks import OPAQUE_NAME, WHITEOUT, Marks, is_whiteout, owned
from launcher.image.tar import Damaged, Entry
from launcher.image.tarwrite import Writer, data_extents
from launcher.sys import files
from launcher.typed import Final, NamedTuple

__all__ = ["Packed", "describe", "pack"]

_LISTING: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK
_STRICT: Final = files.BENEATH | files.NO_SYMLINKS | files.NO_XDEV


class Packed(NamedTuple):
    """What was left out, each said once."""

    notes: tuple[str, ...]


def pack(root: int, writer: Writer, marks: Marks | None = None) -> Packed:
    """Write all that is below a directory.

    root  -- its descriptor, not O_PATH; the caller's
    marks -- for a layer: how the marks in it are written. Without, what a union would take for a
             mark is refused
    Mounts below it are left out, as are sockets, which no archive can hold. Raises `Damaged` for
    what cannot be packed, or OSError.
    """
    return _Packing(root, writer, marks).run()


class _Packing:
    def __init__(self, root: int, writer: Writer, marks: Marks | None) -> None:
        self.root = root
        self.writer = writer
        self.marks = marks
        self.notes: dict[str, None] = {}
        self._links: dict[tuple[int, int], bytes] = {}

    def run(self) -> Packed:
        pending: list[bytes] = [b""]
        while pending:
            path = pending.pop()
            try:
                fd = files.openat2(self.root, path or b".", _LISTING, _STRICT)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                self.notes[f"what is mounted on {shown(path)} was left out"] = None
                continue
            try:
                below = self._directory(fd, path)
            finally:
                os.close(fd)
            pending.extend(reversed(below))
        return Packed(tuple(self.notes))

    def _directory(self, fd: int, path: bytes) -> list[bytes]:
        """Write a directory and what it holds; the directories in it are returned instead."""
        self.writer.add(describe(fd, b"", path + b"/" if path else b"./", os.fstat(fd)))
        prefix = path + b"/" if path else b""
        marks = self.marks
        if marks is not None:
            self._check_marks(fd, path, marks)
            if marks.is_opaque(fd):
                self.writer.add(Entry(prefix + OPAQUE_NAME, tar.FILE, 0o600))
        below: list[bytes] = []
        for name in sorted(map(os.fsencode, os.listdir(fd))):
            found = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                below.append(prefix + name)
            else:
                self._object(fd, prefix, name, found)
        return below

    def _check_marks(self, fd: int, path: bytes, marks: Marks) -> None:
        """What an archive has no word for: a renamed directory keeps its content elsewhere."""
        for name in _xattr_names(b"/proc/self/fd/%d" % fd, True):
            if name == marks.prefix + b"redirect":
                raise Damaged(f"{shown(path)}: a renamed directory, whose content lies elsewhere")

    def _object(self, fd: int, prefix: bytes, name: bytes, found: os.stat_result) -> None:
        path = prefix + name
        marks = self.marks
        if marks is None:
            if is_whiteout(found):
                raise Damaged(f"{shown(path)}: a device 0:0, which a union takes for a mark")
            if name.startswith(WHITEOUT):
                raise Damaged(f"{shown(path)}: a name that is reserved for marks")
        elif is_whiteout(found) or (
            found.st_size == 0 and stat.S_ISREG(found.st_mode) and marks.is_whiteout_file(fd, name)
        ):
            self.writer.add(Entry(prefix + WHITEOUT + name, tar.FILE, 0o600))
            return
        elif name.startswith(WHITEOUT):
            raise Damaged(f"{shown(path)}: a name that is reserved for marks")
        if stat.S_IFMT(found.st_mode) not in tar.KINDS:
            self.notes["sockets were left out"] = None
            return
        if found.st_nlink > 1:
            key = (found.st_dev, found.st_ino)
            first = self._links.setdefault(key, path)
            if first != path:
                entry = describe(fd, name, path, found)
                self.writer.add(entry._replace(kind=tar.HARD_LINK, size=0, link=first, xattrs=()))
                return
        if not stat.S_ISREG(found.st_mode):
            self.writer.add(describe(fd, name, path, found))
            return
        content = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:
            found = os.fstat(content)
            if marks is not None and marks.prefix + b"metacopy" in _xattr_names(content, True):
                raise Damaged(f"{shown(path)}: its content is still in a lower layer")
            entry = describe(fd, name, path, found)
            if found.st_blocks * 512 < found.st_size:
                pieces = data_extents(content, found.st_size)
                if pieces != ((0, found.st_size),):
                    entry = entry._replace(sparse=pieces)
            self.writer.add(entry, content)
        finally:
            os.close(content)


def describe(directory: int, name: bytes, path: bytes, found: os.stat_result) -> Entry:
    """The entry of one object, with all its metadata but marks.

    directory, name -- where it is; b"" means the directory itself
    path            -- what it is called in the archive
    """
    mode = found.st_mode
    kind = tar.KINDS[stat.S_IFMT(mode)]
    where = b"/proc/self/fd/%d/%s" % (directory, name) if name else b"/proc/self/fd/%d" % directory
    device = (0, 0)
    if kind in (tar.CHARACTER_DEVICE, tar.BLOCK_DEVICE):
        device = (os.major(found.st_rdev), os.minor(found.st_rdev))
    return Entry(
        path,
        kind,
        stat.S_IMODE(mode),
        found.st_uid,
        found.st_gid,
        found.st_size if kind == tar.FILE else 0,
        found.st_mtime_ns,
        os.readlink(name, dir_fd=directory) if kind == tar.SYMLINK else b"",
        device,
        tuple(
            (xattr, os.getxattr(where, xattr, follow_symlinks=not name))
            for xattr in sorted(_xattr_names(where, not name))
            if not owned(xattr)
        ),
    )


def _xattr_names(where: int | bytes, follow: bool) -> list[bytes]:
    try:
        if isinstance(where, int):
            return list(map(os.fsencode, os.listxattr(where)))
        return list(map(os.fsencode, os.listxattr(where, follow_symlinks=follow)))
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.EPERM):
            return []
        raise
