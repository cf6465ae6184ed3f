# SPDX-License-Identifier: GPL-3.0-or-later
"""rename(2), renameat2(2) of anything; directories with content have a module of their own."""

from __future__ import annotations

import errno
import os
import stat
import tempfile

from tests.posix.expect import content, exists, fails, listing, moving, times, unchanged
from tests.posix.scene import ANNE, directory, file, one_of_each
from tests.posix.table import Facility, Steps, needs
from tests.support.syscall import RENAME_EXCHANGE, RENAME_NOREPLACE, RENAME_WHITEOUT, renameat2
from tests.support.user import as_user


def every_type() -> Steps:
    """The object is the same under its new name; the old name is gone."""
    names = one_of_each()
    yield
    for name in names:
        before = os.lstat(name)
        os.rename(name, name + "2")
        after = os.lstat(name + "2")
        assert not exists(name)
        for field in ("st_ino", "st_mode", "st_uid", "st_size", "st_rdev", "st_mtime_ns"):
            assert getattr(after, field) == getattr(before, field), f"{name}: {field}"
    assert listing() == sorted(name + "2" for name in names)


def into_other_directory() -> Steps:
    """Objects of every type move between directories and back."""
    directory("a")
    directory("b")
    os.chdir("a")
    names = one_of_each()
    os.chdir("..")
    yield
    for name in names:
        os.rename(f"a/{name}", f"b/{name}")
    assert listing("a") == []
    assert listing("b") == sorted(names)
    for name in names:
        os.rename(f"b/{name}", f"a/{name}")
    assert listing("a") == sorted(names)
    assert listing("b") == []


def replaces_file() -> Steps:
    """The new name is the old file at once; the replaced file lives on in descriptors."""
    file("new", b"new")
    file("old", b"old")
    yield
    number = os.stat("new").st_ino
    fd = os.open("old", os.O_RDONLY)
    os.rename("new", "old")
    assert content("old") == b"new"
    assert os.stat("old").st_ino == number
    assert os.pread(fd, 10, 0) == b"old"
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)
    assert listing() == ["old"]


def replaces_every_type() -> Steps:
    """Anything but a directory replaces anything but a directory."""
    olds = one_of_each("old-")
    news = one_of_each("new-")
    olds.remove("old-directory")
    news.remove("new-directory")
    yield
    for new, old in zip(news, reversed(olds), strict=True):
        kind = stat.S_IFMT(os.lstat(new).st_mode)
        os.rename(new, old)
        assert stat.S_IFMT(os.lstat(old).st_mode) == kind
        assert not exists(new)


def replaced_links() -> Steps:
    """The link count of what is replaced goes down and its change time moves."""
    file("new")
    file("old")
    os.link("old", "other")
    yield
    assert os.stat("other").st_nlink == 2
    with times(other="c"):
        os.rename("new", "old")
    assert os.stat("other").st_nlink == 1


def moves_times() -> Steps:
    """Both directories' times move, and the object's change time."""
    directory("a")
    directory("b")
    file("a/f")
    yield
    with moving({"a": "mc", "b": "mc", ".": ""}):
        os.rename("a/f", "b/f")
    with moving({"b": "mc", "a": "", "b/f": ""}):
        file("b/g")


def moves_ctime_of_the_object() -> Steps:
    """The change time of what is renamed moves, its modification time stays."""
    file("f")
    directory("d")
    yield
    for name in ("f", "d"):
        before = os.stat(name)
        with moving({".": "mc"}):
            os.rename(name, name + "2")
        after = os.stat(name + "2")
        assert after.st_ctime_ns > before.st_ctime_ns
        assert after.st_mtime_ns == before.st_mtime_ns


def onto_itself() -> Steps:
    """Nothing happens, and it is no error."""
    file("f", b"x")
    directory("d")
    file("d/inner")
    yield
    with unchanged("f", "d"):
        os.rename("f", "f")
        os.rename("d", "d")


def symlink_itself() -> Steps:
    """Neither name is followed."""
    file("f", b"target")
    os.symlink("f", "link")
    file("g", b"g")
    os.symlink("g", "over")
    yield
    os.rename("link", "link2")
    assert os.readlink("link2") == "f"
    os.rename("f", "over")
    assert content("over") == b"target"
    assert content("g") == b"g"


def file_over_directory() -> Steps:
    """EISDIR."""
    file("f")
    directory("d")
    os.symlink("x", "link")
    yield
    with unchanged("f", "d", "link"):
        for name in ("f", "link"):
            with fails(errno.EISDIR):
                os.rename(name, "d")


