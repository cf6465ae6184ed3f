# SPDX-License-Identifier: GPL-3.0-or-later
"""utimensat(2), futimens(3), and which operations move which times."""

from __future__ import annotations

import errno
import os
import time

from tests.posix.expect import fails, moving, times, unchanged
from tests.posix.scene import ANNE, BERT, directory, file, one_of_each
from tests.posix.table import Facility, Steps, needs
from tests.support.clock import tick
from tests.support.syscall import (
    AT_SYMLINK_NOFOLLOW,
    STATX_BTIME,
    UTIME_NOW,
    UTIME_OMIT,
    futimens,
    statx,
    utimensat,
    utimensat_null,
)
from tests.support.user import as_user

NOW = (0, UTIME_NOW)
OMIT = (0, UTIME_OMIT)
ONE = (1_000_000_000, 123_456_789)
TWO = (1_100_000_000, 987_654_321)


def _stamps(name: str) -> tuple[int, int]:
    found = os.lstat(name)
    return found.st_atime_ns, found.st_mtime_ns


def _ns(stamp: tuple[int, int]) -> int:
    return stamp[0] * 1_000_000_000 + stamp[1]


def every_type() -> Steps:
    """Both times are set to the nanosecond on objects of every type, links themselves too."""
    names = one_of_each()
    yield
    for name in names:
        utimensat(name, ONE, TWO, AT_SYMLINK_NOFOLLOW)
        assert _stamps(name) == (_ns(ONE), _ns(TWO)), name


def follows_symlink() -> Steps:
    """Without AT_SYMLINK_NOFOLLOW the target's times are set."""
    file("f")
    os.symlink("f", "link")
    yield
    before = os.lstat("link").st_mtime_ns
    utimensat("link", ONE, TWO)
    assert _stamps("f") == (_ns(ONE), _ns(TWO))
    assert os.lstat("link").st_mtime_ns == before


def by_descriptor() -> Steps:
    """futimens(3) on read-only descriptors, of directories and removed files too."""
    file("f")
    directory("d")
    yield
    for name in ("f", "d"):
        fd = os.open(name, os.O_RDONLY)
        futimens(fd, ONE, TWO)
        assert _stamps(name) == (_ns(ONE), _ns(TWO))
        os.close(fd)
    fd = os.open("f", os.O_RDONLY)
    os.unlink("f")
    futimens(fd, TWO, ONE)
    assert os.fstat(fd).st_mtime_ns == _ns(ONE)
    os.close(fd)


def omit() -> Steps:
    """UTIME_OMIT keeps that time; both omitted change nothing at all."""
    file("f")
    yield
    utimensat("f", ONE, TWO)
    utimensat("f", OMIT, ONE)
    assert _stamps("f") == (_ns(ONE), _ns(ONE))
    utimensat("f", TWO, OMIT)
    assert _stamps("f") == (_ns(TWO), _ns(ONE))
    with times(f=""):
        utimensat("f", OMIT, OMIT)


def now() -> Steps:
    """UTIME_NOW and the null pointer are the present."""
    file("f")
    yield
    for number in range(3):
        utimensat("f", ONE, ONE)
        before = time.time_ns() - 50_000_000
        if number == 0:
            utimensat("f", NOW, NOW)
        elif number == 1:
            utimensat_null("f")
        else:
            utimensat("f", NOW, OMIT)
        after = time.time_ns() + 50_000_000
        accessed, modified = _stamps("f")
        assert before <= accessed <= after
        if number == 2:
            assert modified == _ns(ONE)
        else:
            assert before <= modified <= after


def moves_ctime() -> Steps:
    """The change time moves with every setting."""
    file("f")
    directory("d")
    yield
    for name in ("f", "d"):
        before = os.stat(name).st_ctime_ns
        tick()
        utimensat(name, ONE, ONE)
        middle = os.stat(name).st_ctime_ns
        assert middle > before
        tick()
        utimensat(name, NOW, OMIT)
        assert os.stat(name).st_ctime_ns > middle


def far_times() -> Steps:
    """Times before 1970 and after 2038."""
    file("f")
    yield
    for seconds in (-1, -1_000_000_000, 0, 1, (1 << 31) + 5, 6_000_000_000):
        utimensat("f", (seconds, 5), (seconds, 999_999_999))
        assert _stamps("f") == (_ns((seconds, 5)), _ns((seconds, 999_999_999))), seconds


