# SPDX-License-Identifier: GPL-3.0-or-later
"""rename(2) of directories with content: what they held is there, at every depth."""

from __future__ import annotations

import errno
import os

from tests.posix.expect import content, exists, fails, listing, mode
from tests.posix.scene import LONG, directory, file
from tests.posix.table import Steps


def _house(name: str) -> None:
    directory(name)
    file(f"{name}/f", b"f")
    directory(f"{name}/sub")
    file(f"{name}/sub/g", b"g")
    directory(f"{name}/sub/deep")
    file(f"{name}/sub/deep/h", b"h")
    os.symlink("sub/g", f"{name}/link")


def _check_house(name: str) -> None:
    assert listing(name) == ["f", "link", "sub"]
    assert listing(f"{name}/sub") == ["deep", "g"]
    for path, data in (("f", b"f"), ("sub/g", b"g"), ("sub/deep/h", b"h"), ("link", b"g")):
        assert content(f"{name}/{path}") == data


def takes_content_along() -> Steps:
    """All is there under the new name, nothing under the old."""
    _house("old")
    yield
    number = os.stat("old/sub/deep/h").st_ino
    os.rename("old", "new")
    _check_house("new")
    assert not exists("old")
    assert os.stat("new/sub/deep/h").st_ino == number
    assert listing() == ["new"]


def content_can_change() -> Steps:
    """Files of a renamed directory are written, removed, made, renamed, listed."""
    _house("old")
    yield
    os.rename("old", "new")
    with open("new/sub/g", "ab") as stream:
        stream.write(b"+")
    assert content("new/sub/g") == b"g+"
    os.chmod("new/sub", 0o700)
    assert mode("new/sub") == 0o700
    os.unlink("new/f")
    file("new/f", b"again")
    os.rename("new/sub/deep/h", "new/h")
    assert listing("new") == ["f", "h", "link", "sub"]
    assert listing("new/sub/deep") == []
    assert content("new/h") == b"h"


def twice_and_back() -> Steps:
    """A directory may be renamed again, and to its first name."""
    _house("one")
    yield
    os.rename("one", "two")
    _check_house("two")
    os.rename("two", "three")
    _check_house("three")
    os.rename("three", "one")
    _check_house("one")
    assert listing() == ["one"]


def old_name_is_free() -> Steps:
    """A directory made in the old place is empty; the renamed one keeps its content."""
    _house("d")
    yield
    os.rename("d", "moved")
    os.mkdir("d")
    assert listing("d") == []
    assert not exists("d/sub/g")
    file("d/f", b"other")
    os.mkdir("d/sub")
    assert listing("d/sub") == []
    _check_house("moved")


def into_deeper_and_higher_place() -> Steps:
    """Moves to other parents, down and up."""
    _house("d")
    directory("a")
    directory("a/b")
    directory("a/b/c")
    yield
    os.rename("d", "a/b/c/d")
    _check_house("a/b/c/d")
    os.rename("a/b/c/d", "a/d")
    _check_house("a/d")
    os.rename("a/d", "e")
    _check_house("e")
    assert listing("a/b/c") == []


def child_then_parent() -> Steps:
    """A directory renamed below one that is renamed after it, and the other way round."""
    _house("p")
    _house("q")
    yield
    os.rename("p/sub", "p/sub2")
    os.rename("p", "p2")
    assert content("p2/sub2/deep/h") == b"h"
    assert not exists("p2/sub")
    os.rename("q", "q2")
    os.rename("q2/sub", "q2/sub2")
    assert content("q2/sub2/deep/h") == b"h"
    assert listing("q2") == ["f", "link", "sub2"]
    os.rename("q2/sub2/deep", "p2/deep")
    assert content("p2/deep/h") == b"h"
    assert listing("q2/sub2") == ["g"]


def exchange_of_places() -> Steps:
    """Two directories trade names over a third one."""
    directory("a")
    file("a/one", b"a")
    directory("b")
    file("b/one", b"b")
    yield
    os.rename("a", "t")
    os.rename("b", "a")
    os.rename("t", "b")
    assert content("a/one") == b"b"
    assert content("b/one") == b"a"
    file("a/two")
    os.unlink("b/one")
    assert listing("a") == ["one", "two"]
    assert listing("b") == []


