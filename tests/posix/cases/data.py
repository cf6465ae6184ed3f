# SPDX-License-Identifier: GPL-3.0-or-later
"""read(2), write(2), lseek(2), fallocate(2), fsync(2), copies in the kernel."""

from __future__ import annotations

import errno
import mmap
import os
import random

from tests.posix.expect import content, fails, moving
from tests.posix.scene import file, in_space
from tests.posix.table import Facility, Steps, needs
from tests.support.clock import wait_until
from tests.support.syscall import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_ZERO_RANGE,
    fallocate,
    syncfs,
)

MIB = 1 << 20


def random_writes() -> Steps:
    """Five hundred writes, reads and truncations agree with a model in memory."""
    seed = 20_240_229
    model = bytearray(random.Random(seed).randbytes(300_000))
    file("f", bytes(model))
    yield
    dice = random.Random(seed + 1)
    fd = os.open("f", os.O_RDWR)
    for _ in range(500):
        offset = dice.randrange(400_000)
        act = dice.randrange(10)
        if act == 0:
            os.ftruncate(fd, offset)
            model[offset:] = b""
            model.extend(bytes(offset - len(model)))
        elif act < 5:
            data = dice.randbytes(dice.choice((1, 100, 4096, 50_000)))
            assert os.pwrite(fd, data, offset) == len(data)
            model.extend(bytes(max(0, offset - len(model))))
            model[offset : offset + len(data)] = data
        else:
            size = dice.choice((1, 4096, 70_000))
            assert os.pread(fd, size, offset) == bytes(model[offset : offset + size])
    os.close(fd)
    assert content("f") == model


def partial_overwrite() -> Steps:
    """A write into the middle leaves the rest."""
    file("f", b"a" * 200_000)
    yield
    fd = os.open("f", os.O_WRONLY)
    os.pwrite(fd, b"MIDDLE", 100_000)
    os.close(fd)
    data = content("f")
    assert data == b"a" * 100_000 + b"MIDDLE" + b"a" * 99_994


def large_requests() -> Steps:
    """Reads and writes of several MiB in one call are whole."""
    data = random.Random(1).randbytes(5 * MIB + 123)
    file("f", data)
    yield
    fd = os.open("f", os.O_RDWR)
    got = b""
    while part := os.read(fd, 8 * MIB):
        got += part
    assert got == data
    written = os.pwrite(fd, data[::-1], 0)
    assert written == len(data)
    assert os.pread(fd, 1000, 0) == data[::-1][:1000]
    os.close(fd)
    assert content("f") == data[::-1]


def vectors() -> Steps:
    """readv(2), writev(2), preadv(2)."""
    file("f")
    yield
    fd = os.open("f", os.O_RDWR)
    assert os.writev(fd, [b"ab", b"", b"cdef"]) == 6
    buffers = [bytearray(3), bytearray(10)]
    assert os.preadv(fd, buffers, 0) == 6
    assert bytes(buffers[0]) + bytes(buffers[1])[:3] == b"abcdef"
    os.close(fd)


def beyond_the_end() -> Steps:
    """Reading there gives nothing, writing there leaves zeros between."""
    file("f", b"abc")
    yield
    fd = os.open("f", os.O_RDWR)
    assert os.pread(fd, 10, 3) == b""
    assert os.pread(fd, 10, 10**12) == b""
    os.pwrite(fd, b"end", 100_000)
    os.close(fd)
    assert content("f") == b"abc" + bytes(99_997) + b"end"


def above_four_gib() -> Steps:
    """Offsets beyond 32 bits."""
    in_space("f", size=6 << 30, data=b"high", offset=5 << 30)
    yield
    fd = os.open("f", os.O_RDWR)
    assert os.pread(fd, 4, 5 << 30) == b"high"
    os.pwrite(fd, b"HI", (5 << 30) + 1)
    assert os.pread(fd, 6, (5 << 30) - 1) == b"\0hHIh\0"
    found = os.fstat(fd)
    assert found.st_size == 6 << 30
    assert found.st_blocks * 512 < 4 * MIB, "holes stay holes"
    os.close(fd)


def seek() -> Steps:
    """lseek(2) from start, place and end; EINVAL for what is before the start."""
    file("f", b"0123456789")
    yield
    fd = os.open("f", os.O_RDONLY)
    assert os.lseek(fd, 4, os.SEEK_SET) == 4
    assert os.lseek(fd, 2, os.SEEK_CUR) == 6
    assert os.read(fd, 1) == b"6"
    assert os.lseek(fd, -1, os.SEEK_END) == 9
    assert os.lseek(fd, 100, os.SEEK_END) == 110
    assert os.read(fd, 1) == b""
    with fails(errno.EINVAL):
        os.lseek(fd, -1, os.SEEK_SET)
    with fails(errno.EINVAL):
        os.lseek(fd, -11, os.SEEK_END)
    os.close(fd)


