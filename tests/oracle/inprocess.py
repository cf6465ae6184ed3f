# SPDX-License-Identifier: GPL-3.0-or-later
"""The union in process, behind the verbs of a target.

What the kernel does before a file system is asked is done here as far as the verbs need it: walking
paths, following symbolic links, keeping lookup counts, and the checks of the manual pages that the
VFS makes itself (fs/namei.c, fs/open.c). Permission is not checked: everything runs as root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import Counter
from dataclasses import dataclass, field

from tests.oracle.targets import Listed, Place, Seen, Where
from tests.oracle.values import NOW, OMIT, UMASK, Time
from tests.support import syscall
from unionfs.changes import diff
from unionfs.config import MountConfig
from unionfs.union import NOW as UNION_NOW
from unionfs.union import Caller, File, Listing, Node, Stat, Union

_CALLER = Caller(0, 0, UMASK)
_MOST_LINKS = 40  # path_resolution(7)
_SPECIAL_ERROR = errno.ENXIO
_CAPABILITY = b"security.capability"
_CAPABILITY_SIZES = {1: 12, 2: 20, 3: 24}
NOREPLACE, EXCHANGE = 1, 2


def _fail(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclass
class _Found:
    """Where a path leads: the last directory, the last name, and what is there."""

    parent: Node
    name: bytes
    node: Node | None
    mode: int
    chain: list[Node]


@dataclass
class _Open:
    """An open descriptor; the kernel keeps the nodes of its path as long as it lives."""

    node: Node
    mode: int
    flags: int
    file: File | None = None
    listing: Listing | None = None
    chain: list[Node] = field(default_factory=list)

    @property
    def readable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_WRONLY

    @property
    def writable(self) -> bool:
        return self.flags & os.O_ACCMODE != os.O_RDONLY


class InProcess:
    """A `Union` called directly.

    Nodes are either kept until `forget`, or forgotten after each operation; each `forget` changes
    from one habit to the other.
    """

    def __init__(self, kind: str, *, metacopy: bool, userxattr: bool) -> None:
        self._metacopy = metacopy
        self._userxattr = userxattr
        self.name = "lamina in process"
        self.kind = kind
        self._mounted: Union | None = None
        self._place: Place | None = None
        self._held: Counter[Node] = Counter()
        self._slots: dict[int, _Open] = {}
        self._eager = False

    # -- the mount

    @property
    def _union(self) -> Union:
        assert self._mounted is not None
        return self._mounted

    def attach(self, place: Place) -> None:
        self._mounted = Union(
            MountConfig(
                lower=place.lowers,
                upper=place.upper,
                work=place.work,
                metacopy=self._metacopy,
                userxattr=self._userxattr,
                journal=True,
            )
        )
        self._place = place

    def detach(self) -> None:
        assert not self._slots
        self._drop()
        union, self._mounted = self._mounted, None
        assert union is not None
        self._check_journal()
        left = [node.id for node in union.nodes.values() if node is not union.root]
        union.close()
        if left:
            raise AssertionError(f"nodes live on though all were forgotten: {left}")

    def _check_journal(self) -> None:
        """What is told with the help of the journal is what a walk finds."""
        place = self._place
        assert place is not None
        told, walked = (
            diff(
                place.upper,
                place.lowers,
                work=place.work,
                userxattr=self._userxattr,
                detail=False,
                journaled=journaled,
            )
            for journaled in (True, False)
        )
        if told != walked:
            raise AssertionError(f"the journal leads to {told}, a walk to {walked}")

    def abandon(self) -> None:
        for slot in list(self._slots):
            with contextlib.suppress(Exception):
                self.close(slot)
        if self._mounted is not None:
            with contextlib.suppress(Exception):
                self._mounted.close()
            self._mounted = None

    def forget(self) -> None:
        self._eager = not self._eager
        self._drop()

    # -- lookup counts

    def _hold(self, node: Node) -> None:
        node.nlookup += 1
        self._held[node] += 1

    def _drop(self) -> None:
        """Forget what no descriptor keeps, children before parents as the kernel does."""
        pinned = {node for opened in self._slots.values() for node in opened.chain}
        for node in reversed(list(self._held)):
            if node not in pinned:
                self._drop_one(node)

    def _drop_one(self, node: Node) -> None:
        count = self._held.pop(node, 0)
        if count:
            self._union.forget(node, count)

    def _removed(self, node: Node) -> None:
        """A name of the node is gone: the kernel drops the node when nothing else needs it."""
        if all(node not in opened.chain for opened in self._slots.values()):
            self._drop_one(node)

    def _done(self) -> None:
        if self._eager:
            self._drop()

    # -- paths

    def _walk(self, path: bytes, *, follow: bool) -> _Found:
        union = self._union
        at = union.root
        mode = stat.S_IFDIR
        links = 0
        chain: list[Node] = []
        names = path.split(b"/")
        while True:
            name = names.pop(0)
            if not stat.S_ISDIR(mode):
                raise _fail(errno.ENOTDIR)
            if name in (b"", b"."):
                if not names:
                    return _Found(at, b".", at, mode, chain)
                continue
            found = union.lookup(at, name)
            if found is None:
                if names:
                    raise _fail(errno.ENOENT)
                return _Found(at, name, None, 0, chain)
            node, seen = found
            self._hold(node)
            if stat.S_ISLNK(seen.mode) and (names or follow):
                links += 1
                if links > _MOST_LINKS:
                    raise _fail(errno.ELOOP)
                names = union.readlink(node).split(b"/") + names
                continue
            chain.append(node)
            if not names:
                return _Found(at, name, node, seen.mode, chain)
            at, mode = node, seen.mode

    def _above(self, path: bytes) -> tuple[Node, bytes, list[Node]]:
        """The directory that holds the last name, that name, and the nodes on the way."""
        above, _, name = path.rpartition(b"/")
        found = self._walk(above or b".", follow=True)
        if found.node is None:
            raise _fail(errno.ENOENT)
        if not stat.S_ISDIR(found.mode):
            raise _fail(errno.ENOTDIR)
        return found.node, name, found.chain

    def _look(self, above: tuple[Node, bytes, list[Node]]) -> _Found:
        parent, name, chain = above
        if name == b".":
            return _Found(parent, name, parent, stat.S_IFDIR, chain)
        found = self._union.lookup(parent, name)
        if found is None:
            return _Found(parent, name, None, 0, chain)
        node, seen = found
        self._hold(node)
        return _Found(parent, name, node, seen.mode, [*chain, node])

    def _at(self, where: Where, follow: bool) -> tuple[Node, int, File | None]:
        """The node, its mode and, for a descriptor, its open file."""
        if isinstance(where, int):
            opened = self._slots[where]
            return opened.node, opened.mode, opened.file
        found = self._walk(where, follow=follow)
        if found.node is None:
            raise _fail(errno.ENOENT)
        return found.node, found.mode, None

    def _free(self, path: bytes) -> _Found:
        """Where a new name goes; EEXIST if it is taken (filename_create)."""
        found = self._walk(path, follow=False)
        if found.node is not None:
            raise _fail(errno.EEXIST)
        return found

    # -- descriptors

    def open(self, slot: int, path: bytes, flags: int, mode: int) -> None:
        creating = bool(flags & os.O_CREAT)
        exclusive = creating and bool(flags & os.O_EXCL)
        found = self._walk(path, follow=not (exclusive or flags & os.O_NOFOLLOW))
        node = found.node
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            self._open_nameless(slot, found, flags, mode)
            return
        if node is None:
            if not creating:
                raise _fail(errno.ENOENT)
            node, seen, file = self._union.create(found.parent, found.name, mode, flags, _CALLER)
            self._hold(node)
            chain = [*found.chain, node]
            self._slots[slot] = _Open(node, seen.mode, flags, file, None, chain)
            return
        directory = stat.S_ISDIR(found.mode)
        if exclusive:
            raise _fail(errno.EEXIST)
        if creating and directory:
            raise _fail(errno.EISDIR)
        if flags & os.O_DIRECTORY and not directory:
            raise _fail(errno.ENOTDIR)
        if stat.S_ISLNK(found.mode):
            raise _fail(errno.ELOOP)
        opened = _Open(node, found.mode, flags, None, None, found.chain)
        if directory:
            if opened.writable or flags & os.O_TRUNC:
                raise _fail(errno.EISDIR)
            opened.listing = self._union.opendir(node)
        elif stat.S_ISREG(found.mode):
            opened.file = self._union.open(node, flags & ~(os.O_CREAT | os.O_NOFOLLOW), _CALLER)
        else:
            raise _fail(_SPECIAL_ERROR)
        self._slots[slot] = opened

    def _open_nameless(self, slot: int, found: _Found, flags: int, mode: int) -> None:
        """O_TMPFILE (open(2)): the path is the directory's."""
        if found.node is None:
            raise _fail(errno.ENOENT)
        if not stat.S_ISDIR(found.mode):
            raise _fail(errno.ENOTDIR)
        if flags & os.O_ACCMODE == os.O_RDONLY:
            raise _fail(errno.EINVAL)
        node, seen, file = self._union.tmpfile(found.node, mode, flags, _CALLER)
        self._hold(node)
        self._slots[slot] = _Open(node, seen.mode, flags, file, None, [*found.chain, node])

    def close(self, slot: int) -> None:
        opened = self._slots.pop(slot)
        if opened.file is not None:
            self._union.release(opened.file)
        if opened.chain and self._union.stat(opened.node).nlink == 0:
            self._removed(opened.node)
        self._done()

    def pread(self, slot: int, size: int, offset: int) -> bytes:
        opened = self._slots[slot]
        if not opened.readable:
            raise _fail(errno.EBADF)
        if opened.file is None:
            raise _fail(errno.EISDIR)
        return opened.file.read(size, offset)

    def pwrite(self, slot: int, data: bytes, offset: int) -> int:
        opened = self._slots[slot]
        if not opened.writable or opened.file is None:
            raise _fail(errno.EBADF)
        if not data:
            return 0
        if opened.flags & os.O_APPEND:
            offset = self._union.stat(opened.node, opened.file).size
        return opened.file.write(data, offset)

    def fsync(self, slot: int, data_only: bool) -> None:
        opened = self._slots[slot]
        if opened.file is None:
            self._union.fsyncdir(opened.node, data_only)
        else:
            opened.file.fsync(data_only)

    def fallocate(self, slot: int, mode: int, offset: int, length: int) -> None:
        opened = self._slots[slot]
        if offset < 0 or length <= 0:
            raise _fail(errno.EINVAL)
        keep, punch = syscall.FALLOC_FL_KEEP_SIZE, syscall.FALLOC_FL_PUNCH_HOLE
        if mode & punch and not mode & keep:
            raise _fail(errno.EOPNOTSUPP)
        if not opened.writable or opened.file is None:
            raise _fail(errno.EBADF)
        opened.file.fallocate(mode, offset, length)

    def lseek(self, slot: int, offset: int, whence: int) -> int:
        opened = self._slots[slot]
        assert opened.file is not None, "directories are not sought in"
        return opened.file.lseek(offset, whence)

    def read(self, path: bytes) -> bytes:
        self.open(-2, path, os.O_RDONLY, 0)
        try:
            pieces = []
            offset = 0
            while piece := self.pread(-2, 1 << 20, offset):
                pieces.append(piece)
                offset += len(piece)
            return b"".join(pieces)
        finally:
            self.close(-2)

    # -- names

    def mkdir(self, path: bytes, mode: int) -> None:
        found = self._free(path)
        node, _ = self._union.mkdir(found.parent, found.name, mode, _CALLER)
        self._hold(node)
        self._done()

    def mknod(self, path: bytes, mode: int, device: int) -> None:
        found = self._free(path)
        node, _ = self._union.mknod(found.parent, found.name, mode, device, _CALLER)
        self._hold(node)
        self._done()

    def symlink(self, content: bytes, path: bytes) -> None:
        if not content:
            raise _fail(errno.ENOENT)
        found = self._free(path)
        node, _ = self._union.symlink(found.parent, found.name, content, _CALLER)
        self._hold(node)
        self._done()

    def link(self, source: Where, path: bytes, follow: bool) -> None:
        node, mode, _ = self._at(source, follow)
        found = self._free(path)
        if stat.S_ISDIR(mode):
            raise _fail(errno.EPERM)
        if self._union.stat(node).nlink == 0 and not self._linkable(source):
            raise _fail(errno.ENOENT)
        linked, _ = self._union.link(node, found.parent, found.name)
        self._hold(linked)
        self._done()

    def _linkable(self, source: Where) -> bool:
        """A file without a name may get its first one, unless it was opened with O_EXCL."""
        if not isinstance(source, int):
            return False
        flags = self._slots[source].flags
        return flags & os.O_TMPFILE == os.O_TMPFILE and not flags & os.O_EXCL

    def unlink(self, path: bytes) -> None:
        found = self._walk(path, follow=False)
        if found.name == b".":
            raise _fail(errno.EISDIR)
        if found.node is None:
            raise _fail(errno.ENOENT)
        if stat.S_ISDIR(found.mode):
            raise _fail(errno.EISDIR)
        self._union.unlink(found.parent, found.name)
        self._removed(found.node)
        self._done()

    def rmdir(self, path: bytes) -> None:
        found = self._walk(path, follow=False)
        if found.name == b".":
            raise _fail(errno.EINVAL)
        if found.node is None:
            raise _fail(errno.ENOENT)
        if not stat.S_ISDIR(found.mode):
            raise _fail(errno.ENOTDIR)
        self._union.rmdir(found.parent, found.name)
        self._removed(found.node)
        self._done()

    def rename(self, old: bytes, new: bytes, flags: int) -> None:
        if flags & NOREPLACE and flags & EXCHANGE:
            raise _fail(errno.EINVAL)
        both = self._above(old), self._above(new)
        if b"." in (both[0][1], both[1][1]):
            target_is_dot = both[1][1] == b"." and both[0][1] != b"."
            raise _fail(errno.EEXIST if flags & NOREPLACE and target_is_dot else errno.EBUSY)
        source = self._look(both[0])
        if source.node is None:
            raise _fail(errno.ENOENT)
        target = self._look(both[1])
        if flags & NOREPLACE and target.node is not None:
            raise _fail(errno.EEXIST)
        if flags & EXCHANGE and target.node is None:
            raise _fail(errno.ENOENT)
        if source.node in target.chain[:-1] or (
            target.node is None and source.node in target.chain
        ):
            raise _fail(errno.EINVAL)
        if target.node is not None:
            if target.node in source.chain[:-1]:
                raise _fail(errno.EINVAL if flags & EXCHANGE else errno.ENOTEMPTY)
            if source.node is target.node:
                return
            if not flags & EXCHANGE:
                if stat.S_ISDIR(source.mode) and not stat.S_ISDIR(target.mode):
                    raise _fail(errno.ENOTDIR)
                if stat.S_ISDIR(target.mode) and not stat.S_ISDIR(source.mode):
                    raise _fail(errno.EISDIR)
        self._union.rename(source.parent, source.name, target.parent, target.name, flags)
        if target.node is not None and not flags & EXCHANGE:
            self._removed(target.node)
        self._done()

    # -- attributes

    def truncate(self, where: Where, size: int) -> None:
        if size < 0:
            raise _fail(errno.EINVAL)
        node, mode, file = self._at(where, True)
        if isinstance(where, int):
            if file is None or not self._slots[where].writable:
                raise _fail(errno.EINVAL)
        elif stat.S_ISDIR(mode):
            raise _fail(errno.EISDIR)
        elif not stat.S_ISREG(mode):
            raise _fail(errno.EINVAL)
        self._union.setattr(node, size=size, file=file)
        self._done()

    def chmod(self, where: Where, mode: int) -> None:
        node, _, file = self._at(where, True)
        self._union.setattr(node, mode=mode, file=file)
        self._done()

    def chown(self, where: Where, uid: int, gid: int, follow: bool) -> None:
        node, mode, file = self._at(where, follow)
        if not stat.S_ISDIR(mode) and _CAPABILITY in self._union.listxattr(node):
            # The VFS takes file capabilities away before it asks (notify_change, fs/attr.c).
            self._union.removexattr(node, _CAPABILITY)
        self._union.setattr(
            node,
            uid=None if uid == -1 else uid,
            gid=None if gid == -1 else gid,
            file=file,
            kill_suidgid=not stat.S_ISDIR(mode),
        )
        self._done()

    def utimens(self, where: Where, atime: Time, mtime: Time, follow: bool) -> None:
        if atime == OMIT and mtime == OMIT:
            # Nothing to do, and the path is not even looked up (utimensat(2)).
            return
        node, _, file = self._at(where, follow)
        self._union.setattr(node, atime_ns=_time(atime), mtime_ns=_time(mtime), file=file)
        self._done()

    def setxattr(self, where: Where, name: bytes, value: bytes, flags: int, follow: bool) -> None:
        _check_xattr(name, value)
        node, mode, _ = self._at(where, follow)
        _check_user_xattr(name, mode, errno.EPERM)
        if name.startswith(b"system.posix_acl_"):
            # ACLs have calls of their own in the kernel, which know no flags (fs/posix_acl.c).
            if value:
                self._union.setxattr(node, name, value)
            else:
                self._union.removexattr(node, name)
        else:
            _check_capability(name, value)
            self._union.setxattr(node, name, value, flags)
        self._done()

    def removexattr(self, where: Where, name: bytes, follow: bool) -> None:
        _check_xattr(name, b"")
        node, mode, _ = self._at(where, follow)
        _check_user_xattr(name, mode, errno.EPERM)
        self._union.removexattr(node, name)
        self._done()

    def getxattr(self, where: Where, name: bytes, follow: bool) -> bytes:
        _check_xattr(name, b"")
        node, mode, _ = self._at(where, follow)
        _check_user_xattr(name, mode, errno.ENODATA)
        value = self._union.getxattr(node, name)
        self._done()
        return value

    def listxattr(self, where: Where, follow: bool) -> list[bytes]:
        node, _, _ = self._at(where, follow)
        names = self._union.listxattr(node)
        self._done()
        return names

    def readlink(self, path: bytes) -> bytes:
        node, mode, _ = self._at(path, False)
        if not stat.S_ISLNK(mode):
            raise _fail(errno.EINVAL)
        content = self._union.readlink(node)
        self._done()
        return content

    def stat(self, where: Where, follow: bool) -> Seen:
        node, _, file = self._at(where, follow)
        seen = _seen(self._union.stat(node, file))
        self._done()
        return seen

    def listing(self, where: Where) -> list[Listed]:
        if isinstance(where, int):
            opened = self._slots[where]
            if opened.listing is None:
                raise _fail(errno.ENOTDIR)
            opened.listing.rewind()
            return [Listed(name, kind, None) for name, kind in opened.listing.entries]
        node, mode, _ = self._at(where, True)
        if not stat.S_ISDIR(mode):
            raise _fail(errno.ENOTDIR)
        entries = self._union.opendir(node).entries
        self._done()
        return [Listed(name, kind, None) for name, kind in entries]