def directory_over_file() -> Steps:
    """ENOTDIR, for anything but a directory, links to directories too."""
    directory("d")
    directory("target")
    os.symlink("target", "to-directory")
    olds = one_of_each("old-")
    olds.remove("old-directory")
    yield
    with unchanged("d", *olds):
        for name in [*olds, "to-directory"]:
            with fails(errno.ENOTDIR, what=name):
                os.rename("d", name)


def directory_over_empty_directory() -> Steps:
    """The old directory is replaced."""
    directory("new")
    file("new/f")
    directory("old")
    yield
    number = os.stat("new").st_ino
    fd = os.open("old", os.O_RDONLY | os.O_DIRECTORY)
    os.rename("new", "old")
    assert os.stat("old").st_ino == number
    assert listing("old") == ["f"]
    assert not exists("new")
    assert os.listdir(fd) == []
    with fails(errno.ENOENT):
        os.open("new", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.close(fd)


def directory_over_full_directory() -> Steps:
    """ENOTEMPTY or EEXIST; both stay."""
    directory("new")
    directory("old")
    file("old/f")
    yield
    with unchanged("new", "old", "old/f"), fails(errno.ENOTEMPTY, errno.EEXIST):
        os.rename("new", "old")
    os.unlink("old/f")
    os.rename("new", "old")


def into_itself() -> Steps:
    """EINVAL for a directory into its own subtree, at any depth."""
    directory("d")
    directory("d/e")
    directory("d/e/f")
    yield
    with unchanged("d", "d/e", "d/e/f"):
        for new in ("d/new", "d/e/new", "d/e/f/new", "d/e"):
            with fails(errno.EINVAL, what=new):
                os.rename("d", new)


def onto_ancestor() -> Steps:
    """ENOTEMPTY or EEXIST: what holds the object is not empty."""
    directory("d")
    directory("d/e")
    directory("d/e/f")
    yield
    with unchanged("d", "d/e", "d/e/f"):
        for old, new in (("d/e", "d"), ("d/e/f", "d")):
            with fails(errno.ENOTEMPTY, errno.EEXIST):
                os.rename(old, new)


def dots() -> Steps:
    """EBUSY or EINVAL for `.` and `..`."""
    directory("d")
    directory("e")
    yield
    for old, new in (
        ("d/.", "new"),
        ("d/..", "new"),
        ("e", "d/."),
        ("e", "d/.."),
        (".", "new"),
        ("..", "new"),
    ):
        with fails(errno.EBUSY, errno.EINVAL, errno.EEXIST, errno.ENOTEMPTY):
            os.rename(old, new)


def other_filesystem() -> Steps:
    """EXDEV, in both directions."""
    file("f")
    directory("d")
    yield
    with tempfile.TemporaryDirectory() as elsewhere, unchanged("f", "d"):
        for name in ("f", "d"):
            with fails(errno.EXDEV):
                os.rename(name, f"{elsewhere}/{name}")
        os.mkdir(f"{elsewhere}/e")
        with fails(errno.EXDEV):
            os.rename(f"{elsewhere}/e", "e")


def directory_needs_write_to_move() -> Steps:
    """EACCES: a directory that gets another parent must be writable (its `..` changes)."""
    directory("a", 0o777)
    directory("b", 0o777)
    directory("a/d", 0o555, ANNE)
    yield

    def act() -> None:
        with fails(errno.EACCES):
            os.rename("a/d", "b/d")
        os.rename("a/d", "a/e")

    as_user(ANNE, act)
    assert listing("a") == ["e"]


def no_replace() -> Steps:
    """EEXIST with RENAME_NOREPLACE for a name of any type; else a plain rename."""
    names = one_of_each()
    file("f", b"f")
    yield
    with unchanged("f", *names):
        for name in [*names, "f"]:
            with fails(errno.EEXIST, what=name):
                renameat2("f", name, RENAME_NOREPLACE)
    renameat2("f", "g", RENAME_NOREPLACE)
    assert content("g") == b"f"
    os.unlink("file")
    renameat2("g", "file", RENAME_NOREPLACE)
    assert content("file") == b"f"


def exchange_files() -> Steps:
    """Two names exchange their objects, in one directory and across two."""
    directory("d")
    file("a", b"one")
    file("b", b"two")
    file("d/c", b"three")
    yield
    numbers = {name: os.stat(name).st_ino for name in ("a", "b", "d/c")}
    renameat2("a", "b", RENAME_EXCHANGE)
    assert (content("a"), content("b")) == (b"two", b"one")
    assert (os.stat("a").st_ino, os.stat("b").st_ino) == (numbers["b"], numbers["a"])
    renameat2("a", "d/c", RENAME_EXCHANGE)
    assert (content("a"), content("d/c")) == (b"three", b"two")
    assert os.stat("a").st_ino == numbers["d/c"]
    assert listing() == ["a", "b", "d"]


def exchange_types() -> Steps:
    """Objects of different types exchange too, directories with content among them."""
    file("f", b"file")
    directory("d")
    file("d/inner", b"inner")
    os.symlink("x", "link")
    yield
    renameat2("f", "d", RENAME_EXCHANGE)
    assert content("d") == b"file"
    assert content("f/inner") == b"inner"
    renameat2("link", "f", RENAME_EXCHANGE)
    assert os.readlink("f") == "x"
    assert listing("link") == ["inner"]
    with open("link/inner", "ab") as stream:
        stream.write(b"!")
    assert content("link/inner") == b"inner!"


def exchange_directories() -> Steps:
    """Two directories with content exchange, and both go on as they were."""
    for name in ("a", "b"):
        directory(name)
        directory(f"{name}/sub")
        file(f"{name}/{name}", name.encode())
        file(f"{name}/sub/deep", name.encode())
    yield
    renameat2("a", "b", RENAME_EXCHANGE)
    assert listing("a") == ["b", "sub"]
    assert listing("b") == ["a", "sub"]
    assert content("a/sub/deep") == b"b"
    file("a/new")
    os.unlink("b/a")
    renameat2("a", "b", RENAME_EXCHANGE)
    assert listing("a") == ["sub"]
    assert listing("b") == ["b", "new", "sub"]


def exchange_moves_times() -> Steps:
    """Both directories' times move."""
    directory("a")
    directory("b")
    file("a/f")
    file("b/g")
    yield
    with times(a="mc", b="mc"):
        renameat2("a/f", "b/g", RENAME_EXCHANGE)


def exchange_wrong() -> Steps:
    """ENOENT where one is missing; EINVAL for a directory with its own content."""
    file("f")
    directory("d")
    directory("d/e")
    file("d/e/g")
    yield
    with unchanged("f", "d", "d/e", "d/e/g"):
        with fails(errno.ENOENT):
            renameat2("f", "missing", RENAME_EXCHANGE)
        with fails(errno.ENOENT):
            renameat2("missing", "f", RENAME_EXCHANGE)
        for one, two in (("d", "d/e"), ("d", "d/e/g"), ("d/e", "d"), ("d/e/g", "d")):
            with fails(errno.EINVAL, errno.ENOTEMPTY):
                renameat2(one, two, RENAME_EXCHANGE)


def exchange_with_itself() -> Steps:
    """A name exchanged with itself, or two links of one file, change nothing."""
    file("f", b"x")
    os.link("f", "g")
    yield
    renameat2("f", "f", RENAME_EXCHANGE)
    renameat2("f", "g", RENAME_EXCHANGE)
    assert content("f") == content("g") == b"x"
    assert os.stat("f").st_nlink == 2


def wrong_flags() -> Steps:
    """EINVAL for flags that exclude each other or do not exist."""
    file("f")
    file("g")
    yield
    for flags in (RENAME_NOREPLACE | RENAME_EXCHANGE, RENAME_EXCHANGE | RENAME_WHITEOUT, 1 << 10):
        with unchanged("f", "g"), fails(errno.EINVAL):
            renameat2("f", "g", flags)


@needs(Facility.UNION)
def no_whiteouts_from_outside() -> Steps:
    """EINVAL for RENAME_WHITEOUT: nobody inside the mount makes a whiteout."""
    file("f")
    yield
    with unchanged("f"), fails(errno.EINVAL):
        renameat2("f", "g", RENAME_WHITEOUT)
    assert listing() == ["f"]


def open_file_follows() -> Steps:
    """A descriptor writes to the file wherever its name went."""
    directory("d")
    file("f", b"1")
    yield
    fd = os.open("f", os.O_WRONLY | os.O_APPEND)
    os.rename("f", "d/g")
    os.write(fd, b"2")
    os.fsync(fd)
    os.close(fd)
    assert content("d/g") == b"12"


def swap_by_three() -> Steps:
    """Names passed round: what each name holds is what was put there."""
    for name in "abc":
        file(name, name.encode())
    yield
    for _ in range(3):
        os.rename("a", "t")
        os.rename("b", "a")
        os.rename("c", "b")
        os.rename("t", "c")
    assert [content(name) for name in "abc"] == [b"a", b"b", b"c"]
    assert listing() == ["a", "b", "c"]


def overwrite_many_times() -> Steps:
    """The way of safe writers: a temporary file and a rename over the old, again and again."""
    file("f", b"0")
    yield
    for number in range(1, 100):
        file("f.tmp", b"%d" % number)
        os.rename("f.tmp", "f")
        assert content("f") == b"%d" % number
    assert listing() == ["f"]
