# SPDX-License-Identifier: GPL-3.0-or-later
"""Deleting: unlink and rmdir, with a whiteout where something below must stay hidden.

An object that is still in use keeps an O_PATH descriptor in its node, taken before its name goes,
so that what is open stays readable and changeable and its number is not given out again.
"""

from __future__ import annotations

import errno
import os

from unionfs import whiteout
from unionfs.copyup import copy_up_directory
from unionfs.links import drop_from_index, write_links
from unionfs.lookup import Found, find, node_of
from unionfs.make import error
from unionfs.node import Directory, Node
from unionfs.origin import public_ino
from unionfs.readdir import is_empty
from unionfs.stack import Stack


def unlink(stack: Stack, parent: Directory, name: bytes) -> None:
    """unlink(2): ENOENT, EISDIR, EROFS, or what the upper filesystem says."""
    found = _sought(stack, parent, name)
    if found.is_dir:
        raise error(errno.EISDIR, name)
    below = lies_below(stack, parent, name, found)
    copy_up_directory(stack, parent)
    node = leaving(stack, parent, name, found)
    try:
        if found.part.layer.index:
            whiteout.place(stack, parent, name)
        elif below:
            whiteout.replace(stack, parent, name, directory=False)
        else:
            whiteout.remove(stack, parent, name, directory=False)
    except BaseException:
        staying(stack, node, parent, name)
        raise
    if parent.names is not None:
        parent.names.pop(name, None)
    left(stack, node, found)


def rmdir(stack: Stack, parent: Directory, name: bytes) -> None:
    """rmdir(2): ENOENT, ENOTDIR, ENOTEMPTY while any name is visible, EROFS, or as upper says."""
    if name == b".":
        raise error(errno.EINVAL, name)
    if name == b"..":
        raise error(errno.ENOTEMPTY, name)
    found = _sought(stack, parent, name)
    if not found.is_dir:
        raise error(errno.ENOTDIR, name)
    node = node_of(stack, parent, name, found)
    assert isinstance(node, Directory)
    try:
        if not is_empty(stack, node):
            raise error(errno.ENOTEMPTY, name)
        below = lies_below(stack, parent, name, found)
        copy_up_directory(stack, parent)
        keep_open(stack, node)
        if found.part.layer.index:
            whiteout.place(stack, parent, name)
        elif below:
            whiteout.replace(stack, parent, name, directory=True)
        else:
            whiteout.remove(stack, parent, name, directory=True)
        if parent.names is not None:
            parent.names.pop(name, None)
        node.gone = True
        stack.forget_names(node)
    finally:
        stack.settle(node)


def _sought(stack: Stack, parent: Directory, name: bytes) -> Found:
    if not stack.writable:
        raise error(errno.EROFS, name)
    found = find(stack, parent, name)
    if found is None:
        raise error(errno.ENOENT, name)
    return found


def lies_below(stack: Stack, parent: Directory, name: bytes, found: Found | None) -> bool:
    """Whether lower layers show something under a name of ``parent`` once upper no longer does.

    found -- what the name stands for now, None if nothing
    """
    if found is None:
        return False
    if found.part.layer.index:
        return True
    table = parent.names
    if table is not None:
        return isinstance(table.get(name), tuple)
    for part in parent.parts[1:]:
        try:
            status = os.stat(name, dir_fd=part.open(), follow_symlinks=False)
        except FileNotFoundError:
            if stack.marks.wh and stack.marks.hides(part, name):
                return False
            continue
        return not stack.marks.is_whiteout(part, name, status)
    return False


def leaving(stack: Stack, parent: Directory, name: bytes, found: Found) -> Node | None:
    """The node of a non-directory about to lose a name, made safe for it; None if unused."""
    part, status = found.part, found.stat
    node: Node | None
    if status.st_nlink > 1 and (stack.index is not None or part.layer.index):
        node = node_of(stack, parent, name, found)
    else:
        node = stack.living(part.layer, status.st_ino)
    if node is None:
        return None
    if node.links is not None:
        if node.links.count <= 1 and node.fd < 0:
            node.fd = node.open_real(os.O_PATH)
        if part.layer.index == 0:
            write_links(stack, node, relative_to_lower=False)
    elif node.fd < 0 and node.parent is parent and node.name == name:
        node.fd = node.open_real(os.O_PATH)
    return node


def staying(stack: Stack, node: Node | None, parent: Directory, name: bytes) -> None:
    """Take `leaving` back: the name could not be removed, and is the node's as before."""
    if node is None:
        return
    if node.fd >= 0 and (node.links is not None or (node.parent is parent and node.name == name)):
        os.close(node.fd)
        node.fd = -1
    stack.settle(node)


def left(stack: Stack, node: Node | None, found: Found) -> None:
    """Account for a name that a non-directory has lost."""
    if node is not None and node.links is not None:
        node.links.count -= 1
        if node.links.count <= 0:
            drop_from_index(stack, node)
        elif found.part.layer.index:
            # The upper inode keeps its links: only now is the count relative to them another.
            write_links(stack, node, relative_to_lower=False)
    elif found.part.layer.index and found.stat.st_nlink > 1:
        ino = public_ino(found.part.layer.filesystem, found.stat.st_ino)
        stack.lost_links[ino] = stack.lost_links.get(ino, 0) + 1
    if node is not None:
        stack.settle(node)


def keep_open(stack: Stack, directory: Directory) -> None:
    """Hold the descriptor of a directory whose name is about to go, as long as its node lives."""
    part = directory.parts[0]
    part.open()
    stack.descriptors.drop(part)
