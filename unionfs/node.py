# SPDX-License-Identifier: GPL-3.0-or-later
"""What the kernel knows as inodes: `Node`, `Directory`, and the open `File` and `Listing`.

A node is one object of the merged tree with the place where it can be reached now. It exists by
the hundred thousand, so it has slots and keeps no attributes: those are asked of the filesystem.
Finding nodes is in `lookup`, changing what they stand for in the rooms of the write side.
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs.layer import Descriptors, Layer, Part, proc_path
from unionfs.sys import calls
from unionfs.typed import Final, Iterator, NamedTuple

DT_DIRECTORY: Final = stat.S_IFDIR >> 12
_SAFELY: Final = os.O_NOFOLLOW | os.O_CLOEXEC


class Stat(NamedTuple):
    """Attributes as the merged tree shows them; times in ns since 1970, blocks of 512 bytes."""

    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blocks: int
    blksize: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int


class Caller(NamedTuple):
    """Who asks: the ids new objects belong to, and the umask still to be applied (0: none)."""

    uid: int
    gid: int
    umask: int = 0
    groups: tuple[int, ...] = ()
    pid: int = 0


class Links:
    """How many names an indexed file has in the merged tree, and how that is written down.

    lower -- st_nlink of the lower file it came from
    count -- names in the merged tree
    name  -- of its entry in the index
    """

    __slots__ = ("count", "lower", "name")

    def __init__(self, lower: int, count: int, name: bytes) -> None:
        self.lower = lower
        self.count = count
        self.name = name


class Node:
    """One object of the merged tree.

    id      -- node id for the kernel, unique among living nodes; the root's is 1
    ino     -- public st_ino
    real    -- st_ino in the layer of `part`: tells whether a found object is this one
    kind    -- S_IFMT >> 12, which is also the d_type
    parent  -- directory by which it was found; kept alive by `Directory.pins`
    part    -- where the object lies; for a directory its topmost part is parts[0] instead
    name    -- its name in `part`
    fd      -- O_PATH descriptor once its name is gone while it is still in use, else -1
    nlookup -- lookup count: how many times the kernel was told of it
    files   -- open files, or None
    links   -- set for a file in the hard-link index
    data    -- (part, name) of the content where only metadata was copied up, else None
    bare    -- known to have no xattr that a user could see
    """

    __slots__ = (
        "bare",
        "data",
        "fd",
        "files",
        "id",
        "ino",
        "kind",
        "links",
        "name",
        "nlookup",
        "parent",
        "part",
        "real",
    )

    is_dir = False

    def __init__(
        self,
        id: int,
        ino: int,
        real: int,
        kind: int,
        parent: Directory | None,
        part: Part,
        name: bytes,
    ) -> None:
        self.id = id
        self.ino = ino
        self.real = real
        self.kind = kind
        self.parent = parent
        self.part = part
        self.name = name
        self.fd = -1
        self.nlookup = 0
        self.files: list[File] | None = None
        self.links: Links | None = None
        self.data: tuple[Part, bytes] | None = None
        self.bare = False

    @property
    def is_upper(self) -> bool:
        return self.part.layer.index == 0

    @property
    def layer(self) -> Layer:
        return self.part.layer

    def real_stat(self) -> os.stat_result:
        """lstat of the object in its layer."""
        if self.fd >= 0:
            return os.stat(self.fd)
        part = self.part
        fd = part.fd
        return os.stat(self.name, dir_fd=fd if fd >= 0 else part.open(), follow_symlinks=False)

    def real_path(self) -> bytes:
        """A path that reaches the object itself if symlinks are followed as `follow` says."""
        if self.fd >= 0:
            return b"/proc/self/fd/%d" % self.fd
        return proc_path(self.part.open(), self.name)

    @property
    def follow(self) -> bool:
        return self.fd >= 0

    def open_real(self, flags: int) -> int:
        """Open the object in its layer; the descriptor is the caller's."""
        if self.fd >= 0:
            path = b"/proc/self/fd/%d" % self.fd
            return os.open(path, flags & ~os.O_NOFOLLOW | os.O_CLOEXEC)
        fd = self.part.fd
        return os.open(self.name, flags | _SAFELY, dir_fd=fd if fd >= 0 else self.part.open())

    def open_content(self, flags: int) -> int:
        """As `open_real`, but of the file below that a metadata-only copy stands for."""
        if self.data is None:
            return self.open_real(flags)
        part, name = self.data
        return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=part.open())

    def birthtime(self) -> int | None:
        if self.fd >= 0:
            return calls.statx(self.fd, b"", calls.AT_EMPTY_PATH).birthtime_ns
        return calls.statx(self.part.open(), self.name).birthtime_ns


Names = dict[bytes, int | tuple[int, ...]]
"""Which parts of a merged directory hold a visible object of a name, topmost first.

Parts are counted from the bottom (-1 is the lowest), so that a copy-up of the directory, which adds
a part on top, changes no number. A whiteout ends the row; an object below a non-directory stays in
it, since a delete must know of it.
"""


