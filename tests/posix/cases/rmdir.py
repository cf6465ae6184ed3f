# SPDX-License-Identifier: GPL-3.0-or-later
"""rmdir(2)."""

from __future__ import annotations

import ctypes
import errno
import os
import subprocess

from tests.posix.expect import exists, fails, listing, times, unchanged
from tests.posix.scene import directory, file, one_of_each
from tests.posix.table import Steps

CLONE_NEWNS = 0x20000


def removes() -> Steps:
    """An empty directory goes, and its name is free."""
    directory("d")
    yield
    os.rmdir("d")
    assert not exists("d")
    assert listing() == []
    file("d", b"file")


def moves_times() -> Steps:
    """The parent's times move."""
    directory("p")
    directory("p/d")
    yield
    with times(p="mc", here=""):
        os.rmdir("p/d")


def not_empty() -> Steps:
    """ENOTEMPTY or EEXIST as long as there is an entry of any type."""
    for kind in ("file", "directory", "fifo", "character", "block", "socket", "symlink"):
        directory(kind)
        os.chdir(kind)
        names = one_of_each()
        for name in names:
            if name != kind:
                (os.rmdir if name == "directory" else os.unlink)(name)
        os.chdir("..")
    yield
    for kind in listing():
        with unchanged(kind, f"{kind}/{kind}"), fails(errno.ENOTEMPTY, errno.EEXIST, what=kind):
            os.rmdir(kind)


def emptied() -> Steps:
    """A directory whose entries were removed or moved out is empty."""
    directory("d")
    file("d/a")
    file("d/b")
    directory("d/c")
    yield
    os.unlink("d/a")
    os.rename("d/b", "b")
    with fails(errno.ENOTEMPTY):
        os.rmdir("d")
    os.rmdir("d/c")
    os.rmdir("d")
    assert listing() == ["b"]


def not_a_directory() -> Steps:
    """ENOTDIR for everything else, links to directories too."""
    names = one_of_each()
    os.symlink("directory", "link")
    names.remove("directory")
    yield
    with unchanged(*names):
        for name in [*names, "link"]:
            with fails(errno.ENOTDIR, what=name):
                os.rmdir(name)


def dots() -> Steps:
    """EINVAL for `.`, ENOTEMPTY (or EBUSY) for `..`."""
    directory("d")
    directory("d/e")
    yield
    with fails(errno.EINVAL):
        os.rmdir("d/e/.")
    with fails(errno.ENOTEMPTY, errno.EBUSY, errno.EINVAL):
        os.rmdir("d/e/..")
    assert exists("d/e")


def mount_point() -> Steps:
    """EBUSY while something is mounted there, for rename(2) too."""
    directory("d")
    yield
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(CLONE_NEWNS) == 0
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "d"], check=True)
    with fails(errno.EBUSY):
        os.rmdir("d")
    with fails(errno.EBUSY):
        os.rename("d", "e")
    subprocess.run(["umount", "d"], check=True)
    os.rmdir("d")


def open_directory() -> Steps:
    """An open directory that is removed is empty, has no links and takes nothing new."""
    directory("d")
    yield
    fd = os.open("d", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir("d")
    assert os.listdir(fd) == []
    assert os.fstat(fd).st_nlink == 0
    with fails(errno.ENOENT):
        os.mkdir("e", dir_fd=fd)
    with fails(errno.ENOENT):
        os.stat("e", dir_fd=fd)
    os.fsync(fd)
    os.close(fd)


def made_again() -> Steps:
    """A new directory of the same name is another one."""
    directory("d")
    yield
    fd = os.open("d", os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir("d")
    os.mkdir("d", 0o700)
    file("d/f")
    assert os.listdir(fd) == []
    assert os.fstat(fd).st_ino != os.stat("d").st_ino
    os.close(fd)


def tree_by_tree() -> Steps:
    """A tree of three levels is removed from its leaves, as rm -r does."""
    for one in range(5):
        for two in range(5):
            os.makedirs(f"t/{one}/{two}")
            file(f"t/{one}/{two}/f")
    yield
    subprocess.run(["rm", "-r", "t"], check=True)
    assert listing() == []
    os.mkdir("t")
    assert listing("t") == []
