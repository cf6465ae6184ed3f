# SPDX-License-Identifier: GPL-3.0-or-later
"""EIO from a lower layer: it reaches the caller as it is, and does no harm."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import MountUnion
from tests.faults.conftest import BIG, CHANGING, COPYING, FailingLayer, Patient, furnish
from tests.posix.expect import fails
from tests.support.face import differences, faces
from tests.support.layers import Layers
from tests.support.mounttable import run


@pytest.mark.parametrize("beyond", [None, BIG // 2])
def test_copy_up(sick_union: Patient, failing_layer: FailingLayer, beyond: int | None) -> None:
    """Data that cannot be read, all of it or from the middle on, cannot be copied up."""
    sick_union.copy_up_directories()
    before = faces(sick_union.merged)
    free = sick_union.free()
    for _ in range(2):
        failing_layer.fail("read", errno.EIO, beyond)
        for name, (act, _done) in COPYING.items():
            with fails(errno.EIO, what=f"{name}:"):
                act(sick_union.room(name))
            assert os.listdir(sick_union.upper_layers.work / "work") == [], name
        failing_layer.heal()
    assert differences(before, faces(sick_union.merged)) == []
    sick_union.keeps_space(free)
    for name, (act, done) in COPYING.items():
        act(sick_union.room(name))
        assert done(sick_union.room(name)), name


def test_reading(sick_union: Patient, failing_layer: FailingLayer) -> None:
    """read(2) fails where the layer fails, and only there."""
    path = sick_union.merged / "lobby" / "big"
    failing_layer.fail("read", errno.EIO, BIG // 2)
    fd = os.open(path, os.O_RDONLY)
    # Without readahead, which would ask for more than the caller did.
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    wanted = (failing_layer.source / "lobby" / "big").read_bytes()
    assert os.pread(fd, 4096, 0) == wanted[:4096]
    with fails(errno.EIO):
        os.pread(fd, 4096, BIG - 4096)
    failing_layer.heal()
    assert os.pread(fd, 4096, BIG - 4096) == wanted[-4096:]
    os.close(fd)
    assert path.read_bytes() == wanted


LOOKING: dict[str, tuple[str, Callable[[Path], object]]] = {
    "stat": ("lookup", lambda root: os.stat(root / "big")),
    "missing name": ("lookup", lambda root: os.stat(root / "missing")),
    "open": ("open", lambda root: os.open(root / "big", os.O_RDONLY)),
    "listing": ("opendir", lambda root: os.listdir(root / "full")),
    "listing half way": ("readdir", lambda root: os.listdir(root / "full")),
    "readlink": ("readlink", lambda root: os.readlink(root / "link")),
}


@pytest.mark.parametrize("name", LOOKING)
def test_looking(sick_union: Patient, failing_layer: FailingLayer, name: str) -> None:
    """EIO, not "no such file": what the layer could not tell is not taken for an answer."""
    operation, act = LOOKING[name]
    lobby = sick_union.merged / "lobby"
    os.stat(lobby / "full")
    failing_layer.fail(operation, errno.EIO)
    for _ in range(2):
        with fails(errno.EIO):
            act(lobby)
    failing_layer.heal()
    if name == "missing name":
        with fails(errno.ENOENT):
            act(lobby)
    else:
        act(lobby)


def test_attributes(sick_union: Patient, failing_layer: FailingLayer) -> None:
    """A copy-up that cannot read the extended attributes fails, rather than lose them."""
    big = sick_union.merged / "lobby" / "big"
    for operation in ("listxattr", "getxattr"):
        failing_layer.fail(operation, errno.EIO)
        with fails(errno.EIO):
            os.chmod(big, 0o600)
        failing_layer.heal()
        assert big.stat().st_mode & 0o777 == 0o644
    os.chmod(big, 0o600)
    assert os.getxattr(big, "user.k") == b"v"


def test_changes_elsewhere_go_on(sick_union: Patient, failing_layer: FailingLayer) -> None:
    """While one file cannot be read, the rest of the tree takes changes."""
    failing_layer.fail("read", errno.EIO)
    lobby = sick_union.merged / "lobby"
    with fails(errno.EIO):
        os.chmod(lobby / "big", 0o600)
    (lobby / "new").write_bytes(b"new")
    (lobby / "victim").unlink()
    (lobby / "deep" / "dir").mkdir()
    (lobby / "full").rename(lobby / "moved")
    with open(lobby / "big", "wb") as stream:
        stream.write(b"replaced without a copy")
    failing_layer.heal()
    names = ["big", "deep", "empty", "link", "moved", "new", "one", "two"]
    assert sorted(os.listdir(lobby)) == names
    assert (lobby / "big").read_bytes() == b"replaced without a copy"
    assert (lobby / "moved" / "f").read_bytes() == b"f"


def test_upper_turned_read_only(layers: Layers, mount_union: MountUnion) -> None:
    """EROFS from the upper's filesystem, as after an error of its disc; rw again, all works."""
    furnish(layers.lower)
    patient = Patient(mount_union(), layers.merged, layers)
    run("mount", "-i", "-o", "remount,ro", str(layers.root))
    for name, act in CHANGING.items():
        room = patient.room(name)
        before = faces(room)
        with fails(errno.EROFS, what=f"{name}:"):
            act(room)
        assert differences(before, faces(room)) == [], name
    run("mount", "-i", "-o", "remount,rw", str(layers.root))
    for name, act in CHANGING.items():
        act(patient.room(name))
    patient.same_after_remount()