def over_emptied_directory() -> Steps:
    """A directory whose entries were all removed is empty, and can be replaced."""
    _house("new")
    directory("old")
    file("old/x")
    file("old/f", b"hidden")
    yield
    os.unlink("old/x")
    os.unlink("old/f")
    os.rename("new", "old")
    _check_house("old")


def emptied_directory_over_empty() -> Steps:
    """What was removed before the rename stays removed after it."""
    directory("d")
    file("d/f")
    file("d/g")
    directory("e")
    yield
    os.unlink("d/f")
    os.rename("d", "e")
    assert listing("e") == ["g"]
    os.unlink("e/g")
    os.rmdir("e")
    assert listing() == []


def removed_after_rename() -> Steps:
    """A renamed directory is emptied and removed; neither name comes back."""
    _house("d")
    yield
    os.rename("d", "e")
    for name in ("e/f", "e/link", "e/sub/g", "e/sub/deep/h"):
        os.unlink(name)
    with fails(errno.ENOTEMPTY):
        os.rmdir("e")
    os.rmdir("e/sub/deep")
    os.rmdir("e/sub")
    os.rmdir("e")
    assert listing() == []
    os.mkdir("e")
    os.mkdir("d")
    assert listing("e") == listing("d") == []


def from_inside() -> Steps:
    """The working directory and open directories follow the rename."""
    _house("d")
    yield
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    fd = os.open("d/sub", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir("d")
    os.rename("../d", "../e")
    assert content("sub/g") == b"g"
    file("new", b"new")
    made = os.open("made", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.close(made)
    os.fchdir(here)
    assert content("e/new") == b"new"
    assert listing("e/sub") == ["deep", "g", "made"]
    assert sorted(os.listdir(fd)) == ["deep", "g", "made"]
    os.close(fd)
    os.close(here)


def parent_of_moved_directory() -> Steps:
    """`..` leads to the new parent."""
    directory("a")
    directory("b")
    directory("a/d")
    file("a/d/f")
    yield
    os.rename("a/d", "b/d")
    assert os.stat("b/d/..").st_ino == os.stat("b").st_ino
    os.chdir("b/d")
    assert os.path.basename(os.getcwd()) == "d"
    assert os.stat("..").st_ino == os.stat("../../b").st_ino


def open_files_inside() -> Steps:
    """Descriptors of files inside go on, for reading and for writing."""
    _house("d")
    yield
    reader = os.open("d/f", os.O_RDONLY)
    writer = os.open("d/sub/g", os.O_WRONLY | os.O_APPEND)
    os.rename("d", "e")
    os.write(writer, b"+")
    assert content("e/sub/g") == b"g+"
    assert os.pread(reader, 10, 0) == b"f"
    os.close(reader)
    os.close(writer)


def hard_links_inside() -> Steps:
    """A file with names inside and outside stays one file."""
    directory("d")
    file("d/f", b"1")
    os.link("d/f", "outside")
    yield
    os.rename("d", "e")
    with open("outside", "ab") as stream:
        stream.write(b"2")
    assert content("e/f") == b"12"
    assert os.stat("e/f").st_nlink == 2
    assert os.stat("e/f").st_ino == os.stat("outside").st_ino


def long_names() -> Steps:
    """Directories with the longest names, nested, are renamed and found again."""
    directory(LONG)
    directory(f"{LONG}/{LONG}")
    file(f"{LONG}/{LONG}/f", b"f")
    yield
    os.rename(f"{LONG}/{LONG}", "short")
    os.rename("short", f"{LONG}/back")
    os.rename(LONG, "d")
    assert content("d/back/f") == b"f"


def odd_names() -> Steps:
    """Names with the signs that marks are made of."""
    names = ["a:b", "a/..b", "x,y=z", "%2f", "\udcff", "tab\t"]
    for name in names:
        os.makedirs(name, exist_ok=True)
        file(f"{name}/f", b"f")
    yield
    for number, name in enumerate(names):
        os.rename(name, f"n{number}\udcfe:")
        assert content(f"n{number}\udcfe:/f") == b"f"


def many() -> Steps:
    """A hundred directories renamed in turn keep their own content."""
    for number in range(100):
        directory(f"d{number}")
        file(f"d{number}/id", b"%d" % number)
    yield
    for number in range(100):
        os.rename(f"d{number}", f"e{number}")
    for number in range(99):
        os.rename(f"e{number}", f"d{number + 1}")
    for number in range(99):
        assert content(f"d{number + 1}/id") == b"%d" % number
    assert len(listing()) == 100
