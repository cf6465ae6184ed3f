# SPDX-License-Identifier: GPL-3.0-or-later
"""One directory tree of the stack, and the descriptors by which its directories are reached.

A `Layer` is a root descriptor and what its filesystem can do. A `Part` is one directory of one
layer; it is what a merged directory is made of. Parts open themselves when first used, through the
layer's root and never across a mount or a symbolic link, and `Descriptors` bounds how many stay
open. Which parts make up a merged directory is not known here (see `lookup`).

Every syscall below takes a descriptor and a single name, so no path length, rename above or mount
below can lead it astray.
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs.errors import UnionError
from unionfs.sys import calls
from unionfs.typed import Callable, Final

O_DIRECTORY_PATH: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STRICT: Final = calls.RESOLVE_BENEATH | calls.RESOLVE_NO_SYMLINKS | calls.RESOLVE_NO_XDEV
# Paths beyond PATH_MAX are walked in pieces of at most this many bytes.
_PIECE: Final = 3072


def proc_path(dirfd: int, name: bytes) -> bytes:
    """A path for the calls that take no directory descriptor (xattrs); proc(5), /proc/self/fd."""
    return b"/proc/self/fd/%d/%s" % (dirfd, name)


def open_beneath(root: int, path: bytes) -> int:
    """Open the directory ``path`` below ``root`` (O_PATH): any length, no symlinks, no mounts."""
    if not path:
        return os.open(b".", O_DIRECTORY_PATH, dir_fd=root)
    if len(path) <= _PIECE:
        return calls.openat2(root, path, O_DIRECTORY_PATH, _STRICT)
    fd = -1
    rest = path
    while rest:
        piece, rest = _split(rest)
        below = calls.openat2(root if fd < 0 else fd, piece, O_DIRECTORY_PATH, _STRICT)
        if fd >= 0:
            os.close(fd)
        fd = below
    return fd


def _split(path: bytes) -> tuple[bytes, bytes]:
    if len(path) <= _PIECE:
        return path, b""
    cut = path.rindex(b"/", 0, _PIECE)
    return path[:cut], path[cut + 1 :]


class Descriptors:
    """How many directory descriptors are kept open at once, oldest given up first.

    limit -- soft bound; `trim` brings the number down to it. It runs only where no verb holds a
             bare descriptor number, so a number is never closed under a caller.
    full  -- whether `trim` has something to do
    """

    __slots__ = ("_open", "full", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.full = False
        self._open: dict[Part, None] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, part: Part) -> None:
        self._open[part] = None
        if len(self._open) > self.limit:
            self.full = True

    def drop(self, part: Part) -> None:
        self._open.pop(part, None)

    def trim(self) -> None:
        while len(self._open) > self.limit:
            next(iter(self._open)).close()
        self.full = False

    def close(self) -> None:
        for part in list(self._open):
            part.close()


class Layer:
    """One tree: the upper or a lower.

    path       -- where a person knows it, for messages
    root       -- O_PATH descriptor of its top directory, owned by the layer
    index      -- place in the stack; 0 is the upper's, lowers count from 1 downwards
    device     -- st_dev of the root, by which layers on one filesystem are recognised
    filesystem -- number of the filesystem in this union (0 is the upper's), part of inode numbers
    uuid       -- 16 bytes of the filesystem, as in the kernel's origin marks
    private    -- opened through a clone of its mount, so that nothing mounted below shows
    clones     -- whether content may be shared with the upper; cleared when that is refused
    handles    -- whether its filesystem gives file handles; cleared when it refuses
    """

    __slots__ = (
        "_readable",
        "clones",
        "device",
        "filesystem",
        "handles",
        "index",
        "inode",
        "path",
        "private",
        "root",
        "uuid",
    )

    def __init__(self, path: bytes, root: int, index: int, *, private: bool) -> None:
        self.path = path
        self.private = private
        self.root = root
        self.index = index
        found = os.stat(root)
        self.device = found.st_dev
        self.inode = found.st_ino
        self.filesystem = 0
        self.uuid = bytes(16)
        self.clones = True
        self.handles = True
        self._readable = -1

    def readable(self) -> int:
        """A descriptor of the root that is not O_PATH, for ioctls and handles; the layer's."""
        if self._readable < 0:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
            self._readable = os.open(b".", flags, dir_fd=self.root)
        return self._readable

    def close(self) -> None:
        for fd in (self.root, self._readable):
            if fd >= 0:
                os.close(fd)
        self.root = self._readable = -1


class Part:
    """One directory in one layer.

    Where the layer is not a private clone and something is mounted on the directory, opening it
    ends in EXDEV, and whoever asks takes it for empty.

    layer -- where it is
    path  -- below the layer's root, without slashes at the ends, or a function that tells: an
             upper directory moves with its merged directory, a lower one never moves
    fd    -- O_PATH descriptor, -1 while closed; read it directly on hot paths, else use `open()`
    xwhiteouts -- regular files in it may be whiteouts (overlay.opaque=x)
    """

    __slots__ = ("__weakref__", "_keeper", "fd", "layer", "path", "xwhiteouts")

    def __init__(
        self, layer: Layer, path: bytes | Callable[[], bytes], keeper: Descriptors
    ) -> None:
        self.layer = layer
        self.path = path
        self.fd = -1
        self.xwhiteouts = False
        self._keeper = keeper

    def where(self) -> bytes:
        """Path below the layer's root."""
        path = self.path
        return path if isinstance(path, bytes) else path()

    def open(self) -> int:
        """The descriptor, opened if need be; valid until the next `Descriptors.trim`."""
        if self.fd < 0:
            self.fd = open_beneath(self.layer.root, self.where())
            self._keeper.add(self)
        return self.fd

    def adopt(self, fd: int) -> None:
        """Take over a descriptor of this directory that is already open."""
        self.close()
        self.fd = fd
        self._keeper.add(self)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._keeper.drop(self)


def open_layer(path: bytes, index: int) -> Layer:
    """Open a lower layer: a private read-only clone of its mount, or plainly without CAP_SYS_ADMIN.

    Raises UnionError naming the directory.
    """
    _directory(path, "lower layer")
    root, private = _clone(path, read_only=True)
    return Layer(path, root, index, private=private)


def open_pair(upper: bytes, work: bytes) -> tuple[Layer, int]:
    """Open upper and work through one clone of their mount, so that renames between them work.

    Returns the upper layer and an O_PATH descriptor of work, which the caller owns. Raises
    UnionError if either is missing or they are not on one mount (overlayfs.rst, "workdir").
    """
    _directory(upper, "upper directory")
    _directory(work, "work directory")
    real_upper, real_work = os.path.realpath(upper), os.path.realpath(work)
    ids = [calls.statx(calls.AT_FDCWD, path, 0).mount_id for path in (real_upper, real_work)]
    devices = [os.stat(path).st_dev for path in (real_upper, real_work)]
    if ids[0] != ids[1] or devices[0] != devices[1]:
        raise UnionError("use work directory", work, "it is not on the upper directory's mount")
    common = os.path.commonpath([real_upper, real_work])
    if calls.statx(calls.AT_FDCWD, common, 0).mount_id != ids[0]:
        raise UnionError("use work directory", work, "a mount lies between it and the upper")
    base, private = _clone(common, read_only=False)
    try:
        root = open_beneath(base, os.path.relpath(real_upper, common))
        try:
            workfd = open_beneath(base, os.path.relpath(real_work, common))
        except BaseException:
            os.close(root)
            raise
    except OSError as error:
        raise UnionError("open upper directory", upper, error) from error
    finally:
        os.close(base)
    return Layer(upper, root, 0, private=private), workfd


def _directory(path: bytes, role: str) -> None:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise UnionError(f"use {role}", path, error) from error
    if not stat.S_ISDIR(mode):
        raise UnionError(f"use {role}", path, os.strerror(errno.ENOTDIR))


def _clone(path: bytes, *, read_only: bool) -> tuple[int, bool]:
    """An O_PATH descriptor of ``path``, and whether it is of a private clone of the mount."""
    try:
        return calls.clone_mount(path, read_only=read_only), True
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EINVAL):
            raise UnionError("open layer", path, error) from error
    try:
        return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC), False
    except OSError as error:
        raise UnionError("open layer", path, error) from error
