# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may do what: permission bits for owner, group and others; sticky directories."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from tests.posix.expect import content, exists, fails, owner
from tests.posix.scene import ANNE, BERT, CLUB, directory, file, open_house
from tests.posix.table import Steps
from tests.support.syscall import renameat2
from tests.support.user import as_user

WANTS = {
    os.O_RDONLY: 4,
    os.O_WRONLY: 2,
    os.O_RDWR: 6,
}


def _may_open(name: str, flags: int) -> bool:
    try:
        os.close(os.open(name, flags))
    except PermissionError:
        return False
    return True


def open_by_bits() -> Steps:
    """Each of the eight permissions of owner, group and others decides alone."""
    for bits in range(8):
        file(f"owner{bits}", mode=bits << 6, uid=ANNE, gid=CLUB)
        file(f"group{bits}", mode=bits << 3, uid=BERT, gid=ANNE)
        file(f"supplementary{bits}", mode=bits << 3, uid=BERT, gid=CLUB)
        file(f"other{bits}", mode=bits, uid=BERT, gid=BERT)
    yield

    def look() -> None:
        for who in ("owner", "group", "supplementary", "other"):
            for bits in range(8):
                for flags, want in WANTS.items():
                    assert _may_open(f"{who}{bits}", flags) == (bits & want == want), (
                        f"{who} with {bits}, flags {flags}"
                    )
                for want in (os.R_OK, os.W_OK, os.X_OK):
                    assert os.access(f"{who}{bits}", want) == (bits & want == want)

    as_user(ANNE, look, groups=[CLUB])


def owner_bits_come_first() -> Steps:
    """The owner is judged by the owner's bits even where the group's would allow more."""
    file("f", mode=0o077, uid=ANNE, gid=ANNE)
    file("g", mode=0o707, uid=BERT, gid=ANNE)
    yield

    def look() -> None:
        for name in ("f", "g"):
            for flags in WANTS:
                assert not _may_open(name, flags)

    as_user(ANNE, look)


def root_passes() -> Steps:
    """Root reads and writes whatever the bits say."""
    file("f", b"x", mode=0, uid=ANNE)
    directory("d", mode=0, uid=ANNE)
    yield
    with open("f", "r+b") as stream:
        assert stream.read() == b"x"
        stream.write(b"y")
    file("d/new")
    assert os.listdir("d") == ["new"]


def search_only_directory() -> Steps:
    """x without r finds names but lists none; r without x lists but finds none."""
    directory("search", 0o711)
    file("search/f", mode=0o666)
    directory("read", 0o744)
    file("read/f", mode=0o666)
    yield

    def look() -> None:
        assert _may_open("search/f", os.O_RDWR)
        with fails(errno.EACCES):
            os.listdir("search")
        assert os.listdir("read") == ["f"]
        with fails(errno.EACCES):
            os.stat("read/f")

    as_user(ANNE, look)


def changing_a_directory_needs_write() -> Steps:
    """Every call that adds or removes a name needs w on its directory."""
    directory("d", 0o755)
    file("d/f", mode=0o666)
    directory("d/sub", 0o777)
    directory("mine", 0o755, ANNE)
    file("mine/f", uid=ANNE)
    yield
    acts: list[Callable[[], object]] = [
        lambda: os.open("d/new", os.O_CREAT | os.O_WRONLY, 0o644),
        lambda: os.mkdir("d/new"),
        lambda: os.mkfifo("d/new"),
        lambda: os.symlink("x", "d/new"),
        lambda: os.link("mine/f", "d/new"),
        lambda: os.unlink("d/f"),
        lambda: os.rmdir("d/sub"),
        lambda: os.rename("d/f", "mine/new"),
        lambda: os.rename("mine/f", "d/f"),
        lambda: os.rename("mine/f", "d/new"),
        lambda: renameat2("mine/f", "d/f", 2),
    ]

    def look() -> None:
        for act in acts:
            with fails(errno.EACCES):
                act()
        assert _may_open("d/f", os.O_RDWR), "an existing file needs no w on its directory"

    as_user(ANNE, look)
    assert sorted(os.listdir("d")) == ["f", "sub"]