@needs(Facility.SEEK_HOLE)
def holes_and_data() -> Steps:
    """SEEK_HOLE and SEEK_DATA find them; ENXIO beyond the end."""
    in_space("f", size=8 * MIB, data=b"x" * MIB, offset=4 * MIB)
    yield
    for changed in (False, True):
        if changed:
            os.chmod("f", 0o600)
        fd = os.open("f", os.O_RDWR if changed else os.O_RDONLY)
        assert os.lseek(fd, 0, os.SEEK_DATA) == 4 * MIB
        assert os.lseek(fd, 4 * MIB, os.SEEK_HOLE) == 5 * MIB
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 0
        with fails(errno.ENXIO):
            os.lseek(fd, 6 * MIB, os.SEEK_DATA)
        with fails(errno.ENXIO):
            os.lseek(fd, 9 * MIB, os.SEEK_HOLE)
        os.close(fd)


def sparse_stays_sparse() -> Steps:
    """A change to a sparse file does not fill its holes."""
    in_space("f", size=64 * MIB, data=b"x" * 4096, offset=32 * MIB)
    yield
    os.chmod("f", 0o600)
    with open("f", "r+b") as stream:
        stream.write(b"head")
    found = os.stat("f")
    assert found.st_size == 64 * MIB
    assert found.st_blocks * 512 <= 2 * MIB
    with open("f", "rb") as stream:
        stream.seek(32 * MIB)
        assert stream.read(4096) == b"x" * 4096


@needs(Facility.FALLOCATE)
def allocation() -> Steps:
    """fallocate(2): growth, FALLOC_FL_KEEP_SIZE, holes, zeros, and the times."""
    file("f", b"x" * 100_000)
    yield
    fd = os.open("f", os.O_RDWR)
    with moving({fd: "mc"}):
        fallocate(fd, 0, 0, 200_000)
    assert os.fstat(fd).st_size == 200_000
    fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 2 * MIB)
    assert os.fstat(fd).st_size == 200_000
    assert os.fstat(fd).st_blocks * 512 >= 2 * MIB
    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 4096, 8192)
    data = os.pread(fd, 100_000, 0)
    assert data == b"x" * 4096 + bytes(8192) + b"x" * (100_000 - 4096 - 8192)
    os.close(fd)


@needs(Facility.FALLOCATE)
def allocation_errors() -> Steps:
    """EBADF, EINVAL, and EOPNOTSUPP for what no mode says."""
    file("f")
    yield
    fd = os.open("f", os.O_RDONLY)
    with fails(errno.EBADF):
        fallocate(fd, 0, 0, 10)
    os.close(fd)
    fd = os.open("f", os.O_RDWR)
    for offset, length in ((-1, 10), (0, 0), (0, -1)):
        with fails(errno.EINVAL):
            fallocate(fd, 0, offset, length)
    with fails(errno.EOPNOTSUPP):
        fallocate(fd, FALLOC_FL_PUNCH_HOLE, 0, 10)
    with fails(errno.EOPNOTSUPP):
        fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_PUNCH_HOLE, 0, 10)
    os.close(fd)


def descriptors_agree() -> Steps:
    """What one descriptor writes another reads at once, whichever was opened first."""
    file("f", b"0000000000")
    yield
    writer = os.open("f", os.O_RDWR)
    reader = os.open("f", os.O_RDONLY)
    appender = os.open("f", os.O_WRONLY | os.O_APPEND)
    os.pwrite(writer, b"12", 0)
    assert os.pread(reader, 20, 0) == b"1200000000"
    os.write(appender, b"end")
    assert os.pread(reader, 20, 0) == b"1200000000end"
    assert os.fstat(writer).st_size == 13
    os.ftruncate(writer, 2)
    assert os.pread(reader, 20, 0) == b"12"
    os.write(appender, b"3")
    assert content("f") == b"123"
    for fd in (writer, reader, appender):
        os.close(fd)


@needs(Facility.COHERENT_READER)
def early_reader_sees_later_writes() -> Steps:
    """A descriptor opened for reading before any writer sees what is written later."""
    file("f", b"old")
    yield
    reader = os.open("f", os.O_RDONLY)
    assert os.pread(reader, 10, 0) == b"old"
    with open("f", "r+b") as stream:
        stream.write(b"new and longer")
    assert os.pread(reader, 20, 0) == b"new and longer"
    assert os.fstat(reader).st_size == 14
    os.close(reader)


