# SPDX-License-Identifier: GPL-3.0-or-later
"""st_ino and st_dev: stable through every change, different between objects."""

from __future__ import annotations

import os
from collections.abc import Callable

from tests.posix.scene import ANNE, directory, file, one_of_each
from tests.posix.table import Steps
from tests.support.syscall import DirectoryStream


def _append(name: str) -> None:
    with open(name, "ab") as stream:
        stream.write(b"x")


def _rename_twice(name: str) -> None:
    os.rename(name, name + ".t")
    os.rename(name + ".t", name)


CHANGES: dict[str, Callable[[str], None]] = {
    "chmod": lambda name: os.chmod(name, 0o600),
    "chown": lambda name: os.chown(name, ANNE, ANNE),
    "utime": lambda name: os.utime(name, (1, 1)),
    "setxattr": lambda name: os.setxattr(name, "user.k", b"v"),
    "append": _append,
    "truncate": lambda name: os.truncate(name, 1),
    "empty": lambda name: os.truncate(name, 0),
    "link": lambda name: os.link(name, name + ".link"),
    "rename": _rename_twice,
}


def numbers_stay() -> Steps:
    """No change of a file changes its number, seen by path, descriptor and listing."""
    for change in CHANGES:
        file(change, b"content")
    yield
    for change, function in CHANGES.items():
        before = os.stat(change)
        fd = os.open(change, os.O_RDONLY)
        function(change)
        after = os.stat(change)
        held = os.fstat(fd)
        os.close(fd)
        assert (after.st_ino, after.st_dev) == (before.st_ino, before.st_dev), change
        assert (held.st_ino, held.st_dev) == (before.st_ino, before.st_dev), change
        with DirectoryStream(".") as stream:
            numbers = {name: number for name, number, _ in stream.rest()}
        assert numbers[change.encode()] == before.st_ino, change


def numbers_of_every_type_stay() -> Steps:
    """Objects of every type keep their number through a change of owner and name."""
    names = one_of_each()
    yield
    numbers = {name: os.lstat(name).st_ino for name in names}
    assert len(set(numbers.values())) == len(names)
    for name in names:
        os.lchown(name, ANNE, ANNE)
        assert os.lstat(name).st_ino == numbers[name], name
        os.rename(name, name + "2")
        assert os.lstat(name + "2").st_ino == numbers[name], name


def numbers_of_directories_stay() -> Steps:
    """A directory keeps its number when it changes and when something below it does."""
    directory("d")
    directory("d/sub")
    file("d/sub/f")
    yield
    numbers = {name: os.stat(name).st_ino for name in ("d", "d/sub", ".")}
    file("d/sub/new")
    os.unlink("d/sub/f")
    os.chmod("d", 0o700)
    os.setxattr("d/sub", "user.k", b"v")
    for name, number in numbers.items():
        assert os.stat(name).st_ino == number, name
    os.rename("d", "e")
    assert os.stat("e").st_ino == numbers["d"]
    assert os.stat("e/sub").st_ino == numbers["d/sub"]


def one_device() -> Steps:
    """Every file of the tree has the tree's st_dev, before and after a change."""
    directory("d")
    file("d/f")
    file("g")
    yield
    device = os.stat(".").st_dev
    for name in ("d", "d/f", "g"):
        assert os.stat(name).st_dev == device
        os.chmod(name, 0o700)
        assert os.stat(name).st_dev == device


def new_objects_have_new_numbers() -> Steps:
    """What is made while others are held has a number of its own."""
    for number in range(20):
        file(f"old{number}")
    yield
    fds = [os.open(f"old{number}", os.O_RDONLY) for number in range(20)]
    for number in range(20):
        os.unlink(f"old{number}")
        file(f"new{number}")
    held = {os.fstat(fd).st_ino for fd in fds}
    made = {os.stat(f"new{number}").st_ino for number in range(20)}
    assert len(held) == len(made) == 20
    assert not held & made
    for fd in fds:
        os.close(fd)


def same_file() -> Steps:
    """samefile is true of a file and itself by two ways, false of two equal files."""
    directory("d")
    file("d/f", b"x")
    file("g", b"x")
    os.symlink("d/f", "link")
    os.link("g", "h")
    yield
    assert os.path.samefile("d/f", "link")
    assert os.path.samefile("g", "h")
    assert not os.path.samefile("d/f", "g")
    os.chmod("g", 0o600)
    assert os.path.samefile("g", "h")