def write_by_group() -> Steps:
    """A supplementary group is enough to make and remove names."""
    directory("d", 0o770, 0, CLUB)
    file("d/f", b"1", 0o660, 0, CLUB)
    yield

    def act() -> None:
        assert content("d/f") == b"1"
        file_descriptor = os.open("d/new", os.O_CREAT | os.O_WRONLY, 0o644)
        os.close(file_descriptor)
        os.mkdir("d/dir")
        os.rmdir("d/dir")
        os.unlink("d/f")

    as_user(ANNE, act, groups=[CLUB])
    assert owner("d/new") == (ANNE, ANNE)
    assert not exists("d/f")


def sticky_unlink_and_rmdir() -> Steps:
    """In a sticky directory only the owner of a name or of the directory removes it."""
    directory("s", 0o1777)
    file("s/anne", uid=ANNE)
    file("s/bert", mode=0o666, uid=BERT)
    directory("s/dir", 0o777, BERT)
    directory("own", 0o1777, ANNE)
    file("own/bert", uid=BERT)
    directory("own/dir", 0o755, BERT)
    yield

    def act() -> None:
        os.unlink("s/anne")
        with fails(errno.EPERM, errno.EACCES):
            os.unlink("s/bert")
        with fails(errno.EPERM, errno.EACCES):
            os.rmdir("s/dir")
        os.unlink("own/bert")
        os.rmdir("own/dir")

    as_user(ANNE, act)
    assert sorted(os.listdir("s")) == ["bert", "dir"]


def sticky_rename() -> Steps:
    """In a sticky directory a name of another's is neither moved nor replaced nor exchanged."""
    directory("s", 0o1777)
    directory("free", 0o777)
    file("s/anne", b"anne", uid=ANNE)
    file("s/bert", b"bert", 0o666, BERT)
    file("free/anne", uid=ANNE)
    yield

    def act() -> None:
        for old, new in (
            ("s/bert", "s/new"),
            ("s/bert", "free/new"),
            ("s/anne", "s/bert"),
            ("free/anne", "s/bert"),
        ):
            with fails(errno.EPERM, errno.EACCES, what=f"{old} to {new}:"):
                os.rename(old, new)
        with fails(errno.EPERM, errno.EACCES):
            renameat2("s/anne", "s/bert", 2)
        os.rename("s/anne", "s/anne2")
        os.rename("s/anne2", "free/anne2")

    as_user(ANNE, act)
    assert content("s/bert") == b"bert"
    assert exists("free/anne2")


def new_objects_belong_to_the_caller() -> Steps:
    """fsuid and fsgid own what is made; the umask is taken from the mode."""
    open_house()
    yield

    def act() -> None:
        os.umask(0o027)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir("directory", 0o777)
        os.mkfifo("fifo", 0o666)
        os.symlink("x", "symlink")
        os.mknod("node", 0o100666)

    as_user(ANNE, act, gid=CLUB)
    for name in ("file", "directory", "fifo", "symlink", "node"):
        assert owner(name) == (ANNE, CLUB), name
    for name, bits in (("file", 0o640), ("directory", 0o750), ("fifo", 0o640), ("node", 0o640)):
        assert os.lstat(name).st_mode & 0o7777 == bits, name


def setgid_directory() -> Steps:
    """What is made in a set-group-ID directory gets its group; a directory the bit too."""
    directory("d", 0o2777, 0, CLUB)
    yield

    def act() -> None:
        os.umask(0)
        os.close(os.open("d/file", os.O_CREAT | os.O_WRONLY, 0o666))
        os.mkdir("d/directory", 0o777)
        os.mkfifo("d/fifo", 0o666)
        os.symlink("x", "d/symlink")

    as_user(ANNE, act)
    for name in ("file", "directory", "fifo", "symlink"):
        assert owner(f"d/{name}") == (ANNE, CLUB), name
    assert os.stat("d/directory").st_mode & 0o7777 == 0o2777
    assert os.stat("d/file").st_mode & 0o7777 == 0o666


def setgid_file_in_setgid_directory() -> Steps:
    """Who is not in the directory's group cannot make a set-group-ID program there (inode(7))."""
    directory("d", 0o2777, 0, CLUB)
    yield

    def act() -> None:
        os.umask(0)
        os.close(os.open("d/program", os.O_CREAT | os.O_WRONLY, 0o2775))

    as_user(ANNE, act)
    assert os.stat("d/program").st_mode & 0o7777 == 0o775
