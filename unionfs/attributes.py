# SPDX-License-Identifier: GPL-3.0-or-later
"""Attributes: how a node's are shown, and changing them and its xattrs (with a copy-up first).

Reading xattrs is in `xattrs`.
"""

from __future__ import annotations

import errno
import os
import stat

from unionfs import names, xattrs
from unionfs.copyup import copy_up
from unionfs.links import joins_names
from unionfs.make import error
from unionfs.node import Directory, File, Node, Stat
from unionfs.stack import Stack
from unionfs.sys import calls
from unionfs.typed import Final

# Half the cost of calling the named tuple, on the way of every attribute reply.
_new_tuple: Final = tuple.__new__


def shown(stack: Stack, node: Node, found: os.stat_result) -> Stat:
    """Attributes as the merged tree shows them, from an lstat of the topmost object."""
    links = found.st_nlink
    blocks = found.st_blocks
    if node.is_dir:
        assert isinstance(node, Directory)
        if node.gone:
            links = 0
        elif len(node.parts) > 1:
            # No layer knows how many subdirectories the merge has; 1 means "unknown" (find(1)).
            links = 1
    elif node.links is not None:
        links = node.links.count
    elif node.part.layer.index:
        if stack.lost_links:
            links -= stack.lost_links.get(node.ino, 0)
        if node.fd >= 0 and (found.st_nlink == 1 or not joins_names(stack, node.part)):
            links = 0
    if node.data is not None:
        blocks = _content_blocks(node, blocks)
    uid, gid = found.st_uid, found.st_gid
    if not stack.ids.plain:
        uid, gid = stack.ids.shown_uid(uid), stack.ids.shown_gid(gid)
    return _new_tuple(
        Stat,
        (
            node.ino,
            found.st_mode,
            links,
            uid,
            gid,
            found.st_rdev,
            found.st_size,
            blocks,
            found.st_blksize,
            found.st_atime_ns,
            found.st_mtime_ns,
            found.st_ctime_ns,
        ),
    )


def _content_blocks(node: Node, own: int) -> int:
    assert node.data is not None
    part, name = node.data
    try:
        return os.stat(name, dir_fd=part.open(), follow_symlinks=False).st_blocks
    except OSError:
        return own


def status(stack: Stack, node: Node, file: File | None = None) -> Stat:
    """fstat of an open file, lstat of a node."""
    if file is not None and file.opened and node.data is None:
        return shown(stack, node, os.fstat(file.fd))
    return shown(stack, node, node.real_stat())


def setattr(
    stack: Stack,
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
    """chmod, chown, truncate and utimensat in one, in an order that leaves what was asked for.

    Times may be ``calls.NOW``. Permission has been checked by the kernel. EROFS, EISDIR (size of a
    directory), EINVAL (size of something else, negative), EOPNOTSUPP (mode of a symlink).
    """
    if not stack.writable:
        raise error(errno.EROFS)
    if size is not None:
        if node.is_dir:
            raise error(errno.EISDIR)
        if size < 0 or node.kind != stat.S_IFREG >> 12:
            raise error(errno.EINVAL)
    if mode is not None and node.kind == stat.S_IFLNK >> 12:
        raise error(errno.EOPNOTSUPP)
    copy_up(stack, node, size, metadata=size is None)
    if size is not None:
        _truncate(node, size, file)
    if uid is not None or gid is not None:
        _chown(stack, node, uid, gid)
    found: os.stat_result | None = None
    if kill_suidgid and mode is None:
        found = node.real_stat()
        current = found.st_mode
        kept = current & ~stat.S_ISUID
        if current & stat.S_IXGRP:
            kept &= ~stat.S_ISGID
        if kept != current and not stat.S_ISDIR(current):
            mode = kept
    if mode is not None:
        _chmod(node, stat.S_IMODE(mode))
        found = None
    if atime_ns is not None or mtime_ns is not None:
        _set_times(
            node,
            calls.OMIT if atime_ns is None else atime_ns,
            calls.OMIT if mtime_ns is None else mtime_ns,
        )
        found = None
    return shown(stack, node, found or node.real_stat())


def _truncate(node: Node, size: int, file: File | None) -> None:
    if file is not None and file.writable:
        os.ftruncate(file.fd, size)
        return
    # Not ftruncate(2), which sets the modification time even where the size stays.
    os.truncate(node.real_path(), size)


def _chown(stack: Stack, node: Node, uid: int | None, gid: int | None) -> None:
    stored_uid = -1 if uid is None else stack.ids.stored_uid(uid)
    stored_gid = -1 if gid is None else stack.ids.stored_gid(gid)
    if node.fd >= 0 or isinstance(node, Directory):
        os.chown(node.real_path(), stored_uid, stored_gid)
    else:
        os.chown(
            node.name,
            stored_uid,
            stored_gid,
            dir_fd=node.part.open(),
            follow_symlinks=False,
        )


def _chmod(node: Node, mode: int) -> None:
    if node.fd >= 0 or isinstance(node, Directory):
        os.chmod(node.real_path(), mode)
    else:
        os.chmod(node.name, mode, dir_fd=node.part.open())


def _set_times(node: Node, atime: int, mtime: int) -> None:
    if node.fd >= 0 or isinstance(node, Directory):
        calls.utimensat(calls.AT_FDCWD, node.real_path(), atime, mtime)
    else:
        calls.utimensat(node.part.open(), node.name, atime, mtime, calls.AT_SYMLINK_NOFOLLOW)


# -- extended attributes


def setxattr(stack: Stack, node: Node, name: bytes, value: bytes, flags: int) -> None:
    """Set one; EEXIST/ENODATA by XATTR_CREATE/XATTR_REPLACE, EPERM for a foreign driver's mark."""
    disk = _changeable(stack, name)
    if flags:
        present = _has_xattr(node, disk)
        if flags & os.XATTR_CREATE and present:
            raise error(errno.EEXIST)
        if flags & os.XATTR_REPLACE and not present:
            raise error(errno.ENODATA)
    copy_up(stack, node, metadata=True)
    node.bare = False
    os.setxattr(node.real_path(), disk, value, flags, follow_symlinks=node.follow)
    _note_default_acl(node, disk)


def removexattr(stack: Stack, node: Node, name: bytes) -> None:
    disk = _changeable(stack, name)
    if not _has_xattr(node, disk):
        if disk in (names.ACL_ACCESS, names.ACL_DEFAULT):
            return  # An ACL that says no more than the mode is none: removing it succeeds (acl(5)).
        raise error(errno.ENODATA)
    copy_up(stack, node, metadata=True)
    os.removexattr(node.real_path(), disk, follow_symlinks=node.follow)
    _note_default_acl(node, disk)


def _note_default_acl(node: Node, disk: bytes) -> None:
    """What is known of inheritance no longer holds."""
    if disk == names.ACL_DEFAULT and isinstance(node, Directory):
        node.inherits = None


def _has_xattr(node: Node, disk: bytes) -> bool:
    try:
        os.getxattr(node.real_path(), disk, follow_symlinks=node.follow)
    except OSError as problem:
        if problem.errno == errno.ENODATA:
            return False
        raise
    return True


def _changeable(stack: Stack, name: bytes) -> bytes:
    if not stack.writable:
        raise error(errno.EROFS)
    disk = xattrs.stored(stack, name)
    if disk is None:
        raise error(errno.EPERM)
    return disk
