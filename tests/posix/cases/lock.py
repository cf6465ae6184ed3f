# SPDX-License-Identifier: GPL-3.0-or-later
"""fcntl(2) record locks, open-file-description locks, flock(2)."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable

from tests.posix.expect import fails
from tests.posix.scene import file
from tests.posix.table import Steps
from tests.support.user import in_child

F_OFD_GETLK, F_OFD_SETLK = 36, 37


def _lock(kind: int, start: int = 0, length: int = 0) -> bytes:
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, start, length, 0)


def _refused(function: Callable[..., object], *arguments: object) -> None:
    with fails(errno.EAGAIN, errno.EACCES):
        function(*arguments)


def record_locks() -> Steps:
    """A write lock on a range keeps other processes out of it, and of it only."""
    file("f", b"0123456789")
    yield
    fd = os.open("f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 4, 2)

    def other() -> None:
        mine = os.open("f", os.O_RDWR)
        fcntl.lockf(mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 2, 0)
        fcntl.lockf(mine, fcntl.LOCK_EX | fcntl.LOCK_NB, 4, 6)
        for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):
            _refused(fcntl.lockf, mine, kind | fcntl.LOCK_NB, 1, 3)
        os.close(mine)

    in_child(other)
    fcntl.lockf(fd, fcntl.LOCK_UN, 4, 2)
    in_child(lambda: fcntl.lockf(os.open("f", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB))
    os.close(fd)


def holder_is_told() -> Steps:
    """F_GETLK names the process that holds the lock, and its range."""
    file("f", b"0123456789")
    yield
    fd = os.open("f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX, 3, 5)
    holder = os.getpid()

    def other() -> None:
        mine = os.open("f", os.O_RDWR)
        told = struct.unpack("hhqqi4x", fcntl.fcntl(mine, fcntl.F_GETLK, _lock(fcntl.F_WRLCK)))
        assert told == (fcntl.F_WRLCK, os.SEEK_SET, 5, 3, holder)

    in_child(other)
    os.close(fd)


def shared_locks() -> Steps:
    """Read locks go together, a write lock does not join them."""
    file("f")
    yield
    fd = os.open("f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_SH)

    def other() -> None:
        mine = os.open("f", os.O_RDWR)
        fcntl.lockf(mine, fcntl.LOCK_SH | fcntl.LOCK_NB)
        _refused(fcntl.lockf, mine, fcntl.LOCK_EX | fcntl.LOCK_NB)

    in_child(other)
    os.close(fd)


def close_releases() -> Steps:
    """Closing any descriptor of the file, and the end of the process, release record locks."""
    file("f")
    yield

    def take_and_end() -> None:
        fcntl.lockf(os.open("f", os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)

    in_child(take_and_end)
    in_child(take_and_end)
    fd = os.open("f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(os.open("f", os.O_RDONLY))
    in_child(take_and_end)
    os.close(fd)


def waits_for_release() -> Steps:
    """F_SETLKW waits until the lock is free."""
    file("f")
    yield
    fd = os.open("f", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        mine = os.open("f", os.O_RDWR)
        os.write(writer, b"waiting")
        fcntl.lockf(mine, fcntl.LOCK_EX)
        os.pwrite(mine, b"after", 0)
        os._exit(0)
    assert os.read(reader, 7) == b"waiting"
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    assert os.fstat(fd).st_size == 0
    fcntl.lockf(fd, fcntl.LOCK_UN)
    assert os.waitpid(pid, 0)[1] == 0
    assert os.fstat(fd).st_size == 5
    for one in (fd, reader, writer):
        os.close(one)


def description_locks() -> Steps:
    """Open-file-description locks are of the description: two in one process conflict."""
    file("f")
    yield
    one = os.open("f", os.O_RDWR)
    two = os.open("f", os.O_RDWR)
    fcntl.fcntl(one, F_OFD_SETLK, _lock(fcntl.F_WRLCK))
    _refused(fcntl.fcntl, two, F_OFD_SETLK, _lock(fcntl.F_RDLCK))
    os.close(one)
    fcntl.fcntl(two, F_OFD_SETLK, _lock(fcntl.F_WRLCK))
    os.close(two)


def whole_file_locks() -> Steps:
    """flock(2): shared and exclusive, of the open file description, released by its end."""
    file("f")
    yield
    one = os.open("f", os.O_RDONLY)
    two = os.open("f", os.O_RDONLY)
    fcntl.flock(one, fcntl.LOCK_SH)
    fcntl.flock(two, fcntl.LOCK_SH | fcntl.LOCK_NB)
    _refused(fcntl.flock, two, fcntl.LOCK_EX | fcntl.LOCK_NB)
    fcntl.flock(one, fcntl.LOCK_UN)
    fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def other() -> None:
        mine = os.open("f", os.O_RDONLY)
        _refused(fcntl.flock, mine, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(two, fcntl.LOCK_UN)
        fcntl.flock(mine, fcntl.LOCK_EX | fcntl.LOCK_NB)

    in_child(other)
    os.close(two)
    fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(one)


def survives_a_change() -> Steps:
    """A lock taken on a read-only descriptor holds when the file is changed meanwhile."""
    file("f", b"old")
    yield
    fd = os.open("f", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    with open("f", "ab") as stream:
        stream.write(b"new")

    def other() -> None:
        for flags in (os.O_RDONLY, os.O_RDWR):
            mine = os.open("f", flags)
            _refused(fcntl.flock, mine, fcntl.LOCK_EX | fcntl.LOCK_NB)

    in_child(other)
    os.close(fd)
