# SPDX-License-Identifier: GPL-3.0-or-later
"""link(2), linkat(2), and what hard links share."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

from tests.posix.expect import content, exists, fails, mode, times, unchanged
from tests.posix.scene import ANNE, BERT, KINDS, directory, file, one_of_each
from tests.posix.table import Steps, nightly
from tests.support.syscall import AT_SYMLINK_FOLLOW, linkat
from tests.support.user import as_user


def every_type() -> Steps:
    """Every type but a directory takes a second name: one inode, two links."""
    names = one_of_each()
    names.remove("directory")
    yield
    for name in names:
        os.link(name, name + "2", follow_symlinks=False)
        first, second = os.lstat(name), os.lstat(name + "2")
        assert first == second or (first.st_ino, first.st_nlink) == (second.st_ino, 2), name
        assert second.st_nlink == 2
        assert stat.S_IFMT(first.st_mode) == stat.S_IFMT(second.st_mode)
        os.unlink(name)
        assert os.lstat(name + "2").st_nlink == 1
        assert os.lstat(name + "2").st_ino == first.st_ino


def links_share_everything() -> Steps:
    """Mode, owner, content, times and xattrs are of the inode, not of the name."""
    file("a", b"one")
    os.link("a", "b")
    yield
    os.chmod("a", 0o640)
    os.chown("b", ANNE, ANNE)
    assert mode("b") == 0o640
    assert os.stat("a").st_uid == ANNE
    with open("b", "ab") as stream:
        stream.write(b" two")
    assert content("a") == b"one two"
    os.setxattr("a", "user.k", b"v")
    assert os.getxattr("b", "user.k") == b"v"
    os.truncate("a", 1)
    assert content("b") == b"o"
    assert os.stat("a") == os.stat("b")


def links_across_directories() -> Steps:
    """Names in three directories stay one file after a change through one of them."""
    for name in ("x", "y", "z"):
        directory(name)
    file("x/f", b"first")
    os.link("x/f", "y/f")
    os.link("x/f", "z/f")
    yield
    assert os.stat("x/f").st_nlink == 3
    fd = os.open("z/f", os.O_RDONLY)
    with open("y/f", "ab") as stream:
        stream.write(b" second")
    names = ("x/f", "y/f", "z/f")
    assert {content(name) for name in names} == {b"first second"}
    assert len({os.stat(name).st_ino for name in names}) == 1
    assert {os.stat(name).st_nlink for name in names} == {3}
    assert os.fstat(fd).st_ino == os.stat("x/f").st_ino
    os.close(fd)


def count_follows_the_names() -> Steps:
    """st_nlink through links, removals, replacement and descriptors."""
    file("a")
    os.link("a", "b")
    file("other")
    yield
    fd = os.open("a", os.O_RDONLY)
    os.link("b", "c")
    assert os.fstat(fd).st_nlink == 3
    os.unlink("a")
    assert os.stat("b").st_nlink == 2
    os.rename("other", "c")
    assert os.stat("b").st_nlink == 1
    assert os.fstat(fd).st_nlink == 1
    os.unlink("b")
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)


def removing_one_name_keeps_the_other() -> Steps:
    """The other name has the content, and takes changes."""
    file("a", b"kept")
    os.link("a", "b")
    yield
    os.unlink("a")
    assert not exists("a")
    assert content("b") == b"kept"
    with open("b", "ab") as stream:
        stream.write(b"!")
    assert content("b") == b"kept!"
    os.link("b", "a")
    assert os.stat("a").st_nlink == 2
    assert content("a") == b"kept!"


def moves_times() -> Steps:
    """The file's change time and the directory's times move."""
    file("f")
    yield
    with times(f="c", here="mc"):
        os.link("f", "g")


def moves_times_of_new_directory_only() -> Steps:
    """The directory of the old name is not touched."""
    directory("a")
    directory("b")
    file("a/f")
    yield
    with times(a="", b="mc"):
        os.link("a/f", "b/f")


def unlink_moves_ctime_of_the_rest() -> Steps:
    """Removing one name changes the inode of the others."""
    file("a")
    os.link("a", "b")
    yield
    with times(b="c", here="mc"):
        os.unlink("a")


def symlink_itself() -> Steps:
    """link(2) does not follow; linkat(2) with AT_SYMLINK_FOLLOW does."""
    file("f")
    os.symlink("f", "link")
    yield
    linkat("link", "hard")
    assert os.readlink("hard") == "f"
    assert os.lstat("hard").st_ino == os.lstat("link").st_ino
    linkat("link", "followed", AT_SYMLINK_FOLLOW)
    assert os.lstat("followed").st_ino == os.stat("f").st_ino


def by_descriptor() -> Steps:
    """linkat(2) with AT_EMPTY_PATH gives an open file another name."""
    file("f", b"open")
    yield
    fd = os.open("f", os.O_RDONLY)
    linkat(fd, "g")
    assert content("g") == b"open"
    assert os.fstat(fd).st_nlink == 2
    os.close(fd)


def removed_file() -> Steps:
    """ENOENT: a file without names does not come back by a link."""
    file("f")
    yield
    fd = os.open("f", os.O_RDONLY)
    os.unlink("f")
    with fails(errno.ENOENT):
        linkat(fd, "g")
    with fails(errno.ENOENT):
        linkat(f"/proc/self/fd/{fd}", "g", AT_SYMLINK_FOLLOW)
    os.close(fd)


def existing_name() -> Steps:
    """EEXIST for a new name of any type, also the same file and a dangling link."""
    file("f")
    names = one_of_each("old-")
    yield
    with unchanged("f", *names):
        for name in [*names, "f"]:
            with fails(errno.EEXIST, what=name):
                os.link("f", name)


def directories() -> Steps:
    """EPERM: no second name for a directory."""
    directory("d")
    yield
    with fails(errno.EPERM):
        os.link("d", "e")


def other_filesystem() -> Steps:
    """EXDEV."""
    file("f")
    yield
    with tempfile.TemporaryDirectory() as elsewhere, unchanged("f"):
        with fails(errno.EXDEV):
            os.link("f", f"{elsewhere}/f")
        Path(elsewhere, "g").touch()
        with fails(errno.EXDEV):
            os.link(f"{elsewhere}/g", "g")


def protected() -> Steps:
    """EPERM for another's unwritable file where fs.protected_hardlinks asks for it (proc(5))."""
    file("bert", mode=0o644, uid=BERT)
    file("shared", mode=0o666, uid=BERT)
    directory("d", 0o777)
    yield
    protects = Path("/proc/sys/fs/protected_hardlinks").read_text().strip() == "1"

    def act() -> None:
        os.link("shared", "d/shared")
        if protects:
            with fails(errno.EPERM):
                os.link("bert", "d/bert")
        else:
            os.link("bert", "d/bert")

    as_user(ANNE, act)
    assert exists("d/bert") != protects


