# SPDX-License-Identifier: GPL-3.0-or-later
"""ENOSPC: a full upper refuses, and nothing is lost, left over or half done."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import COPYING, Patient, SmallUnion
from tests.support.face import differences, faces
from tests.support.layers import Filesystem


def _fill(place: Path) -> None:
    """Take all the space that is left, beside the layers."""
    with open(place / "filler", "wb", buffering=0) as stream:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    stream.write(b"x" * size)
            except OSError as error:
                assert error.errno == errno.ENOSPC  # noqa: PT017


def _make_room(patient: Patient) -> None:
    (patient.upper_layers.root / "filler").unlink()


@pytest.mark.parametrize("filesystem", ["tmpfs", "ext4"])
@pytest.mark.parametrize("name", COPYING)
def test_copy_up(small_union: SmallUnion, filesystem: Filesystem, name: str) -> None:
    """No room for the data: the caller gets ENOSPC, and success when there is room."""
    act, done = COPYING[name]
    patient = small_union(filesystem, "8m")
    _fill(patient.upper_layers.root)
    for _ in range(3):
        patient.fails_whole(act, errno.ENOSPC)
    patient.same_after_remount()
    _make_room(patient)
    act(patient.merged)
    assert done(patient.merged)
    patient.same_after_remount()


MAKING: dict[str, Callable[[Path], object]] = {
    "create": lambda root: os.open(root / "new", os.O_CREAT | os.O_WRONLY),
    "mkdir": lambda root: os.mkdir(root / "new"),
    "mkdir below": lambda root: os.mkdir(root / "deep" / "er" / "new"),
    "symlink": lambda root: os.symlink("x", root / "new"),
    "mkfifo": lambda root: os.mkfifo(root / "new"),
    "mknod": lambda root: os.mknod(root / "new", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    "chmod": lambda root: os.chmod(root / "victim", 0o600),
    "chmod directory": lambda root: os.chmod(root / "full", 0o700),
    "chmod below": lambda root: os.chmod(root / "deep" / "er" / "big", 0o600),
    "rename": lambda root: os.rename(root / "victim", root / "moved"),
    "rename directory": lambda root: os.rename(root / "full", root / "moved"),
    "rename below": lambda root: os.rename(root / "full" / "f", root / "moved"),
    "unlink": lambda root: os.unlink(root / "victim"),
    "rmdir": lambda root: os.rmdir(root / "empty"),
    "unlink below": lambda root: os.unlink(root / "full" / "f"),
    "unlink one of two names": lambda root: os.unlink(root / "one"),
}


@pytest.mark.parametrize("name", MAKING)
def test_no_inodes(small_union: SmallUnion, name: str) -> None:
    """No inode for a new object, a copy or a whiteout."""
    act = MAKING[name]
    # A tmpfs of this many inodes has none left when the four directories, what the union keeps in
    # work, and the fillers are made.
    patient = small_union("tmpfs", "64m", 100)
    fillers = patient.upper_layers.more("fillers")
    count = 0
    try:
        while True:
            (fillers / str(count)).touch()
            count += 1
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017
    patient.fails_whole(act, errno.ENOSPC)
    patient.same_after_remount()
    for number in range(count):
        (fillers / str(number)).unlink()
    before = faces(patient.merged)
    act(patient.merged)
    assert differences(before, faces(patient.merged)) != []


@pytest.mark.parametrize("filesystem", ["tmpfs", "ext4"])
def test_write(small_union: SmallUnion, filesystem: Filesystem) -> None:
    """write(2) itself says ENOSPC; what was written before stays, and is all that is there."""
    patient = small_union(filesystem, "8m")
    path = patient.merged / "new"
    written = 0
    fd = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    block = bytes(range(256)) * 256
    try:
        while True:
            written += os.write(fd, block)
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017
    assert written > 0
    assert os.fstat(fd).st_size == written
    os.fsync(fd)
    os.close(fd)
    data = path.read_bytes()
    assert len(data) == written
    assert data == (block * (written // len(block) + 1))[:written]
    path.unlink()
    (patient.merged / "again").write_bytes(block)
    assert (patient.merged / "again").read_bytes() == block


def test_larger_than_the_disc(small_union: SmallUnion) -> None:
    """A lower file that upper can never hold: reading, removing and replacing work."""
    patient = small_union("tmpfs", "256k")
    patient.fails_whole(lambda root: os.chmod(root / "big", 0o600), errno.ENOSPC)
    with open(patient.merged / "big", "wb") as stream:
        stream.write(b"small now")
    assert (patient.merged / "big").read_bytes() == b"small now"
    (patient.merged / "deep" / "er" / "big").unlink()
    assert os.listdir(patient.merged / "deep" / "er") == []
    patient.same_after_remount()


def test_sparse_file_fits(small_union: SmallUnion) -> None:
    """A sparse lower file larger than the disc is copied up by its data alone."""
    patient = small_union("tmpfs", "2m")
    lower = patient.merged.parent / "lower" / "sparse"
    patient.daemon.stop()
    with open(lower, "wb") as stream:
        stream.truncate(1 << 30)
        stream.seek(1 << 29)
        stream.write(b"island")
    patient.daemon.start()
    path = patient.merged / "sparse"
    os.chmod(path, 0o600)
    found = path.stat()
    assert (found.st_size, found.st_mode & 0o777) == (1 << 30, 0o600)
    with open(path, "rb") as stream:
        stream.seek(1 << 29)
        assert stream.read(10) == b"island" + bytes(4)
