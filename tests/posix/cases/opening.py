# SPDX-License-Identifier: GPL-3.0-or-later
"""open(2): making, truncating, appending, and every refusal."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from tests.posix.expect import content, exists, fails, mode, moving, owner, times, unchanged
from tests.posix.scene import ANNE, BERT, CLUB, directory, file, one_of_each, open_house
from tests.posix.table import Facility, Steps, needs
from tests.support.syscall import linkat
from tests.support.user import as_user, in_child

NEW = os.O_CREAT | os.O_WRONLY


def _touch(name: str, flags: int = NEW, bits: int = 0o666) -> None:
    os.close(os.open(name, flags, bits))


def create() -> Steps:
    """Mode without umask, owner, size, links, and times of now."""
    yield
    for number, (asked, mask, got) in enumerate(
        [
            (0o666, 0o022, 0o644),
            (0o777, 0, 0o777),
            (0o4755, 0, 0o4755),
            (0, 0, 0),
            (0o666, 0o777, 0),
        ]
    ):
        os.umask(mask)
        _touch(f"f{number}", bits=asked)
        assert mode(f"f{number}") == got
    found = os.stat("f0")
    assert stat.S_ISREG(found.st_mode)
    assert (found.st_size, found.st_nlink) == (0, 1)
    assert owner("f0") == (0, 0)


def create_moves_times() -> Steps:
    """A new name moves the directory's times; opening an old one with O_CREAT does not."""
    directory("d")
    file("d/old")
    yield
    with times(d="mc"):
        _touch("d/new")
    with moving({"d": "", "d/old": ""}):
        _touch("d/old")


def create_keeps_existing() -> Steps:
    """O_CREAT on a file that exists changes neither mode nor owner nor content."""
    file("f", b"old", 0o600, ANNE, CLUB)
    yield
    with unchanged("f"):
        _touch("f", os.O_CREAT | os.O_RDONLY, 0o777)
    assert content("f") == b"old"


def exclusive() -> Steps:
    """EEXIST with O_CREAT|O_EXCL for a name of any type, dangling links too."""
    names = one_of_each()
    yield
    with unchanged(*names):
        for name in names:
            with fails(errno.EEXIST, what=name):
                os.open(name, NEW | os.O_EXCL)
    assert not exists("nowhere")


def exclusive_race() -> Steps:
    """Of many processes that create the same name exclusively, one wins."""
    yield

    def attempt() -> bool:
        try:
            _touch("lock", NEW | os.O_EXCL)
        except FileExistsError:
            return False
        return True

    pids = []
    reader, writer = os.pipe()
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            os.write(writer, b"1" if attempt() else b"0")
            os._exit(0)
        pids.append(pid)
    os.close(writer)
    for pid in pids:
        os.waitpid(pid, 0)
    assert sorted(os.read(reader, 100)) == sorted(b"10000000")
    os.close(reader)


def create_through_dangling_link() -> Steps:
    """O_CREAT without O_EXCL makes the target."""
    os.symlink("target", "link")
    yield
    _touch("link")
    assert stat.S_ISREG(os.lstat("target").st_mode)
    assert stat.S_ISLNK(os.lstat("link").st_mode)


def unreadable_creation() -> Steps:
    """The descriptor of a creation is good for what was asked, whatever the new mode says."""
    open_house()
    yield

    def act() -> None:
        fd = os.open("f", os.O_CREAT | os.O_RDWR, 0)
        os.write(fd, b"secret")
        assert os.pread(fd, 10, 0) == b"secret"
        os.close(fd)
        with fails(errno.EACCES):
            os.open("f", os.O_RDONLY)

    as_user(ANNE, act)


def truncate_existing() -> Steps:
    """O_TRUNC empties the file and moves its times, not the directory's."""
    file("f", b"old content", 0o640, ANNE, CLUB)
    yield
    with times(f="mc", here=""):
        _touch("f", os.O_WRONLY | os.O_TRUNC)
    found = os.stat("f")
    assert (found.st_size, found.st_uid, found.st_gid) == (0, ANNE, CLUB)
    assert mode("f") == 0o640


