# SPDX-License-Identifier: GPL-3.0-or-later
"""Passthrough: which open files the kernel reads and writes by itself, in the layer's own file.

The kernel's rules (fs/fuse/iomode.c, fs/fuse/passthrough.c), which everything here serves:
- while a node has a passthrough open, every further open of it must name the same backing id;
- while it has a cached open, none may be passthrough.
So a node has one `Backing` for as long as anything is open on it, which says which of the two it
is. A backing id is kept for a while after the last close, since the next open of the file then
costs no system call for it; the kernel's reference to the file ends at the latest when the kernel
forgets the node.

When a file is copied up while somebody reads the lower one in passthrough, its node cannot be
opened on the new content. Such an open is answered ESTALE, on which the VFS looks the path up
again (path_openat with LOOKUP_REVAL) and meets the renewed node; see `Files`.
"""

from __future__ import annotations

import errno
import fcntl
import os

from unionfs.fuse import wire
from unionfs.node import File
from unionfs.typed import Final

# Backing ids kept open with nobody using them; each pins one open file in the kernel.
_WARM: Final = 512
_ioctl: Final = fcntl.ioctl
_CACHED: Final = 0  # in place of a backing id: read and written through the page cache


class Backing:
    """How the open files of one node are served.

    id      -- the kernel's backing id, or 0 for reads and writes by messages
    upper   -- whether the content is the upper layer's
    users   -- open files of the node
    mappers -- those of them that may map the file shared and writable
    keep    -- cached pages may be kept at an open: every open of this content is cached
    stale   -- the content has moved up since: no further open in passthrough
    """

    __slots__ = ("id", "keep", "mappers", "stale", "upper", "users")

    def __init__(self, id: int, upper: bool, keep: bool) -> None:
        self.id = id
        self.upper = upper
        self.users = 0
        self.mappers = 0
        self.keep = keep
        self.stale = False

    @property
    def open_flags(self) -> int:
        if self.id:
            return wire.FOPEN_PASSTHROUGH
        return wire.FOPEN_KEEP_CACHE if self.keep else 0


class StaleBacking(Exception):
    """The node is open in passthrough on content that is not its content any more."""


class Backings:
    """The backings of one session.

    active -- node id → its backing, for nodes that are open or whose id is kept warm
    """

    __slots__ = ("_fd", "_id", "_map", "_passthrough", "_unable", "_warm", "active")

    def __init__(self, fd: int, passthrough: bool) -> None:
        self._fd = fd
        self._map = bytearray(wire.BACKING_MAP.size)
        self._id = bytearray(wire.BACKING_ID.size)
        self._passthrough = passthrough
        self._unable: set[int] = set()
        self._warm: dict[int, Backing] = {}
        self.active: dict[int, Backing] = {}

    @property
    def passthrough(self) -> bool:
        """Whether any file can be opened in passthrough."""
        return self._passthrough

    def attach(self, number: int, file: File) -> Backing:
        """Count one more open file of the node with id `number`; how it is to be served.

        Raises StaleBacking, and counts nothing, if the kernel could not open it.
        """
        # Where only metadata was copied up the content is still below.
        node = file.node
        upper = node.data is None and node.part.layer.index == 0
        backing = self.active.get(number)
        if backing is not None and backing.upper is not upper and backing.id:
            if backing.users:
                raise StaleBacking
            self._close(number, backing)
            backing = None
        if backing is None:
            backing = self.active[number] = self._make(file.fd, upper)
        elif not backing.users:
            self._warm.pop(number, None)
        backing.users += 1
        return backing

    def detach(self, node: int, backing: Backing) -> None:
        """One open file less; `node` is its node's id."""
        backing.users -= 1
        if backing.users:
            return
        if not backing.id or backing.stale:
            self._close(node, backing)
            return
        self._warm[node] = backing
        if len(self._warm) > _WARM:
            oldest = next(iter(self._warm))
            self._close(oldest, self._warm[oldest])

    def uncouple(self, node: int, backing: Backing) -> Backing | None:
        """Another backing for the node's only open file, without passthrough; None if not alone."""
        if backing.users > 1:
            return None
        self._close(node, backing)
        other = self.active[node] = Backing(_CACHED, backing.upper, False)
        other.users = 1
        return other

    def forget(self, node: int) -> None:
        """The kernel has forgotten the node; what is kept warm for it is closed."""
        backing = self.active.get(node)
        if backing is not None and not backing.users:
            self._close(node, backing)

    def _make(self, fd: int, upper: bool) -> Backing:
        if not self._passthrough:
            return Backing(_CACHED, upper, True)
        if self._unable and os.fstat(fd).st_dev in self._unable:
            return Backing(_CACHED, upper, True)
        request = self._map
        wire.BACKING_MAP.pack_into(request, 0, fd, 0, 0)
        try:
            return Backing(_ioctl(self._fd, wire.DEV_IOC_BACKING_OPEN, request), upper, False)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EPERM, errno.EOPNOTSUPP):
                # Never on this filesystem (its stack is too deep), or never at all.
                if error.errno == errno.ELOOP:
                    self._unable.add(os.fstat(fd).st_dev)
                else:
                    self._passthrough = False
            return Backing(_CACHED, upper, False)

    def _close(self, node: int, backing: Backing) -> None:
        self._warm.pop(node, None)
        if self.active.get(node) is backing:
            del self.active[node]
        if backing.id:
            wire.BACKING_ID.pack_into(self._id, 0, backing.id)
            backing.id = 0
            try:
                _ioctl(self._fd, wire.DEV_IOC_BACKING_CLOSE, self._id)
            except OSError as error:
                if error.errno not in (errno.ENOENT, errno.ENOTCONN):
                    raise