class Directory(Node):
    """A directory of the merged tree.

    parts    -- the directories it merges, topmost first; parts[0] gives its attributes
    redirect -- the redirect mark on its upper part, or None
    names    -- merged name map, or None while it is not known
    probes   -- lookups that had to ask several layers since the map was last known
    pins     -- living nodes that name this directory as parent
    inherits -- whether it has a default ACL, None while that is not known
    impure   -- the upper part is known to carry overlay.impure
    gone     -- removed; only kept because somebody is still inside
    """

    __slots__ = ("gone", "impure", "inherits", "names", "parts", "pins", "probes", "redirect")

    is_dir = True

    def __init__(
        self,
        id: int,
        ino: int,
        real: int,
        parent: Directory | None,
        parts: list[Part],
        name: bytes,
    ) -> None:
        super().__init__(id, ino, real, DT_DIRECTORY, parent, parts[0], name)
        self.parts = parts
        self.redirect: bytes | None = None
        self.names: Names | None = None
        self.probes = 0
        self.pins = 0
        self.inherits: bool | None = None
        self.impure = False
        self.gone = False

    def real_stat(self) -> os.stat_result:
        part = self.parts[0]
        try:
            return os.stat(part.fd if part.fd >= 0 else part.open())
        except OSError as error:
            # Something is mounted there, and the layer is not a private clone: see `Part`.
            if error.errno != errno.EXDEV or self.parent is None:
                raise
            return os.stat(self.name, dir_fd=self.parent.parts[0].open(), follow_symlinks=False)

    def real_path(self) -> bytes:
        return b"/proc/self/fd/%d" % self.parts[0].open()

    @property
    def follow(self) -> bool:
        return True

    def open_real(self, flags: int) -> int:
        return os.open(b".", flags | os.O_CLOEXEC, dir_fd=self.parts[0].open())

    def birthtime(self) -> int | None:
        return calls.statx(self.parts[0].open(), b"", calls.AT_EMPTY_PATH).birthtime_ns

    @property
    def upper(self) -> Part | None:
        part = self.parts[0]
        return part if part.layer.index == 0 else None

    @property
    def merged(self) -> bool:
        """Whether something lies below its upper part or could."""
        return len(self.parts) > 1 or self.parts[0].layer.index != 0

    def has_in_upper(self, name: bytes) -> bool:
        """Whether a visible name is known to stand for an object of the upper layer."""
        table = self.names
        if table is None or self.parts[0].layer.index:
            return False
        where = table.get(name)
        top = -len(self.parts)
        return where == top or (isinstance(where, tuple) and where[0] == top)

    def chain(self) -> Iterator[Directory]:
        """The directory and those above it, up to but without the root."""
        node = self
        while node.parent is not None:
            yield node
            node = node.parent

    def merged_path(self) -> bytes:
        """Its path below the root of the merged tree, b"" for the root; also its upper path."""
        names = [node.name for node in self.chain()]
        names.reverse()
        return b"/".join(names)

    def lower_path(self) -> bytes:
        """Its path as the lower layers know it: redirects above it applied."""
        names: list[bytes] = []
        for node in self.chain():
            redirect = node.redirect
            if redirect is None:
                names.append(node.name)
            elif redirect.startswith(b"/"):
                names.append(redirect.strip(b"/"))
                break
            else:
                names.append(redirect)
        names.reverse()
        return b"/".join(names)

    def add_upper(self, layer: Layer, keeper: Descriptors) -> Part:
        """Put an upper part on top; it moves with this directory."""
        part = Part(layer, self.merged_path, keeper)
        self.parts.insert(0, part)
        self.part = part
        return part


class File:
    """An open regular file; ended with `Union.release`.

    node     -- what it is open on
    flags    -- with which it is open in its layer, as of open(2)
    writable -- whether it may write
    volatile -- fsync is not passed on
    opened   -- whether there is a descriptor yet

    The data methods may be called from any thread once there is a descriptor.
    """

    __slots__ = ("_fd", "flags", "node", "volatile", "writable")

    def __init__(self, node: Node, fd: int, flags: int, volatile: bool) -> None:
        self.node = node
        self._fd = fd
        self.flags = flags
        self.writable = flags & os.O_ACCMODE != os.O_RDONLY
        self.volatile = volatile

    @property
    def fd(self) -> int:
        """The real descriptor, opened on first use; a copy-up replaces what it stands for."""
        if self._fd < 0:
            self._fd = self.node.open_content(self.flags)
        return self._fd

    @property
    def opened(self) -> bool:
        return self._fd >= 0

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self.fd, size, offset)

    def read_into(self, buffer: bytearray | memoryview, offset: int) -> int:
        return os.preadv(self.fd, [buffer], offset)

    def write(self, data: bytes | bytearray | memoryview, offset: int) -> int:
        """Write all of ``data``, or raise; a short count is only ever that before an error."""
        done = os.pwrite(self.fd, data, offset)
        if done == len(data):
            return done
        view = memoryview(data)
        while done < len(view):
            try:
                step = os.pwrite(self.fd, view[done:], offset + done)
            except OSError:
                if done:
                    break
                raise
            if step == 0:
                break
            done += step
        return done

    def fsync(self, datasync: bool) -> None:
        if self.volatile or not (self.writable or self.node.is_upper):
            return
        if datasync:
            os.fdatasync(self.fd)
        else:
            os.fsync(self.fd)

    def lseek(self, offset: int, whence: int) -> int:
        return os.lseek(self.fd, offset, whence)

    def fallocate(self, mode: int, offset: int, length: int) -> None:
        calls.fallocate(self.fd, mode, offset, length)

    def follow_node(self) -> None:
        """Let the descriptor number, if there is one, stand for where the content is now."""
        if self._fd < 0:
            return
        fd = self.node.open_content(self.flags)
        try:
            os.dup2(fd, self._fd, inheritable=False)
        finally:
            os.close(fd)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def read_symlink(node: Node) -> bytes:
    """Where a symbolic link leads."""
    if node.fd >= 0:
        return os.readlink(b"", dir_fd=node.fd)
    return os.readlink(node.name, dir_fd=node.part.open())
