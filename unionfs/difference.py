# SPDX-License-Identifier: GPL-3.0-or-later
"""In what two objects differ, each seen through a stack of its own: an upper object and its lower.

What is compared is what a user of the merged tree could have changed: marks and inode numbers are
not part of it, nor are access and change times.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator

from unionfs import attributes, xattrs
from unionfs.node import Node, read_symlink
from unionfs.stack import Stack
from unionfs.typed import Final

__all__ = ["KINDS", "differences"]

KINDS: Final = {
    stat.S_IFREG >> 12: "file",
    stat.S_IFDIR >> 12: "directory",
    stat.S_IFLNK >> 12: "symlink",
    stat.S_IFCHR >> 12: "character device",
    stat.S_IFBLK >> 12: "block device",
    stat.S_IFIFO >> 12: "fifo",
    stat.S_IFSOCK >> 12: "socket",
}
_REGULAR: Final = stat.S_IFREG >> 12
_SYMLINK: Final = stat.S_IFLNK >> 12
_CHUNK: Final = 1 << 20


def differences(above: Stack, node: Node, below: Stack, other: Node) -> Iterator[str]:
    """What differs, what is cheap to tell first: type, mode, owner, device, target, times, xattrs,
    content.

    For directories times do not count: any change inside changes them. Raises OSError as reading
    the layers does.
    """
    if node.kind != other.kind:
        yield "type"
        return
    mine, theirs = attributes.status(above, node), attributes.status(below, other)
    if mine.mode != theirs.mode:
        yield "mode"
    if (mine.uid, mine.gid) != (theirs.uid, theirs.gid):
        yield "owner"
    if mine.rdev != theirs.rdev:
        yield "device"
    if node.kind == _SYMLINK and read_symlink(node) != read_symlink(other):
        yield "target"
    if not node.is_dir and mine.mtime_ns != theirs.mtime_ns:
        yield "times"
    if _xattrs(above, node) != _xattrs(below, other):
        yield "xattrs"
    # Where only metadata was copied up, the content is the lower one's by construction.
    if node.kind == _REGULAR and (
        mine.size != theirs.size or (node.data is None and not _same_content(node, other))
    ):
        yield "content"


def _xattrs(stack: Stack, node: Node) -> dict[bytes, bytes]:
    values = {}
    for name in xattrs.listxattr(stack, node):
        try:
            values[name] = xattrs.getxattr(stack, node, name)
        except OSError as error:
            if error.errno != errno.ENODATA:  # gone since it was listed
                raise
    return values


def _same_content(node: Node, other: Node) -> bool:
    """Byte by byte, up to the first difference."""
    fds: list[int] = []
    try:
        for each in (node, other):
            fds.append(each.open_content(os.O_RDONLY))
        offset = 0
        while True:
            mine, theirs = (os.pread(fd, _CHUNK, offset) for fd in fds)
            if mine != theirs:
                return False
            if not mine:
                return True
            offset += len(mine)
    finally:
        for fd in fds:
            os.close(fd)
