# SPDX-License-Identifier: GPL-3.0-or-later
"""truncate(2), ftruncate(2)."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess

from tests.posix.expect import content, fails, moving, times, unchanged
from tests.posix.scene import ANNE, BERT, directory, fifo, file
from tests.posix.table import Steps
from tests.support.user import as_user


def shrinks() -> Steps:
    """What is cut off is gone."""
    file("f", b"0123456789")
    yield
    os.truncate("f", 4)
    assert content("f") == b"0123"
    os.truncate("f", 8)
    assert content("f") == b"0123\0\0\0\0"
    os.truncate("f", 0)
    assert content("f") == b""


def grows() -> Steps:
    """What is added reads as zeros."""
    file("f", b"abc")
    yield
    os.truncate("f", 100_003)
    assert content("f") == b"abc" + bytes(100_000)


def grows_far() -> Steps:
    """A size beyond 4 GiB costs no room."""
    file("f", b"abc")
    yield
    os.truncate("f", 5 << 30)
    found = os.stat("f")
    assert found.st_size == 5 << 30
    assert found.st_blocks < 1024
    with open("f", "rb") as stream:
        stream.seek(-3, os.SEEK_END)
        assert stream.read() == bytes(3)


def by_descriptor() -> Steps:
    """ftruncate(2) changes what other descriptors see, and no offset."""
    file("f", b"0123456789")
    yield
    one = os.open("f", os.O_RDWR)
    two = os.open("f", os.O_RDONLY)
    os.lseek(one, 7, os.SEEK_SET)
    os.ftruncate(one, 5)
    assert os.fstat(two).st_size == 5
    assert os.pread(two, 100, 0) == b"01234"
    os.write(one, b"x")
    assert os.pread(two, 100, 0) == b"01234\0\0x"
    os.close(one)
    os.close(two)


def removed_file() -> Steps:
    """A file without a name is truncated by its descriptor."""
    file("f", b"0123456789")
    yield
    fd = os.open("f", os.O_RDWR)
    os.unlink("f")
    os.ftruncate(fd, 3)
    assert os.pread(fd, 10, 0) == b"012"
    os.close(fd)


def moves_times() -> Steps:
    """A change of size moves modification and change time."""
    file("f", b"0123456789")
    yield
    with times(f="mc", here=""):
        os.truncate("f", 3)
    with times(f="mc"):
        os.truncate("f", 30)


def descriptor_moves_times() -> Steps:
    """ftruncate(2) moves them even without a change of size."""
    file("f", b"0123456789")
    yield
    fd = os.open("f", os.O_RDWR)
    with moving({fd: "mc", "f": "mc"}):
        os.ftruncate(fd, 3)
    with moving({fd: "mc"}):
        os.ftruncate(fd, 3)
    os.close(fd)


def through_symlink() -> Steps:
    """The target is truncated."""
    file("f", b"0123456789")
    os.symlink("f", "link")
    yield
    os.truncate("link", 2)
    assert content("f") == b"01"
    assert os.lstat("link").st_size == 1


def write_permission() -> Steps:
    """truncate(2) needs w on the file; ftruncate(2) a descriptor open for writing."""
    file("f", b"12345", 0o644, BERT)
    yield
    with unchanged("f"):
        with fails(errno.EACCES):
            as_user(ANNE, lambda: os.truncate("f", 0))
        fd = os.open("f", os.O_RDONLY)
        with fails(errno.EINVAL, errno.EBADF):
            os.ftruncate(fd, 0)
        os.close(fd)


def ftruncate_after_permission_is_gone() -> Steps:
    """A descriptor stays good when the mode changes."""
    file("f", b"12345", 0o644, ANNE)
    yield

    def act() -> None:
        fd = os.open("f", os.O_RDWR)
        os.fchmod(fd, 0)
        os.ftruncate(fd, 2)
        assert os.fstat(fd).st_size == 2
        os.close(fd)

    as_user(ANNE, act)


def wrong_objects() -> Steps:
    """EISDIR for a directory, EINVAL for a FIFO."""
    directory("d")
    fifo("p")
    yield
    with fails(errno.EISDIR):
        os.truncate("d", 0)
    with fails(errno.EINVAL):
        os.truncate("p", 0)


def negative_size() -> Steps:
    """EINVAL."""
    file("f", b"12345")
    yield
    with unchanged("f"), fails(errno.EINVAL):
        os.truncate("f", -1)
    fd = os.open("f", os.O_RDWR)
    with unchanged("f"), fails(errno.EINVAL):
        os.ftruncate(fd, -1)
    os.close(fd)


def beyond_the_limit() -> Steps:
    """EFBIG (and SIGXFSZ) beyond RLIMIT_FSIZE."""
    file("f", b"12345")
    yield
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
    with unchanged("f"), fails(errno.EFBIG):
        os.truncate("f", 4097)
    os.truncate("f", 4096)
    fd = os.open("f", os.O_RDWR)
    assert os.pwrite(fd, b"xyz", 4095) == 1, "a write up to the limit is cut short"
    with fails(errno.EFBIG):
        os.pwrite(fd, b"xyz", 4096)
    os.close(fd)


def beyond_the_filesystem() -> Steps:
    """A size that the filesystem cannot hold is EFBIG or EINVAL and changes nothing."""
    file("f", b"12345")
    yield
    largest = (1 << 63) - 1
    try:
        os.truncate("f", largest)
    except OSError as error:
        if error.errno not in (errno.EFBIG, errno.EINVAL):
            raise
        assert content("f") == b"12345"
    else:
        assert os.stat("f").st_size == largest


def running_program() -> Steps:
    """ETXTBSY while the file is being executed, as for open(2) for writing."""
    shutil.copy("/bin/sleep", "program")
    os.chmod("program", 0o755)
    yield
    process = subprocess.Popen(["./program", "600"])
    try:
        with unchanged("program"):
            with fails(errno.ETXTBSY):
                os.truncate("program", 0)
            for flags in (os.O_WRONLY, os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
                with fails(errno.ETXTBSY):
                    os.open("program", flags)
    finally:
        process.kill()
        process.wait()
    os.truncate("program", 0)
    assert os.stat("program").st_size == 0


def written_program() -> Steps:
    """ETXTBSY from execve(2) while the file is open for writing."""
    shutil.copy("/bin/true", "program")
    os.chmod("program", 0o755)
    yield
    fd = os.open("program", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    with fails(errno.ETXTBSY):
        subprocess.run(["./program"], check=True)
    os.close(fd)
    subprocess.run(["./program"], check=True)


def large_file_keeps_its_head() -> Steps:
    """Only what lies beyond the new size is lost."""
    file("f", b"head" + bytes(3 << 20) + b"tail")
    yield
    os.truncate("f", 4 + (1 << 20))
    data = content("f")
    assert data[:4] == b"head"
    assert len(data) == 4 + (1 << 20)
    assert not any(data[4:])