def _time(time: Time) -> int | None:
    if time == NOW:
        return UNION_NOW
    if time == OMIT:
        return None
    assert isinstance(time, int)
    return time


def _seen(found: Stat) -> Seen:
    return Seen(
        found.ino,
        0,
        found.mode,
        found.nlink,
        found.uid,
        found.gid,
        found.rdev,
        found.size,
        found.blocks,
        found.atime_ns,
        found.mtime_ns,
        found.ctime_ns,
    )


def _check_xattr(name: bytes, value: bytes) -> None:
    """setxattr(2): ERANGE for an empty or long name, E2BIG for a long value."""
    if not 0 < len(name) <= 255:
        raise _fail(errno.ERANGE)
    if len(value) > 65536:
        raise _fail(errno.E2BIG)


def _check_capability(name: bytes, value: bytes) -> None:
    """EINVAL for what is no capability set (capabilities(7), "File capability extended attribute
    versioning")."""
    if name == _CAPABILITY and value:
        version = value[3] if len(value) >= 4 else 0
        if _CAPABILITY_SIZES.get(version) != len(value):
            raise _fail(errno.EINVAL)


def _check_user_xattr(name: bytes, mode: int, number: int) -> None:
    """xattr(7): user attributes belong to files and directories alone."""
    if name.startswith(b"user.") and not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise _fail(number)