def truncate_empty_moves_times() -> Steps:
    """O_TRUNC moves the times of an empty file too."""
    file("f")
    yield
    with times(f="mc"):
        _touch("f", os.O_WRONLY | os.O_TRUNC)


def truncate_read_only_open() -> Steps:
    """On Linux O_RDONLY|O_TRUNC truncates, for who may write."""
    file("f", b"old", 0o644, ANNE)
    file("g", b"old", 0o644, BERT)
    yield

    def act() -> None:
        _touch("f", os.O_RDONLY | os.O_TRUNC)
        with fails(errno.EACCES):
            os.open("g", os.O_RDONLY | os.O_TRUNC)

    as_user(ANNE, act)
    assert content("f") == b""
    assert content("g") == b"old"


def truncate_large() -> Steps:
    """O_TRUNC and new content: nothing of the old shines through."""
    file("f", b"x" * (2 << 20))
    yield
    with open("f", "wb") as stream:
        stream.write(b"new")
        stream.seek(1 << 20)
        stream.write(b"end")
    data = content("f")
    assert data[:3] == b"new"
    assert not any(data[3 : 1 << 20])
    assert data[1 << 20 :] == b"end"


def directories() -> Steps:
    """EISDIR for writing and creating; O_DIRECTORY wants one."""
    directory("d")
    file("f")
    os.symlink("d", "link")
    yield
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, NEW, os.O_CREAT):
        with fails(errno.EISDIR, what=f"{flags:#o}"):
            os.open("d", flags)
    with fails(errno.ENOTDIR):
        os.open("f", os.O_RDONLY | os.O_DIRECTORY)
    with fails(errno.ENOTDIR):
        os.open("link", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    os.close(os.open("link", os.O_RDONLY | os.O_DIRECTORY))
    fd = os.open("d", os.O_RDONLY)
    with fails(errno.EISDIR):
        os.read(fd, 1)
    os.close(fd)


def no_follow() -> Steps:
    """ELOOP with O_NOFOLLOW on a link; O_PATH opens the link itself."""
    file("f")
    os.symlink("f", "link")
    yield
    with fails(errno.ELOOP):
        os.open("link", os.O_RDONLY | os.O_NOFOLLOW)
    with fails(errno.ELOOP):
        os.open("link", NEW | os.O_NOFOLLOW)
    fd = os.open("link", os.O_PATH | os.O_NOFOLLOW)
    assert stat.S_ISLNK(os.fstat(fd).st_mode)
    os.close(fd)


def append() -> Steps:
    """With O_APPEND each write goes to the end, wherever the end is by then."""
    file("f", b"one")
    yield
    fd = os.open("f", os.O_RDWR | os.O_APPEND)
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, b"two")
    with open("f", "r+b") as other:
        other.truncate(8)
    os.write(fd, b"three")
    os.close(fd)
    assert content("f") == b"onetwo\0\0three"


def append_race() -> Steps:
    """Appends of several processes are neither lost nor torn."""
    file("log")
    yield
    writers, records, width = 4, 200, 50
    pids = []
    for writer in range(writers):
        pid = os.fork()
        if pid == 0:
            fd = os.open("log", os.O_WRONLY | os.O_APPEND)
            for record in range(records):
                os.write(fd, f"{writer}:{record}:".ljust(width - 1, "x").encode() + b"\n")
            os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    lines = content("log").splitlines(keepends=True)
    assert len(lines) == writers * records
    assert {len(line) for line in lines} == {width}
    for writer in range(writers):
        mine = [int(line.split(b":")[1]) for line in lines if line.startswith(b"%d:" % writer)]
        assert mine == list(range(records))


def no_atime_by_others() -> Steps:
    """EPERM for O_NOATIME on another's file."""
    file("f", uid=BERT)
    file("mine", uid=ANNE)
    yield

    def act() -> None:
        with fails(errno.EPERM):
            os.open("f", os.O_RDONLY | os.O_NOATIME)
        os.close(os.open("mine", os.O_RDONLY | os.O_NOATIME))

    as_user(ANNE, act)


