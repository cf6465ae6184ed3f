# SPDX-License-Identifier: GPL-3.0-or-later
"""`Union`: one verb for each file operation, in domain terms, synchronous, raising ``OSError``.

This is the face of the driver's core. It knows nothing of FUSE; a transport translates requests to
these verbs and results to replies. What each verb does is in the rooms named after it. All verbs
are called from one thread; only the data methods of `File` and `CopyUp.copy` may be called from
others.

A `Union` prepares its process: the umask becomes 0, since modes come complete from the caller, and
the soft limit of open files becomes the hard one.
"""

from __future__ import annotations

import errno
import os
import resource
import stat

from unionfs import attributes, copyup, make, remove, rename, xattrs
from unionfs.config import MountConfig
from unionfs.copyup import Completion, CopyUp
from unionfs.lookup import find, node_of
from unionfs.node import Caller, Directory, File, Node, Stat, read_symlink
from unionfs.readdir import Listing
from unionfs.stack import Stack
from unionfs.sys import calls
from unionfs.typed import Final

__all__ = [
    "NOW",
    "Caller",
    "Completion",
    "CopyUp",
    "Directory",
    "File",
    "Listing",
    "Node",
    "Stat",
    "Union",
]

NOW: Final = calls.NOW
"""As a time: the moment of the change."""

_DIRECTORY_WANTED: Final = errno.ENOTDIR
_DOTS: Final = frozenset((b".", b".."))
_CHANGES: Final = os.O_ACCMODE | os.O_TRUNC
_REGULAR: Final = stat.S_IFREG >> 12


