# SPDX-License-Identifier: GPL-3.0-or-later
"""chmod(2), fchmod(2)."""

from __future__ import annotations

import errno
import os
from functools import partial

from tests.posix.expect import fails, mode, moving, times, unchanged
from tests.posix.scene import ANNE, BERT, CLUB, directory, file, one_of_each
from tests.posix.table import Steps
from tests.support.user import as_user


def every_type() -> Steps:
    """The mode of every type of object but the symbolic link can be changed."""
    names = one_of_each()
    names.remove("symlink")
    yield
    for name in names:
        for bits in (0o000, 0o111, 0o400, 0o755, 0o1777, 0o644):
            os.chmod(name, bits)
            assert mode(name) == bits, name


def all_twelve_bits() -> Steps:
    """Root can set every bit of a file and of a directory."""
    file("f")
    directory("d")
    yield
    for bits in (0o7777, 0o4755, 0o2755, 0o1755, 0o6711, 0o0):
        for name in ("f", "d"):
            os.chmod(name, bits)
            assert mode(name) == bits


def follows_symlink() -> Steps:
    """The target changes, not the link."""
    file("f")
    os.symlink("f", "link")
    yield
    os.chmod("link", 0o600)
    assert mode("f") == 0o600
    assert mode("link") == 0o777


def by_descriptor() -> Steps:
    """fchmod(2) works on read-only descriptors, of directories and removed files too."""
    file("f")
    directory("d")
    yield
    for name in ("f", "d"):
        fd = os.open(name, os.O_RDONLY)
        os.fchmod(fd, 0o701)
        assert mode(name) == 0o701
        os.close(fd)
    fd = os.open("f", os.O_RDONLY)
    os.unlink("f")
    os.fchmod(fd, 0o640)
    assert mode(fd) == 0o640
    os.close(fd)


def moves_ctime() -> Steps:
    """Only the change time of the object moves."""
    file("f")
    directory("d")
    yield
    with times(f="c", d="c", here=""):
        os.chmod("f", 0o600)
        os.chmod("d", 0o700)


def same_mode_moves_ctime() -> Steps:
    """A change to the mode it had counts as a change."""
    file("f")
    yield
    with times(f="c"):
        os.chmod("f", 0o644)


def descriptor_moves_ctime() -> Steps:
    """As with a path."""
    file("f")
    yield
    fd = os.open("f", os.O_RDONLY)
    with moving({fd: "c", "f": "c"}):
        os.fchmod(fd, 0o600)
    os.close(fd)


def by_others() -> Steps:
    """EPERM for whoever is not the owner, whatever the bits allow."""
    file("f", mode=0o666, uid=BERT, gid=ANNE)
    directory("d", mode=0o777, uid=BERT)
    yield
    with unchanged("f", "d"):
        for name in ("f", "d"):
            with fails(errno.EPERM):
                as_user(ANNE, partial(os.chmod, name, 0o600))


def by_owner() -> Steps:
    """The owner needs no permission on the object itself."""
    file("f", mode=0, uid=ANNE)
    yield
    as_user(ANNE, lambda: os.chmod("f", 0o644))
    assert mode("f") == 0o644


def setgid_outside_the_group() -> Steps:
    """The set-group-ID bit is dropped without error if the group is not the caller's."""
    file("f", mode=0o755, uid=ANNE, gid=BERT)
    file("g", mode=0o755, uid=ANNE, gid=CLUB)
    directory("d", mode=0o755, uid=ANNE, gid=BERT)
    yield

    def act() -> None:
        os.chmod("f", 0o2755)
        os.chmod("g", 0o2755)
        os.chmod("d", 0o2755)

    as_user(ANNE, act, groups=[CLUB])
    assert mode("f") == 0o755
    assert mode("g") == 0o2755
    assert mode("d") == 0o755


def sticky_file_by_owner() -> Steps:
    """On Linux a user may set the sticky bit of a file."""
    file("f", uid=ANNE)
    yield
    as_user(ANNE, lambda: os.chmod("f", 0o1644))
    assert mode("f") == 0o1644


def takes_effect_at_once() -> Steps:
    """The next open is judged by the new mode."""
    file("f", mode=0o600, uid=BERT)
    yield

    def try_open() -> None:
        os.close(os.open("f", os.O_RDONLY))

    with fails(errno.EACCES):
        as_user(ANNE, try_open)
    os.chmod("f", 0o604)
    as_user(ANNE, try_open)
    os.chmod("f", 0o600)
    with fails(errno.EACCES):
        as_user(ANNE, try_open)


def keeps_the_rest() -> Steps:
    """Size, content, owner and times of modification are what they were."""
    file("f", b"x" * 100_000, 0o644, ANNE, CLUB)
    os.utime("f", ns=(10**18, 10**18 + 123_456_789))
    yield
    os.chmod("f", 0o600)
    found = os.stat("f")
    assert (found.st_size, found.st_uid, found.st_gid) == (100_000, ANNE, CLUB)
    assert found.st_mtime_ns == 10**18 + 123_456_789
    with open("f", "rb") as stream:
        assert stream.read() == b"x" * 100_000