def path_descriptor() -> Steps:
    """An O_PATH descriptor names the object and gives no access to it."""
    file("f", b"x")
    directory("d")
    file("d/inner")
    yield
    fd = os.open("f", os.O_PATH)
    with fails(errno.EBADF):
        os.read(fd, 1)
    with open(f"/proc/self/fd/{fd}", "ab") as stream:
        stream.write(b"y")
    assert content("f") == b"xy"
    assert os.fstat(fd).st_ino == os.stat("f").st_ino
    os.close(fd)
    fd = os.open("d", os.O_PATH)
    assert os.stat("inner", dir_fd=fd).st_size == 0
    os.close(fd)


def reopened_by_proc() -> Steps:
    """/proc/self/fd/N of a read-only descriptor can be opened for writing."""
    file("f", b"12345")
    yield
    fd = os.open("f", os.O_RDONLY)
    with open(f"/proc/self/fd/{fd}", "r+b") as stream:
        stream.write(b"abc")
    os.close(fd)
    assert content("f") == b"abc45"


def descriptor_outlives_permission() -> Steps:
    """A descriptor stays good when mode, owner and name change."""
    file("f", b"x", 0o644, ANNE)
    directory("d")
    yield
    fd = os.open("f", os.O_RDWR)
    os.chmod("f", 0)
    os.rename("f", "d/g")
    os.write(fd, b"y")
    os.close(fd)
    assert content("d/g") == b"y"


def create_in_setgid_directory() -> Steps:
    """The group comes from the directory."""
    directory("d", 0o2777, 0, CLUB)
    yield
    _touch("d/f")
    assert owner("d/f") == (0, CLUB)


def sync_flags() -> Steps:
    """O_SYNC and O_DSYNC write what they are given."""
    file("f")
    yield
    for flag in (os.O_SYNC, os.O_DSYNC):
        fd = os.open("f", os.O_WRONLY | os.O_APPEND | flag)
        os.write(fd, b"safe")
        os.close(fd)
    assert content("f") == b"safesafe"


@needs(Facility.TMPFILE)
def unnamed() -> Steps:
    """O_TMPFILE makes a file without a name, which linkat(2) can give one."""
    yield
    os.umask(0o022)
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o666)
    os.write(fd, b"unnamed")
    assert os.listdir(".") == []
    assert os.fstat(fd).st_nlink == 0
    assert os.fstat(fd).st_mode & 0o7777 == 0o644
    linkat(fd, "named")
    os.close(fd)
    assert content("named") == b"unnamed"
    assert os.stat("named").st_nlink == 1
    with open("named", "ab") as stream:
        stream.write(b" no more")
    assert content("named") == b"unnamed no more"


@needs(Facility.TMPFILE)
def unnamed_for_good() -> Steps:
    """O_TMPFILE with O_EXCL can never be linked; without write access it is EINVAL."""
    yield
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    with fails(errno.ENOENT):
        linkat(fd, "named")
    os.close(fd)
    with fails(errno.EINVAL):
        os.open(".", os.O_TMPFILE | os.O_RDONLY, 0o600)
    with fails(errno.ENOTDIR, errno.ENOENT):
        os.open("missing", os.O_TMPFILE | os.O_RDWR, 0o600)
    assert os.listdir(".") == []


def many_descriptors() -> Steps:
    """Five hundred descriptors of one file and of five hundred files."""
    for number in range(500):
        file(f"f{number}", b"%d" % number)
    yield
    fds = [os.open(f"f{number}", os.O_RDONLY) for number in range(500)]
    fds += [os.open("f0", os.O_RDWR) for _ in range(400)]
    assert [os.read(fd, 10) for fd in fds[:500]] == [b"%d" % number for number in range(500)]
    os.write(fds[-1], b"last")
    assert {os.pread(fd, 10, 0) for fd in fds[500:]} == {b"last"}
    for fd in fds:
        os.close(fd)


def execute() -> Steps:
    """Programs and scripts of the tree run, with x only."""
    Path("script").write_text("#!/bin/sh\necho ran > result\n")
    os.chmod("script", 0o755)
    file("data", b"#!/bin/sh\n", 0o644)
    yield

    def run(name: str) -> None:
        pid = os.posix_spawn(name, [name], dict(os.environ))
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    in_child(lambda: run("./script"))
    assert content("result") == b"ran\n"
    with fails(errno.EACCES):
        run("./data")