def early_reader_is_not_torn() -> Steps:
    """Such a descriptor sees all of the old content or all of the new, never a mixture."""
    file("f", b"a" * 100_000)
    yield
    reader = os.open("f", os.O_RDONLY)
    with open("f", "r+b") as stream:
        stream.write(b"b" * 100_000)
    data = os.pread(reader, 100_000, 0)
    assert data in (b"a" * 100_000, b"b" * 100_000)
    os.close(reader)


def metadata_of_early_reader() -> Steps:
    """fstat(2) on a descriptor opened before a change of mode or owner sees the change."""
    file("f", b"x")
    yield
    fd = os.open("f", os.O_RDONLY)
    os.chmod("f", 0o600)
    os.chown("f", 5, 6)
    found = os.fstat(fd)
    assert (found.st_mode & 0o777, found.st_uid, found.st_gid) == (0o600, 5, 6)
    os.close(fd)


def direct() -> Steps:
    """O_DIRECT reads and writes what is there."""
    file("f", bytes(range(256)) * 64)
    yield
    fd = os.open("f", os.O_RDWR | os.O_DIRECT)
    with mmap.mmap(-1, 16_384) as buffer:
        assert os.preadv(fd, [buffer], 0) == 16_384
        assert buffer[:] == bytes(range(256)) * 64
        buffer[:] = b"d" * 16_384
        assert os.pwritev(fd, [buffer], 16_384) == 16_384
    os.close(fd)
    assert content("f") == bytes(range(256)) * 64 + b"d" * 16_384


def sync_calls() -> Steps:
    """fsync(2), fdatasync(2), syncfs(2), of files for reading too."""
    file("f", b"x")
    yield
    fd = os.open("f", os.O_RDWR)
    os.write(fd, b"y")
    os.fsync(fd)
    os.fdatasync(fd)
    syncfs(fd)
    os.close(fd)
    fd = os.open("f", os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def copies_in_the_kernel() -> Steps:
    """copy_file_range(2) and sendfile(2) within the tree."""
    data = random.Random(2).randbytes(MIB + 17)
    file("source", data)
    file("old", b"z" * 50)
    yield
    source = os.open("source", os.O_RDONLY)
    for name, copy in (("ranged", os.copy_file_range), ("sent", None)):
        target = os.open(name, os.O_CREAT | os.O_WRONLY, 0o644)
        done = 0
        while done < len(data):
            if copy is not None:
                done += os.copy_file_range(source, target, len(data) - done, done, done)
            else:
                done += os.sendfile(target, source, done, len(data) - done)
        os.close(target)
        assert content(name) == data, name
    target = os.open("old", os.O_WRONLY)
    assert os.copy_file_range(source, target, 10, 100, 20) == 10
    os.close(target)
    os.close(source)
    assert content("old") == b"z" * 20 + data[100:110] + b"z" * 20


def truncated_while_open() -> Steps:
    """A reader at an offset that is gone reads nothing, and goes on when the file grows."""
    file("f", b"0123456789")
    yield
    reader = os.open("f", os.O_RDWR)
    assert os.read(reader, 8) == b"01234567"
    os.truncate("f", 3)
    assert os.read(reader, 8) == b""
    with open("f", "ab") as stream:
        stream.write(b"abcdefghij")
    assert os.read(reader, 8) == b"fghij"
    os.close(reader)


def statfs_is_sane() -> Steps:
    """Sizes fit together and names may have 255 bytes."""
    file("f")
    yield
    for path in (".", "f"):
        found = os.statvfs(path)
        assert found.f_namemax == 255
        assert found.f_frsize > 0
        assert found.f_bsize > 0
        assert found.f_blocks >= found.f_bfree >= found.f_bavail > 0
        assert found.f_files >= found.f_ffree > 0
    fd = os.open("f", os.O_RDONLY)
    assert os.fstatvfs(fd).f_namemax == 255
    os.close(fd)


def space_of_removed_files_returns() -> Steps:
    """What a removed file took is free again soon after it is closed."""

    def free() -> int:
        found = os.statvfs(".")
        return found.f_bfree * found.f_frsize

    yield
    file("marker")
    before = free()
    fd = os.open("f", os.O_CREAT | os.O_WRONLY)
    os.write(fd, b"x" * (8 * MIB))
    os.fsync(fd)
    assert before - free() >= 8 * MIB
    os.unlink("f")
    os.close(fd)
    # A FUSE kernel tells the daemon of the last close, and that it has forgotten the inode, by
    # messages that nobody waits for.
    wait_until(lambda: before - free() < 2 * MIB, "the space is free again")
