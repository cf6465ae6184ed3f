# SPDX-License-Identifier: GPL-3.0-or-later
"""chown(2), fchown(2), lchown(2)."""

from __future__ import annotations

import errno
import os
from functools import partial

from tests.posix.expect import fails, mode, moving, owner, times, unchanged
from tests.posix.scene import ANNE, BERT, CLUB, directory, file, one_of_each
from tests.posix.table import Steps
from tests.support.user import as_user


def every_type() -> Steps:
    """Root gives away objects of every type; lchown(2) the link itself."""
    names = one_of_each()
    yield
    for name in names:
        os.lchown(name, ANNE, CLUB)
        assert owner(name) == (ANNE, CLUB), name


def minus_one_keeps() -> Steps:
    """-1 leaves the user or the group as it is."""
    file("f", uid=ANNE, gid=BERT)
    yield
    os.chown("f", -1, CLUB)
    assert owner("f") == (ANNE, CLUB)
    os.chown("f", BERT, -1)
    assert owner("f") == (BERT, CLUB)
    os.chown("f", -1, -1)
    assert owner("f") == (BERT, CLUB)


def large_ids() -> Steps:
    """Ids have 32 bits."""
    file("f")
    yield
    os.chown("f", 4_000_000_000, 3_999_999_999)
    assert owner("f") == (4_000_000_000, 3_999_999_999)


def follows_symlink() -> Steps:
    """chown(2) changes the target, lchown(2) the link."""
    file("f")
    os.symlink("f", "link")
    yield
    os.chown("link", ANNE, ANNE)
    assert owner("f") == (ANNE, ANNE)
    assert owner("link") == (0, 0)
    os.lchown("link", BERT, BERT)
    assert owner("f") == (ANNE, ANNE)
    assert owner("link") == (BERT, BERT)


def by_descriptor() -> Steps:
    """fchown(2) works on directories and on removed files."""
    file("f")
    directory("d")
    yield
    for name in ("f", "d"):
        fd = os.open(name, os.O_RDONLY)
        os.fchown(fd, ANNE, CLUB)
        assert owner(name) == (ANNE, CLUB)
        os.close(fd)
    fd = os.open("f", os.O_RDONLY)
    os.unlink("f")
    os.fchown(fd, BERT, BERT)
    assert os.fstat(fd).st_uid == BERT
    os.close(fd)


def moves_ctime() -> Steps:
    """Only the change time moves."""
    file("f")
    directory("d")
    os.symlink("f", "link")
    yield
    with times(f="c", d="c", link="c", here=""):
        for name in ("f", "d", "link"):
            os.lchown(name, ANNE, ANNE)


def descriptor_moves_ctime() -> Steps:
    """As with a path."""
    file("f")
    yield
    fd = os.open("f", os.O_RDONLY)
    with moving({fd: "c"}):
        os.fchown(fd, ANNE, ANNE)
    os.close(fd)


def owner_may_choose_own_groups() -> Steps:
    """The owner sets the group to any group of the caller."""
    file("f", uid=ANNE, gid=ANNE)
    yield

    def act() -> None:
        os.chown("f", -1, CLUB)
        assert owner("f") == (ANNE, CLUB)
        os.chown("f", ANNE, ANNE)
        assert owner("f") == (ANNE, ANNE)

    as_user(ANNE, act, groups=[CLUB])


def owner_may_not_give_away() -> Steps:
    """EPERM: neither to another user nor to a group that is not the caller's."""
    file("f", uid=ANNE, gid=ANNE)
    directory("d", uid=ANNE, gid=ANNE)
    yield

    def act() -> None:
        for name in ("f", "d"):
            with fails(errno.EPERM):
                os.chown(name, BERT, -1)
            with fails(errno.EPERM):
                os.chown(name, -1, CLUB)

    with unchanged("f", "d"):
        as_user(ANNE, act)


def others_may_not() -> Steps:
    """EPERM for whoever is not the owner, even to take what is offered."""
    file("f", mode=0o666, uid=BERT, gid=ANNE)
    yield

    def act() -> None:
        for uid, gid in ((ANNE, -1), (-1, ANNE), (ANNE, ANNE)):
            with fails(errno.EPERM):
                os.chown("f", uid, gid)

    with unchanged("f"):
        as_user(ANNE, act)


def clears_setid_for_users() -> Steps:
    """The set-id bits of an executable file fall when its owner changes the group."""
    for bits in (0o4755, 0o2755, 0o6755, 0o6711):
        file(f"f{bits:o}", mode=bits, uid=ANNE, gid=ANNE)
    yield
    for bits in (0o4755, 0o2755, 0o6755, 0o6711):
        name = f"f{bits:o}"
        as_user(ANNE, partial(os.chown, name, -1, CLUB), groups=[CLUB])
        assert mode(name) == bits & 0o777
        assert owner(name) == (ANNE, CLUB)


def clears_setid_for_root() -> Steps:
    """On Linux root's chown clears them too."""
    file("f", mode=0o6755)
    yield
    os.chown("f", ANNE, CLUB)
    assert mode("f") == 0o755


def clears_setid_without_change() -> Steps:
    """chown(-1, -1) is a chown: the bits fall."""
    file("f", mode=0o6755, uid=ANNE)
    yield
    os.chown("f", -1, -1)
    assert mode("f") == 0o755


def keeps_setid_of_directories() -> Steps:
    """The set-group-ID bit of a directory means something else and stays."""
    directory("d", mode=0o6755)
    yield
    os.chown("d", ANNE, CLUB)
    assert mode("d") == 0o6755


def keeps_setgid_without_group_execute() -> Steps:
    """chown(2): without group execute permission S_ISGID is mandatory locking, and stays."""
    file("f", mode=0o2644)
    yield
    os.chown("f", ANNE, CLUB)
    assert mode("f") == 0o2644


def keeps_the_rest() -> Steps:
    """Content and time of modification stay."""
    file("f", b"content")
    os.utime("f", ns=(10**18, 10**18 + 1))
    yield
    os.chown("f", ANNE, CLUB)
    assert os.stat("f").st_mtime_ns == 10**18 + 1
    with open("f", "rb") as stream:
        assert stream.read() == b"content"
