# SPDX-License-Identifier: GPL-3.0-or-later
"""symlink(2), readlink(2)."""

from __future__ import annotations

import errno
import os
import stat

from tests.posix.expect import content, exists, fails, owner, times, unchanged
from tests.posix.scene import ANNE, CLUB, directory, file, one_of_each, open_house
from tests.posix.table import Steps
from tests.support.user import as_user


def makes() -> Steps:
    """Type, target, size, mode and links."""
    yield
    os.umask(0o077)
    os.symlink("some/where", "link")
    found = os.lstat("link")
    assert stat.S_ISLNK(found.st_mode)
    assert stat.S_IMODE(found.st_mode) == 0o777
    assert found.st_size == len("some/where")
    assert found.st_nlink == 1
    assert os.readlink("link") == "some/where"
    with fails(errno.ENOENT):
        os.stat("link")


def any_bytes() -> Steps:
    """The target is any bytes, kept as they are."""
    targets = [b"\xff\xfe", b"a\nb", b"/", b"..", b"//x//", b" ", b"x" * 255, b"\xe9/./y/"]
    for number, target in enumerate(targets):
        os.symlink(target, b"link%d" % number)
    yield
    for number, target in enumerate(targets):
        assert os.readlink(b"link%d" % number) == target
        os.symlink(target, b"new%d" % number)
        assert os.readlink(b"new%d" % number) == target


def long_targets() -> Steps:
    """A target may have 4095 bytes; 4096 are ENAMETOOLONG."""
    os.symlink("y" * 4095, "old")
    yield
    for length in (59, 60, 61, 255, 256, 1023, 4094, 4095):
        name = f"link{length}"
        os.symlink("x" * length, name)
        assert os.readlink(name) == "x" * length
        assert os.lstat(name).st_size == length
    with fails(errno.ENAMETOOLONG):
        os.symlink("x" * 4096, "longer")
    assert not exists("longer")
    assert os.readlink("old") == "y" * 4095
    os.rename("old", "renamed")
    os.lchown("renamed", ANNE, ANNE)
    assert os.readlink("renamed") == "y" * 4095


def empty_target() -> Steps:
    """ENOENT."""
    yield
    with fails(errno.ENOENT):
        os.symlink("", "link")
    assert not exists("link")


def existing_name() -> Steps:
    """EEXIST for a name of any type."""
    names = one_of_each()
    yield
    with unchanged(*names):
        for name in names:
            with fails(errno.EEXIST, what=name):
                os.symlink("x", name)


def moves_times() -> Steps:
    """The directory's times move."""
    yield
    with times(here="mc"):
        os.symlink("x", "link")


def belongs_to_caller() -> Steps:
    """Owner and group are the caller's."""
    open_house()
    yield
    as_user(ANNE, lambda: os.symlink("x", "link"), gid=CLUB)
    assert owner("link") == (ANNE, CLUB)


def read_of_other_types() -> Steps:
    """EINVAL from readlink(2) on what is no link."""
    names = one_of_each()
    names.remove("symlink")
    yield
    for name in names:
        with fails(errno.EINVAL, what=name):
            os.readlink(name)


def is_followed() -> Steps:
    """Links lead to files and directories, by relative and absolute paths, and out again."""
    directory("d")
    file("d/f", b"f")
    os.symlink("d", "to-d")
    os.symlink("../d/f", "d/back")
    os.symlink("to-d/back", "chain")
    yield
    assert content("to-d/f") == b"f"
    assert content("chain") == b"f"
    os.symlink(os.path.join(os.getcwd(), "d/f"), "absolute")
    assert content("absolute") == b"f"
    assert os.path.samefile("chain", "absolute")
    file("to-d/new", b"new")
    assert content("d/new") == b"new"
    assert os.listdir("to-d/") == os.listdir("d")
    os.unlink("chain")
    assert content("d/f") == b"f"


def replaced_target() -> Steps:
    """A link made again under the same name has the new target."""
    os.symlink("one", "link")
    yield
    assert os.readlink("link") == "one"
    os.unlink("link")
    os.symlink("two", "link")
    assert os.readlink("link") == "two"
    os.symlink("three", "tmp")
    os.rename("tmp", "link")
    assert os.readlink("link") == "three"
