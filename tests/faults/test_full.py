# SPDX-License-Identifier: GPL-3.0-or-later
"""ENOSPC: a full upper refuses, and nothing is lost, left over or half done."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.faults.conftest import CHANGING, COPYING, Patient, SmallUnion
from tests.support.clock import wait_until
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


def _exhaust(place: Path) -> None:
    """Take all the inodes that are left."""
    count = 0
    try:
        while True:
            (place / str(count)).touch()
            count += 1
    except OSError as error:
        assert error.errno == errno.ENOSPC  # noqa: PT017


def _make_room(patient: Patient) -> None:
    (patient.upper_layers.root / "filler").unlink()


@pytest.mark.parametrize("filesystem", ["tmpfs", "ext4"])
def test_copy_up(small_union: SmallUnion, filesystem: Filesystem) -> None:
    """No room for the data: the caller gets ENOSPC, and success when there is room."""
    patient = small_union(filesystem, "32m")
    patient.copy_up_directories()
    _fill(patient.upper_layers.root)
    free = patient.free()
    for _ in range(2):
        for name, (act, _done) in COPYING.items():
            patient.fails_whole(name, act, errno.ENOSPC)
            patient.keeps_space(free)
    patient.same_after_remount()
    _make_room(patient)
    for name, (act, done) in COPYING.items():
        act(patient.room(name))
        assert done(patient.room(name)), name
    patient.same_after_remount()


def test_no_inodes(small_union: SmallUnion) -> None:
    """No inode for a new object, a copy or a whiteout; nor does the next mount need one."""
    patient = small_union("tmpfs", "64m", 200)
    os.chmod(patient.merged / "lobby", 0o755)
    fillers = patient.upper_layers.more("fillers")
    _exhaust(fillers)
    free = patient.free()
    for name, act in CHANGING.items():
        patient.fails_whole(name, act, errno.ENOSPC)
        patient.keeps_space(free)
    patient.same_after_remount()
    for name, act in CHANGING.items():
        patient.fails_whole(name, act, errno.ENOSPC)
    for filler in fillers.iterdir():
        filler.unlink()
    for name, act in CHANGING.items():
        before = faces(patient.room(name))
        act(patient.room(name))
        assert differences(before, faces(patient.room(name))) != [], name
    patient.same_after_remount()


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
    # The last reference goes with messages that nobody waits for.
    wait_until(lambda: patient.free()[0] > 1000, "the space of the removed file is free again")
    (patient.merged / "again").write_bytes(block)
    assert (patient.merged / "again").read_bytes() == block


def test_larger_than_the_disc(small_union: SmallUnion) -> None:
    """A lower file that upper can never hold: reading, removing and replacing work."""
    patient = small_union("tmpfs", "512k")
    lobby = patient.merged / "lobby"
    patient.fails_whole("lobby", lambda root: os.chmod(root / "big", 0o600), errno.ENOSPC)
    with open(lobby / "big", "wb") as stream:
        stream.write(b"small now")
    assert (lobby / "big").read_bytes() == b"small now"
    (lobby / "deep" / "er" / "big").unlink()
    assert os.listdir(lobby / "deep" / "er") == []
    patient.same_after_remount()


def test_change_after_a_failed_removal(small_union: SmallUnion) -> None:
    """A file whose removal failed is a file with a name: what is written to it is kept."""
    patient = small_union("tmpfs", "64m", 60)
    lobby = patient.merged / "lobby"
    os.chmod(lobby, 0o755)
    fillers = patient.upper_layers.more("fillers")
    _exhaust(fillers)
    (lobby / "victim").stat()
    with pytest.raises(OSError, match="No space"):
        (lobby / "victim").unlink()
    with pytest.raises(OSError, match="No space"):
        (lobby / "two").unlink()
    for filler in fillers.iterdir():
        filler.unlink()
    for name in ("victim", "two"):
        with open(lobby / name, "ab") as stream:
            stream.write(b"+")
    patient.daemon.restart()
    assert (lobby / "victim").read_bytes() == b"victim+"
    assert (lobby / "one").read_bytes()[-1:] == b"+"
    assert (lobby / "victim").stat().st_nlink == 1
    assert (lobby / "two").stat().st_nlink == 2


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