class Union:
    """The merged tree of a stack of layers.

    config -- what it was made from
    root   -- its top directory
    nodes  -- node id → living node, for transports
    """

    def __init__(self, config: MountConfig) -> None:
        """Open and check the layers; raises `UnionError` with one line for a person."""
        os.umask(0)
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        self.config = config
        self._stack = Stack(config)
        self.root: Node = self._stack.root
        self.nodes: dict[int, Node] = self._stack.nodes

    def refuse_mountpoint(self, path: bytes) -> None:
        """Raise `UnionError` if mounting there would make the daemon wait for itself.

        That is inside a layer which is not a private clone of its mount: reading the layer would
        then come back as a request of the union.
        """
        self._stack.refuse_mountpoint(path)

    def close(self) -> None:
        """Release every descriptor and lock; idempotent."""
        self._stack.close()

    # -- names

    def lookup(self, parent: Node, name: bytes) -> tuple[Node, Stat] | None:
        """The object of a name; None if there is none. "." and ".." work."""
        stack = self._stack
        if not isinstance(parent, Directory):
            raise make.error(_DIRECTORY_WANTED)
        node: Node
        if name in _DOTS:
            node = parent if name == b"." or parent.parent is None else parent.parent
            return node, attributes.status(stack, node)
        found = find(stack, parent, name)
        if found is None:
            return None
        node = node_of(stack, parent, name, found)
        status = found.stat
        if node.real == status.st_ino:
            return node, attributes.shown(stack, node, status)
        return node, attributes.status(stack, node)

    def forget(self, node: Node, count: int) -> None:
        """The kernel drops ``count`` references; a node nobody refers to is dropped."""
        self._stack.forget(node, count)

    def renew(self, node: Node) -> Node:
        """Give a file a fresh node id; former ids lead to the same node until it is forgotten."""
        return self._stack.renew(node)

    def opendir(self, node: Node) -> Listing:
        return Listing(self._stack, _directory(node))

    # -- attributes

    def stat(self, node: Node, file: File | None = None) -> Stat:
        return attributes.status(self._stack, node, file)

    def birthtime(self, node: Node) -> int | None:
        """When the object was made, in ns since the epoch; None if the layer does not tell."""
        return node.birthtime()

    def setattr(
        self,
        node: Node,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        file: File | None = None,
        kill_suidgid: bool = False,
    ) -> Stat:
        """chmod(2), chown(2), truncate(2), utimensat(2); times in ns or `NOW`."""
        return attributes.setattr(
            self._stack,
            node,
            mode=mode,
            uid=uid,
            gid=gid,
            size=size,
            atime_ns=atime_ns,
            mtime_ns=mtime_ns,
            file=file,
            kill_suidgid=kill_suidgid,
        )

    def getxattr(self, node: Node, name: bytes) -> bytes:
        return xattrs.getxattr(self._stack, node, name)

    def listxattr(self, node: Node) -> list[bytes]:
        return xattrs.listxattr(self._stack, node)

    def setxattr(self, node: Node, name: bytes, value: bytes, flags: int = 0) -> None:
        attributes.setxattr(self._stack, node, name, value, flags)

    def removexattr(self, node: Node, name: bytes) -> None:
        attributes.removexattr(self._stack, node, name)

    def readlink(self, node: Node) -> bytes:
        if node.kind != stat.S_IFLNK >> 12:
            raise make.error(errno.EINVAL)
        return read_symlink(node)

    def statfs(self) -> os.statvfs_result:
        """Of the filesystem that changes go to; of the topmost lower without an upper."""
        return os.fstatvfs(self._stack.layers[0].root)

    # -- making and removing

    def create(
        self, parent: Node, name: bytes, mode: int, flags: int, caller: Caller
    ) -> tuple[Node, Stat, File]:
        """open(2) with O_CREAT: make the file, or open what is there unless O_EXCL.

        Truncating what is there takes its set-id bits away, whoever asks: a kernel that knows of it
        sends no create.
        """
        stack, above = self._stack, _directory(parent)
        try:
            node, found, file = make.create(stack, above, name, mode, flags, caller)
        except FileExistsError:
            if flags & os.O_EXCL:
                raise
            existing = find(stack, above, name)
            if existing is None:
                raise
            node = node_of(stack, above, name, existing)
            file = self.open(node, flags & ~os.O_CREAT, caller)
            if flags & os.O_TRUNC:
                return node, self.setattr(node, file=file, kill_suidgid=True), file
            return node, self.stat(node), file
        return node, attributes.shown(stack, node, found), file

    def mkdir(self, parent: Node, name: bytes, mode: int, caller: Caller) -> tuple[Node, Stat]:
        node, found = make.mkdir(self._stack, _directory(parent), name, mode, caller)
        return node, attributes.shown(self._stack, node, found)

    def mknod(
        self, parent: Node, name: bytes, mode: int, rdev: int, caller: Caller
    ) -> tuple[Node, Stat]:
        node, found = make.mknod(self._stack, _directory(parent), name, mode, rdev, caller)
        return node, attributes.shown(self._stack, node, found)

    def symlink(
        self, parent: Node, name: bytes, target: bytes, caller: Caller
    ) -> tuple[Node, Stat]:
        node, found = make.symlink(self._stack, _directory(parent), name, target, caller)
        return node, attributes.shown(self._stack, node, found)

    def link(self, node: Node, parent: Node, name: bytes) -> tuple[Node, Stat]:
        found = make.link(self._stack, node, _directory(parent), name)
        return node, attributes.shown(self._stack, node, found)

    def tmpfile(
        self, parent: Node, mode: int, flags: int, caller: Caller
    ) -> tuple[Node, Stat, File]:
        """open(2) with O_TMPFILE."""
        node, found, file = make.tmpfile(self._stack, _directory(parent), mode, flags, caller)
        return node, attributes.shown(self._stack, node, found), file

    def unlink(self, parent: Node, name: bytes) -> None:
        remove.unlink(self._stack, _directory(parent), name)

    def rmdir(self, parent: Node, name: bytes) -> None:
        remove.rmdir(self._stack, _directory(parent), name)

    def rename(
        self, parent: Node, name: bytes, newparent: Node, newname: bytes, flags: int = 0
    ) -> None:
        rename.rename(self._stack, _directory(parent), name, _directory(newparent), newname, flags)

    def moved_up_by_rename(self, parent: Node, name: bytes) -> Node | None:
        """The lower file that renaming a name would copy up; None if there is no such thing."""
        if not isinstance(parent, Directory) or not parent.merged or parent.has_in_upper(name):
            return None
        found = find(self._stack, parent, name)
        if found is None or found.is_dir or not found.part.layer.index:
            return None
        return node_of(self._stack, parent, name, found)

    # -- content

    def open(self, node: Node, flags: int, caller: Caller | None = None) -> File:
        """Open a regular file; for writing it is copied up, with O_TRUNC without its content.

        The file's descriptor belongs to it and is closed by `release`. Permission has been checked
        by the kernel on the merged attributes.
        """
        stack = self._stack
        if node.kind != _REGULAR:
            if node.is_dir:
                raise make.error(errno.EISDIR)
            raise make.error(errno.ELOOP if node.kind == stat.S_IFLNK >> 12 else errno.ENXIO)
        if flags & _CHANGES:
            if not stack.writable:
                raise make.error(errno.EROFS)
            truncate = flags & os.O_TRUNC
            copyup.copy_up(stack, node, 0 if truncate else None)
            fd = node.open_content(make.open_flags(flags) | truncate)
        else:
            fd = node.open_content(make.open_flags(flags))
        return make.opened(stack, node, fd, flags)

    def hold(self, node: Node, flags: int) -> File:
        """Open a regular file for reading whose descriptor will most likely not be needed.

        For a transport that lets the kernel read by itself. The file is as good as one from `open`:
        the node keeps the object within reach, and the descriptor is opened at its first use.
        """
        return make.opened(self._stack, node, -1, flags)

    def release(self, file: File) -> None:
        """Close an open file; a node that only this file kept is dropped."""
        node = file.node
        file.close()
        if node.files is not None:
            if file in node.files:
                node.files.remove(file)
            if not node.files:
                node.files = None
                if node.nlookup <= 0:
                    self._stack.settle(node)

    def content_stays(self, node: Node) -> bool:
        """Whether a change of the node's metadata alone copies no content up."""
        return copyup.stays_below(self._stack, node)

    def copy_up_job(self, node: Node, size: int | None = None) -> CopyUp | Completion | None:
        """The copy-up that a verb about to be called would make, if it is long; else None.

        Run ``copy`` in any thread, then ``publish`` on the serving thread, then call the verb.
        """
        stack = self._stack
        if node.kind != stat.S_IFREG >> 12 or not stack.writable:
            return None
        if node.is_upper:
            if node.data is None:
                return None
            completion = Completion(stack, node, size)
            if completion.long:
                return completion
            completion.abandon()
            return None
        found = node.real_stat()
        wanted = found.st_size if size is None else min(size, found.st_size)
        if min(wanted, found.st_blocks * 512) <= copyup.INLINE:
            return None
        return CopyUp(stack, node, size)

    # -- the disc

    def fsyncdir(self, node: Node, datasync: bool) -> None:
        """fsync(2) of a directory: its upper part, if there is one."""
        directory = _directory(node)
        part = directory.upper
        if part is None or self.config.volatile or directory.gone:
            return
        fd = directory.open_real(os.O_RDONLY | os.O_DIRECTORY)
        try:
            if datasync:
                os.fdatasync(fd)
            else:
                os.fsync(fd)
        finally:
            os.close(fd)

    def syncfs(self) -> None:
        """syncfs(2) of the upper's filesystem."""
        stack = self._stack
        if stack.upper is None or self.config.volatile:
            return
        calls.syncfs(stack.upper.readable())


def _directory(node: Node) -> Directory:
    if isinstance(node, Directory):
        return node
    raise make.error(_DIRECTORY_WANTED)