def wrong_nanoseconds() -> Steps:
    """EINVAL for nanoseconds that are none."""
    file("f")
    yield
    with unchanged("f"):
        for wrong in (-1, 1_000_000_000, UTIME_NOW + 5):
            with fails(errno.EINVAL):
                utimensat("f", (1, wrong), ONE)
            with fails(errno.EINVAL):
                utimensat("f", ONE, (1, wrong))


def by_owner() -> Steps:
    """The owner needs no permission on the file."""
    file("f", mode=0, uid=ANNE)
    yield

    def act() -> None:
        utimensat("f", ONE, TWO)
        utimensat("f", NOW, NOW)
        utimensat("f", NOW, ONE)

    as_user(ANNE, act)


def by_writer() -> Steps:
    """Who may write may set the present, and nothing else: EPERM."""
    file("f", mode=0o666, uid=BERT)
    yield

    def act() -> None:
        utimensat("f", NOW, NOW)
        utimensat_null("f")
        utimensat("f", OMIT, OMIT)
        for one, two in ((ONE, TWO), (NOW, OMIT), (OMIT, NOW), (NOW, ONE), (ONE, OMIT)):
            with fails(errno.EPERM, what=f"{one} {two}"):
                utimensat("f", one, two)

    as_user(ANNE, act)


def by_others() -> Steps:
    """EACCES for the present without write permission, EPERM for other times."""
    file("f", mode=0o644, uid=BERT)
    yield

    def act() -> None:
        with fails(errno.EACCES):
            utimensat("f", NOW, NOW)
        with fails(errno.EACCES):
            utimensat_null("f")
        with fails(errno.EPERM):
            utimensat("f", ONE, ONE)
        utimensat("f", OMIT, OMIT)

    with unchanged("f"):
        as_user(ANNE, act)


def write_moves() -> Steps:
    """write(2) moves modification and change time."""
    file("f", b"x")
    yield
    fd = os.open("f", os.O_RDWR)
    with moving({fd: "mc", ".": ""}):
        os.write(fd, b"y")
    with moving({fd: "mc", "f": "mc"}):
        os.pwrite(fd, b"y", 100)
    os.close(fd)


def read_moves_neither() -> Steps:
    """read(2), open for reading, listing and looking move neither of the two."""
    file("f", b"x" * 10_000)
    directory("d")
    file("d/g")
    os.symlink("f", "link")
    yield
    with times(f="", d="", link="", here=""):
        with open("f", "rb") as stream:
            stream.read()
        os.listdir("d")
        os.readlink("link")
        os.stat("d/g")
        os.access("f", os.W_OK)


def open_for_writing_moves_nothing() -> Steps:
    """Opening without writing is no change, though it may cost a copy."""
    file("f", b"x")
    directory("d")
    file("d/f", b"x")
    yield
    with moving({"f": "", "d": "", "d/f": "", ".": ""}):
        for name in ("f", "d/f"):
            for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_APPEND):
                os.close(os.open(name, flags))


def change_inside_moves_no_parents() -> Steps:
    """A change to a file or below a directory moves no time of what is above."""
    directory("a")
    directory("a/b")
    file("a/b/f")
    file("a/b/g")
    yield
    with moving({".": "", "a": "", "a/b": ""}):
        os.chmod("a/b/f", 0o600)
        os.truncate("a/b/f", 5)
        os.setxattr("a/b/f", "user.x", b"x")
        with open("a/b/g", "ab") as stream:
            stream.write(b"x")
    with moving({".": "", "a": "", "a/b": "mc"}):
        os.unlink("a/b/g")


def kept_after_other_changes() -> Steps:
    """A set time survives a change of mode, owner, name and xattrs, and the last close."""
    file("f", b"content")
    yield
    fd = os.open("f", os.O_RDWR)
    os.write(fd, b"new")
    futimens(fd, ONE, TWO)
    os.close(fd)
    os.chmod("f", 0o600)
    os.chown("f", ANNE, ANNE)
    os.setxattr("f", "user.k", b"v")
    os.rename("f", "g")
    assert _stamps("g") == (_ns(ONE), _ns(TWO))


@needs(Facility.BIRTH_TIME)
def birth_time() -> Steps:
    """statx(2) tells when the object was made, and no change moves it."""
    file("f")
    yield
    before = statx("f", STATX_BTIME)
    assert before.mask & STATX_BTIME
    assert abs(before.btime_ns - time.time_ns()) < 24 * 3600 * 10**9
    os.rename("f", "g")
    os.utime("g")
    assert statx("g", STATX_BTIME).mask & STATX_BTIME
