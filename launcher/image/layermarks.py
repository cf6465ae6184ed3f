# SPDX-License-Identifier: GPL-3.0-or-later
"""The marks of an unpacked layer: written and read as the union and kernel overlayfs have them.

A whiteout is a character device 0:0, and an opaque directory carries `overlay.opaque` = y
(overlayfs.rst, "whiteouts and opaque directories"). The xattrs are `trusted.` ones for the
machine's root, and `user.` ones inside a user namespace, where the kernel keeps `trusted.` to
itself. In a layer's archive the same is said by names (OCI image specification, layer.md,
"Whiteouts").
"""

from __future__ import annotations

import errno
import os
import stat

from launcher.typed import Final

__all__ = ["OPAQUE_NAME", "RESERVED", "WHITEOUT", "Marks", "is_whiteout", "of_caller", "owned"]

WHITEOUT: Final = b".wh."
RESERVED: Final = b".wh..wh."
OPAQUE_NAME: Final = b".wh..wh..opq"

_TRUSTED: Final = b"trusted.overlay."
_USER: Final = b"user.overlay."
_OWNED: Final = (_TRUSTED, _USER, b"user.fuseoverlayfs.")


class Marks:
    """How marks are written here. `prefix` is that of their xattrs."""

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self._opaque = os.fsdecode(prefix + b"opaque")
        self._devices = True

    def write_whiteout(self, directory: int, name: bytes) -> None:
        """Hide `name`, which the directory, not an opaque one, does not have.

        Where devices cannot be made, by an empty file that the directory says may be a whiteout
        (overlayfs.rst, "nesting": overlay.whiteout).
        """
        if self._devices:
            try:
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=directory)
                return
            except PermissionError:
                self._devices = False
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o600, dir_fd=directory)
        try:
            os.setxattr(fd, self.prefix + b"whiteout", b"")
        finally:
            os.close(fd)
        os.setxattr(_path(directory), self._opaque, b"x")

    def write_opaque(self, directory: int) -> None:
        """Hide what lies below a directory."""
        os.setxattr(_path(directory), self._opaque, b"y")

    def is_opaque(self, directory: int) -> bool:
        """Whether a directory hides what lies below it."""
        return _value(_path(directory), self._opaque, True) == b"y"

    def is_whiteout_file(self, directory: int, name: bytes) -> bool:
        """Whether an empty regular file is a whiteout."""
        path = b"%s/%s" % (_path(directory), name)
        return _value(path, os.fsdecode(self.prefix + b"whiteout"), False) is not None


def of_caller() -> Marks:
    """The marks that this process can write: the machine's root writes trusted ones."""
    with open("/proc/self/uid_map", "rb") as file:
        whole = file.read().split() == [b"0", b"0", b"4294967295"]
    return Marks(_TRUSTED if whole and os.geteuid() == 0 else _USER)


def is_whiteout(found: os.stat_result) -> bool:
    """Whether an object in a layer is the device that hides a name."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def owned(xattr: bytes) -> bool:
    """Whether an xattr is one that a union obeys, which nobody but the store may write."""
    return xattr.startswith(_OWNED)


def _path(directory: int) -> bytes:
    return b"/proc/self/fd/%d" % directory


def _value(path: bytes, name: str, follow: bool) -> bytes | None:
    try:
        return os.getxattr(path, name, follow_symlinks=follow)
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.ENOTSUP, errno.EPERM, errno.EACCES):
            return None
        raise
