# SPDX-License-Identifier: GPL-3.0-or-later
"""Reading the marks of a layer: what is a whiteout, which directory is opaque, which is redirected.

Two on-disk formats with one face: `OverlayMarks` (the kernel's, overlayfs.rst "whiteouts and opaque
directories") and `AufsMarks` (names with ``.wh.``). A union reads and writes one of them; reading
``aufs`` also understands the kernel's marks. Writing marks is in `whiteout`, what follows from them
in `lookup`.
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs import names
from unionfs.layer import Part, proc_path
from unionfs.sys import calls
from unionfs.typed import Final, NamedTuple

_UNSUPPORTED: Final = frozenset((errno.ENOTSUP, errno.EPERM, errno.EACCES, errno.ENOSYS))


class DirectoryMarks(NamedTuple):
    """What a directory in a layer says of itself.

    opaque     -- nothing below it is seen
    xwhiteouts -- regular files in it may be whiteouts (overlay.opaque=x)
    redirect   -- the name or absolute path to seek in the layers below instead of its own
    impure     -- has, or had, children whose inode numbers come from their origin
    """

    opaque: bool = False
    xwhiteouts: bool = False
    redirect: bytes | None = None
    impure: bool = False


class FileMarks(NamedTuple):
    """What a non-directory in a layer says of itself, as raw mark values."""

    origin: bytes | None = None
    metacopy: bytes | None = None
    redirect: bytes | None = None
    nlink: bytes | None = None


PLAIN_DIRECTORY: Final = DirectoryMarks()
PLAIN_FILE: Final = FileMarks()


def list_xattrs(path: bytes, follow: bool) -> list[bytes]:
    """Names of the xattrs of an object; none where the filesystem has no xattrs."""
    try:
        return [os.fsencode(name) for name in os.listxattr(path, follow_symlinks=follow)]
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return []
        raise


def get_xattr(path: bytes, name: bytes, follow: bool) -> bytes | None:
    """One xattr, None if it is not there or cannot be."""
    try:
        return os.getxattr(path, name, follow_symlinks=follow)
    except OSError as error:
        if error.errno == errno.ENODATA or error.errno in _UNSUPPORTED:
            return None
        raise


def is_device_whiteout(found: os.stat_result) -> bool:
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


class OverlayMarks:
    """The kernel's marks: character device 0:0 or overlay.whiteout, and overlay.* xattrs.

    prefix -- b"trusted.overlay." or, with userxattr, b"user.overlay."
    """

    wh = False

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self._opaque = prefix + names.OPAQUE
        self._redirect = prefix + names.REDIRECT
        self._impure = prefix + names.IMPURE
        self._whiteout = prefix + names.WHITEOUT
        self._reported: set[tuple[int, int]] = set()

    def is_whiteout(self, part: Part, name: bytes, found: os.stat_result) -> bool:
        """Whether the object found under a name in a layer stands for its absence."""
        if is_device_whiteout(found):
            return True
        if not part.xwhiteouts or found.st_size or not stat.S_ISREG(found.st_mode):
            return False
        return get_xattr(proc_path(part.open(), name), self._whiteout, False) is not None

    def hides(self, part: Part, name: bytes) -> bool:
        """Whether ``part`` has a mark beside the name that hides it in the layers below."""
        return False

    def reserved(self, name: bytes) -> bool:
        """Whether a user may not give this name to an object."""
        return False

    def of_directory(self, dirfd: int, name: bytes) -> DirectoryMarks:
        """Marks of the directory ``name`` in ``dirfd``; of ``dirfd`` itself if name is b"."."""
        if calls.lacks_xattrs(dirfd, name):
            return PLAIN_DIRECTORY
        path = proc_path(dirfd, name)
        found = list_xattrs(path, False)
        opaque = xwhiteouts = impure = False
        redirect: bytes | None = None
        for xattr in found:
            if xattr == self._opaque:
                value = get_xattr(path, xattr, False)
                opaque = value == b"y"
                xwhiteouts = value == b"x"
            elif xattr == self._redirect:
                redirect = self._followable(path, get_xattr(path, xattr, False))
            elif xattr == self._impure:
                impure = True
            elif xattr == names.FUSE_OVERLAYFS + names.OPAQUE:
                opaque = opaque or get_xattr(path, xattr, False) == b"y"
        return DirectoryMarks(opaque, xwhiteouts, redirect, impure)

    def of_file(self, dirfd: int, name: bytes) -> FileMarks:
        """Marks of the non-directory ``name`` in ``dirfd``."""
        if calls.lacks_xattrs(dirfd, name):
            return PLAIN_FILE
        path = proc_path(dirfd, name)
        prefix = self.prefix
        values: dict[bytes, bytes | None] = {}
        for xattr in list_xattrs(path, False):
            if xattr.startswith(prefix):
                values[xattr[len(prefix) :]] = get_xattr(path, xattr, False)
        if not values:
            return PLAIN_FILE
        return FileMarks(
            values.get(names.ORIGIN),
            values.get(names.METACOPY),
            self._followable(path, values.get(names.REDIRECT)),
            values.get(names.NLINK),
        )

    def _followable(self, path: bytes, value: bytes | None) -> bytes | None:
        """A redirect, or None for a damaged one, of which the log is told once."""
        redirect = valid_redirect(value)
        if value is not None and redirect is None:
            found = os.lstat(path)
            if (found.st_dev, found.st_ino) not in self._reported:
                self._reported.add((found.st_dev, found.st_ino))
                import logging  # for the rare case only: it is slow to load

                where = os.path.basename(path)
                logging.getLogger("unionfs").warning("ignored the redirect %r of %r", value, where)
        return redirect


class AufsMarks(OverlayMarks):
    """Marks by name: ``.wh.NAME`` hides NAME below, ``.wh..wh..opq`` makes its directory opaque.

    An object beside its own ``.wh.`` mark wins in that layer and hides what is below: so a rename
    may write the mark first and a crash between the two steps shows the tree as it was.
    """

    wh = True

    def hides(self, part: Part, name: bytes) -> bool:
        return exists(part.open(), names.WH + name)

    def reserved(self, name: bytes) -> bool:
        return name.startswith(names.WH)

    def of_directory(self, dirfd: int, name: bytes) -> DirectoryMarks:
        marks = super().of_directory(dirfd, name)
        if not marks.opaque and exists(dirfd, name + b"/" + names.WH_OPAQUE):
            return marks._replace(opaque=True)
        if not marks.opaque and name != b"." and exists(dirfd, names.WH + name):
            return marks._replace(opaque=True)
        return marks


Marks = OverlayMarks | AufsMarks


def exists(dirfd: int, name: bytes) -> bool:
    """Whether a name is there; a name too long to exist is not."""
    try:
        os.stat(name, dir_fd=dirfd, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            return False
        raise
    return True


def valid_redirect(value: bytes | None) -> bytes | None:
    """A redirect that can be followed: one name, or an absolute path without empty or dot parts.

    Anything else is a damaged mark, and the entry is served as if it had none.
    """
    if not value:
        return None
    if value.startswith(b"/"):
        steps = value[1:].split(b"/")
        return None if any(step in (b"", b".", b"..") for step in steps) else value
    if b"/" in value or value in (b".", b".."):
        return None
    return value
