# SPDX-License-Identifier: GPL-3.0-or-later
"""Writing the marks that hide: whiteouts and opaque directories, in either on-disk format.

Each function leaves the upper directory in a state that shows either the tree before or the tree
after, whenever it is interrupted. When a mark is due is decided by the callers.
"""

from __future__ import annotations

import errno
import os

from unionfs import names
from unionfs.layer import proc_path
from unionfs.light import contextlib
from unionfs.node import Directory
from unionfs.stack import Stack
from unionfs.sys import calls


def place(stack: Stack, parent: Directory, name: bytes) -> None:
    """Hide a name that upper does not have; ``parent`` has an upper part."""
    upper = parent.parts[0].open()
    if stack.marks.wh:
        _touch(upper, names.WH + name)
        return
    work = stack.workdir()
    if work.can_mknod:
        work.place_whiteout(upper, name)
        return
    _allow_xwhiteouts(stack, parent)
    made = work.whiteout()
    try:
        calls.renameat2(work.fd, made, upper, name, calls.RENAME_NOREPLACE)
    except BaseException:
        work.discard(made)
        raise


def replace(stack: Stack, parent: Directory, name: bytes, *, directory: bool) -> None:
    """Put a whiteout where upper has an object, in one step; the object is gone afterwards."""
    upper = parent.parts[0].open()
    work = stack.workdir()
    if stack.marks.wh:
        _touch(upper, names.WH + name)
        remove(stack, parent, name, directory=directory)
        return
    if not work.can_mknod:
        _allow_xwhiteouts(stack, parent)
    made = work.whiteout()
    try:
        if directory:
            calls.renameat2(work.fd, made, upper, name, calls.RENAME_EXCHANGE)
        else:
            os.rename(made, name, src_dir_fd=work.fd, dst_dir_fd=upper)
            return
    except BaseException:
        work.discard(made)
        raise
    work.discard(made)


def remove(stack: Stack, parent: Directory, name: bytes, *, directory: bool) -> None:
    """Take an object out of upper where nothing below needs hiding.

    A directory may still hold whiteouts; it leaves the tree in one step all the same.
    """
    upper = parent.parts[0].open()
    if not directory:
        os.unlink(name, dir_fd=upper)
        return
    try:
        os.rmdir(name, dir_fd=upper)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        work = stack.workdir()
        made = work.temporary()
        os.rename(name, made, src_dir_fd=upper, dst_dir_fd=work.fd)
        work.discard(made)


def clear(stack: Stack, parent: Directory, name: bytes) -> None:
    """Remove the ``.wh.`` mark beside an object that has just been put in its place."""
    if stack.marks.wh:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(names.WH + name, dir_fd=parent.parts[0].open())


def stands_at(stack: Stack, parent: Directory, name: bytes) -> bool:
    """Whether upper has a whiteout for the name."""
    upper = parent.parts[0]
    if stack.marks.wh:
        return stack.marks.hides(upper, name)
    try:
        found = os.stat(name, dir_fd=upper.open(), follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stack.marks.is_whiteout(upper, name, found)


def make_opaque(stack: Stack, dirfd: int, name: bytes) -> None:
    """Let the directory ``name`` in ``dirfd`` hide everything below it."""
    if stack.marks.wh:
        _touch(dirfd, name + b"/" + names.WH_OPAQUE)
        return
    path = proc_path(dirfd, name)
    os.setxattr(path, stack.marks.prefix + names.OPAQUE, b"y", follow_symlinks=False)


def _allow_xwhiteouts(stack: Stack, parent: Directory) -> None:
    """Say that files in the upper directory may be whiteouts (overlay.opaque=x)."""
    part = parent.parts[0]
    if part.xwhiteouts:
        return
    path = b"/proc/self/fd/%d" % part.open()
    name = stack.marks.prefix + names.OPAQUE
    with contextlib.suppress(OSError):
        if os.getxattr(path, name) == b"y":
            return
    os.setxattr(path, name, b"x")
    part.xwhiteouts = True


def _touch(dirfd: int, name: bytes) -> None:
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o444, dir_fd=dirfd))
