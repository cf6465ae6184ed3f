# SPDX-License-Identifier: GPL-3.0-or-later
"""mmap(2) of files in the tree."""

from __future__ import annotations

import mmap
import os

from tests.posix.expect import content
from tests.posix.scene import file
from tests.posix.table import Steps
from tests.support.user import in_child

PAGE = mmap.PAGESIZE


def private_read() -> Steps:
    """A private mapping shows the content, and its changes stay in it."""
    file("f", b"a" * PAGE + b"b" * PAGE)
    yield
    fd = os.open("f", os.O_RDONLY)
    with mmap.mmap(fd, 2 * PAGE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) as area:
        assert area[: PAGE + 1] == b"a" * PAGE + b"b"
        area[:4] = b"MINE"
        assert area[:5] == b"MINEa"
    os.close(fd)
    assert content("f") == b"a" * PAGE + b"b" * PAGE


def shared_read() -> Steps:
    """A shared mapping for reading."""
    file("f", b"shared content" + bytes(PAGE))
    yield
    with (
        open("f", "rb") as stream,
        mmap.mmap(stream.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as area,
    ):
        assert area[:14] == b"shared content"


def shared_write() -> Steps:
    """What is stored in a shared mapping is read by read(2), after msync(2) at the latest."""
    file("f", b"x" * (3 * PAGE))
    yield
    fd = os.open("f", os.O_RDWR)
    with mmap.mmap(fd, 3 * PAGE) as area:
        area[0:3] = b"one"
        area[PAGE : PAGE + 3] = b"two"
        area.flush()
        assert os.pread(fd, 3, PAGE) == b"two"
    os.close(fd)
    data = content("f")
    assert data[:4] == b"onex"
    assert data[PAGE : PAGE + 4] == b"twox"
    assert len(data) == 3 * PAGE


def shared_between_processes() -> Steps:
    """Two processes that map one file share its pages."""
    file("f", bytes(PAGE))
    yield
    fd = os.open("f", os.O_RDWR)
    with mmap.mmap(fd, PAGE) as area:

        def other() -> None:
            again = os.open("f", os.O_RDWR)
            with mmap.mmap(again, PAGE) as theirs:
                theirs[0:5] = b"child"
            os.close(again)

        in_child(other)
        assert area[0:5] == b"child"
    os.close(fd)


def write_is_seen_in_mapping() -> Steps:
    """What write(2) puts into the file shows in a shared mapping of a writer."""
    file("f", bytes(PAGE))
    yield
    fd = os.open("f", os.O_RDWR)
    with mmap.mmap(fd, PAGE) as area:
        os.pwrite(fd, b"written", 10)
        assert area[10:17] == b"written"
        other = os.open("f", os.O_WRONLY)
        os.pwrite(other, b"again", 100)
        os.close(other)
        assert area[100:105] == b"again"
    os.close(fd)


def outlives_descriptor_and_name() -> Steps:
    """A mapping holds the file when descriptor and name are gone."""
    file("f", b"held" + bytes(PAGE))
    yield
    fd = os.open("f", os.O_RDWR)
    area = mmap.mmap(fd, PAGE)
    os.close(fd)
    os.unlink("f")
    assert area[:4] == b"held"
    area[:4] = b"HELD"
    area.flush()
    assert area[:4] == b"HELD"
    area.close()


def grows_with_the_file() -> Steps:
    """A mapping made after growth shows zeros in what was added."""
    file("f", b"x" * 10)
    yield
    os.truncate("f", PAGE + 10)
    with open("f", "r+b") as stream, mmap.mmap(stream.fileno(), 0) as area:
        assert area[:] == b"x" * 10 + bytes(PAGE)
        area[PAGE + 5] = 7
    assert content("f")[PAGE + 5] == 7


def moves_mtime() -> Steps:
    """A store into a shared mapping moves the modification time by msync(2) at the latest."""
    file("f", bytes(PAGE))
    os.utime("f", (1, 1))
    yield
    with open("f", "r+b") as stream, mmap.mmap(stream.fileno(), 0) as area:
        area[0] = 1
        area.flush()
    assert os.stat("f").st_mtime_ns > 10**9