def many() -> Steps:
    """A thousand names of one file."""
    file("f", b"many")
    yield
    for number in range(1000):
        os.link("f", f"link{number}")
    assert os.stat("link999").st_nlink == 1001
    os.chmod("link500", 0o600)
    assert mode("f") == 0o600
    for number in range(1000):
        os.unlink(f"link{number}")
    assert os.stat("f").st_nlink == 1


@nightly
def too_many() -> Steps:
    """EMLINK where the filesystem has a bound, which f_link of pathconf(3) tells."""
    file("f")
    yield
    bound = os.pathconf("f", "PC_LINK_MAX")
    if bound > 70_000:
        bound = 70_000
    made = 0
    try:
        while made < bound:
            os.link("f", f"l{made}")
            made += 1
    except OSError as error:
        if error.errno != errno.EMLINK:
            raise
    assert os.stat("f").st_nlink == made + 1
    os.unlink("l0")
    os.link("f", "l0")


def replaced_by_rename() -> Steps:
    """rename(2) between two names of one file does nothing at all."""
    file("a", b"same")
    os.link("a", "b")
    yield
    with unchanged("a", "b"):
        os.rename("a", "b")
    assert exists("a")
    assert exists("b")


def kinds_known() -> Steps:
    """The scene makes what it says it makes."""
    names = one_of_each()
    yield
    types = {stat.S_IFMT(os.lstat(name).st_mode) for name in names}
    assert len(types) == len(KINDS) == 7
