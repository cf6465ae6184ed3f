# SPDX-License-Identifier: GPL-3.0-or-later
"""mkdir(2)."""

from __future__ import annotations

import errno
import os
import stat

from tests.posix.expect import exists, fails, mode, owner, times, unchanged
from tests.posix.scene import CLUB, directory, file, one_of_each
from tests.posix.table import Steps


def mode_and_umask() -> Steps:
    """The mode is what was asked for without the umask, with the sticky bit."""
    yield
    for number, (asked, mask, got) in enumerate(
        [
            (0o755, 0, 0o755),
            (0o777, 0o022, 0o755),
            (0o777, 0o777, 0),
            (0o151, 0o077, 0o100),
            (0o1777, 0o002, 0o1775),
            (0, 0, 0),
        ]
    ):
        os.umask(mask)
        os.mkdir(f"d{number}", asked)
        assert mode(f"d{number}") == got
    assert owner("d0") == (os.geteuid(), os.getegid())


def is_empty_directory() -> Steps:
    """What is made is an empty directory."""
    yield
    os.mkdir("d")
    found = os.stat("d")
    assert stat.S_ISDIR(found.st_mode)
    assert found.st_nlink in (1, 2)
    assert os.listdir("d") == []


def setgid_parent() -> Steps:
    """The group and the set-group-ID bit come from a set-group-ID parent."""
    directory("p", 0o2755, 0, CLUB)
    yield
    os.umask(0)
    os.mkdir("p/d", 0o700)
    assert owner("p/d") == (0, CLUB)
    assert mode("p/d") == 0o2700


def moves_times() -> Steps:
    """The parent's times move; the new directory's are of now."""
    directory("p")
    yield
    with times(p="mc", here=""):
        os.mkdir("p/d")
    made, parent = os.stat("p/d"), os.stat("p")
    assert abs(made.st_mtime_ns - parent.st_mtime_ns) < 10**9
    assert made.st_ctime_ns == made.st_mtime_ns == made.st_atime_ns


def failure_moves_no_times() -> Steps:
    """A call that fails leaves the parent as it was."""
    directory("p")
    directory("p/d")
    yield
    with unchanged("p", "p/d"), fails(errno.EEXIST):
        os.mkdir("p/d")


def existing_name() -> Steps:
    """EEXIST for a name of any type, for `.`, `..` and the name with a slash."""
    names = one_of_each()
    yield
    with unchanged(*names):
        for name in [*names, ".", "..", "directory/", "directory/..", "directory/."]:
            with fails(errno.EEXIST, what=name):
                os.mkdir(name)


def after_removal() -> Steps:
    """A directory in the place of a removed one is empty, whatever was there before."""
    directory("d")
    file("d/old")
    directory("d/sub")
    file("d/sub/old")
    yield
    os.unlink("d/old")
    os.unlink("d/sub/old")
    os.rmdir("d/sub")
    os.rmdir("d")
    os.mkdir("d")
    assert os.listdir("d") == []
    assert not exists("d/old")
    os.mkdir("d/sub")
    assert os.listdir("d/sub") == []


def after_removed_file() -> Steps:
    """A directory can take the name of a removed file, and a file that of a directory."""
    file("f")
    directory("d")
    yield
    os.unlink("f")
    os.mkdir("f")
    file("f/inner")
    assert os.listdir("f") == ["inner"]
    os.rmdir("d")
    file("d", b"file")
    assert stat.S_ISREG(os.lstat("d").st_mode)


def in_removed_directory() -> Steps:
    """ENOENT in a directory that has been removed."""
    directory("d")
    yield
    os.chdir("d")
    os.rmdir("../d")
    for make in (os.mkdir, os.mkfifo, lambda name: os.symlink("x", name)):
        with fails(errno.ENOENT):
            make("new")
    with fails(errno.ENOENT):
        os.open("new", os.O_CREAT | os.O_WRONLY)
    assert os.listdir(".") == []
    assert os.stat(".").st_nlink == 0


def many_levels() -> Steps:
    """Two hundred levels, made and removed by relative paths."""
    yield
    path = "/".join(f"l{number}" for number in range(200))
    os.makedirs(path)
    file(path + "/bottom")
    assert exists(path + "/bottom")
    os.unlink(path + "/bottom")
    os.removedirs(path)
    assert not exists("l0")


def parent_count() -> Steps:
    """The link count of the parent counts its directories or is 1 (not counted)."""
    directory("p")
    directory("p/a")
    yield
    os.mkdir("p/b")
    file("p/f")
    assert os.stat("p").st_nlink in (1, 4)
    os.rmdir("p/a")
    assert os.stat("p").st_nlink in (1, 3)
