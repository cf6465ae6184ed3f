# SPDX-License-Identifier: GPL-3.0-or-later
"""unlink(2), and files that live on without a name."""

from __future__ import annotations

import errno
import os

from tests.posix.expect import content, exists, fails, listing, moving, times, unchanged
from tests.posix.scene import directory, file, one_of_each
from tests.posix.table import Steps


def every_type() -> Steps:
    """Every type but a directory goes, and its name is free."""
    names = one_of_each()
    names.remove("directory")
    yield
    for name in names:
        os.unlink(name)
        assert not exists(name)
        with fails(errno.ENOENT):
            os.unlink(name)
    assert listing() == ["directory"]
    for name in names:
        file(name, b"new")
    assert listing() == sorted([*names, "directory"])


def directories() -> Steps:
    """EISDIR on Linux."""
    directory("d")
    os.symlink("d", "link")
    yield
    with unchanged("d"):
        for name in ("d", "."):
            with fails(errno.EISDIR):
                os.unlink(name)
    os.unlink("link")
    assert exists("d")


def moves_times() -> Steps:
    """The directory's times move."""
    directory("d")
    file("d/f")
    yield
    with times(d="mc", here=""):
        os.unlink("d/f")


def failure_moves_no_times() -> Steps:
    """A call that fails leaves the directory as it was."""
    directory("d")
    yield
    with unchanged("d"), fails(errno.ENOENT):
        os.unlink("d/f")


def symlink_itself() -> Steps:
    """The link goes, the target stays."""
    file("f", b"kept")
    os.symlink("f", "link")
    yield
    os.unlink("link")
    assert content("f") == b"kept"


def open_file_lives_on() -> Steps:
    """A file without a name is read, written, truncated, changed and described."""
    file("f", b"0123456789")
    yield
    reader = os.open("f", os.O_RDONLY)
    writer = os.open("f", os.O_RDWR)
    with moving({writer: "c"}):
        os.unlink("f")
    assert not exists("f")
    assert os.pread(reader, 20, 0) == b"0123456789"
    os.pwrite(writer, b"AB", 0)
    assert os.pread(writer, 20, 0) == b"AB23456789"
    os.ftruncate(writer, 4)
    os.fchmod(writer, 0o600)
    os.fchown(writer, 1, 1)
    os.utime(writer, ns=(10**18, 10**18))
    os.setxattr(writer, "user.k", b"v")
    assert os.getxattr(writer, "user.k") == b"v"
    os.fsync(writer)
    found = os.fstat(writer)
    assert (found.st_nlink, found.st_size, found.st_uid) == (0, 4, 1)
    assert found.st_mode & 0o777 == 0o600
    assert found.st_mtime_ns == 10**18
    os.close(reader)
    os.close(writer)


def open_only_for_reading() -> Steps:
    """A descriptor opened for reading keeps what it had, and can change the mode."""
    file("f", b"data" * 100_000)
    yield
    fd = os.open("f", os.O_RDONLY)
    os.unlink("f")
    file("f", b"other")
    assert os.pread(fd, 8, 399_992) == b"datadata"
    os.fchmod(fd, 0o640)
    assert os.fstat(fd).st_mode & 0o777 == 0o640
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)
    assert content("f") == b"other"


def reopened_without_name() -> Steps:
    """/proc/self/fd/N opens a file without a name, for writing too."""
    file("f", b"abc")
    yield
    fd = os.open("f", os.O_RDONLY)
    os.unlink("f")
    with open(f"/proc/self/fd/{fd}", "ab") as stream:
        stream.write(b"def")
    with open(f"/proc/self/fd/{fd}", "rb") as stream:
        assert stream.read() == b"abcdef"
    os.close(fd)


def name_made_again() -> Steps:
    """A new file of the same name is another file."""
    file("f", b"old")
    yield
    fd = os.open("f", os.O_RDWR)
    os.unlink("f")
    file("f", b"new")
    assert os.fstat(fd).st_ino != os.stat("f").st_ino
    os.write(fd, b"OLD")
    assert content("f") == b"new"
    assert os.pread(fd, 10, 0) == b"OLD"
    os.close(fd)


def again_and_again() -> Steps:
    """A name made and removed many times is there or not, as the last call left it."""
    file("f", b"first")
    yield
    for number in range(50):
        os.unlink("f")
        assert not exists("f")
        assert listing() == []
        file("f", b"%d" % number)
        assert listing() == ["f"]
        assert content("f") == b"%d" % number
    os.unlink("f")
    with fails(errno.ENOENT):
        os.stat("f")
