# SPDX-License-Identifier: GPL-3.0-or-later
"""EIO from a lower layer: it reaches the caller as it is, and does no harm."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.conftest import BIG, COPYING, FailingLayer, Patient
from tests.posix.expect import fails
from tests.support.face import differences, faces
from tests.support.mounttable import run


@pytest.mark.parametrize("beyond", [None, BIG // 2])
@pytest.mark.parametrize("name", COPYING)
def test_copy_up(
    sick_union: Patient, failing_layer: FailingLayer, name: str, beyond: int | None
) -> None:
    """Data that cannot be read, all of it or from the middle on, cannot be copied up."""
    act, done = COPYING[name]
    before = faces(sick_union.merged)
    free = sick_union.free()
    for _ in range(3):
        failing_layer.fail("read", errno.EIO, beyond)
        with fails(errno.EIO):
            act(sick_union.merged)
        failing_layer.heal()
        assert os.listdir(sick_union.upper_layers.work / "work") == []
    assert differences(before, faces(sick_union.merged)) == []
    assert sick_union.free() >= (free[0] - 4, free[1] - 4), "no more than directories were made"
    act(sick_union.merged)
    assert done(sick_union.merged)


def test_reading(sick_union: Patient, failing_layer: FailingLayer) -> None:
    """read(2) fails where the layer fails, and only there."""
    path = sick_union.merged / "big"
    failing_layer.fail("read", errno.EIO, BIG // 2)
    fd = os.open(path, os.O_RDONLY)
    # Without readahead, which would ask for more than the caller did.
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    wanted = (failing_layer.source / "big").read_bytes()
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
    failing_layer.fail(operation, errno.EIO)
    for _ in range(2):
        with fails(errno.EIO):
            act(sick_union.merged)
    failing_layer.heal()
    if name == "missing name":
        with fails(errno.ENOENT):
            act(sick_union.merged)
    else:
        act(sick_union.merged)


def test_attributes(sick_union: Patient, failing_layer: FailingLayer) -> None:
    """A copy-up that cannot read the extended attributes fails, rather than lose them."""
    for operation in ("listxattr", "getxattr"):
        failing_layer.fail(operation, errno.EIO)
        with fails(errno.EIO):
            os.chmod(sick_union.merged / "big", 0o600)
        failing_layer.heal()
        assert (sick_union.merged / "big").stat().st_mode & 0o777 == 0o644
    os.chmod(sick_union.merged / "big", 0o600)
    assert os.getxattr(sick_union.merged / "big", "user.k") == b"v"


def test_changes_elsewhere_go_on(sick_union: Patient, failing_layer: FailingLayer) -> None:
    """While one file cannot be read, the rest of the tree takes changes."""
    failing_layer.fail("read", errno.EIO)
    merged = sick_union.merged
    with fails(errno.EIO):
        os.chmod(merged / "big", 0o600)
    (merged / "new").write_bytes(b"new")
    (merged / "victim").unlink()
    (merged / "deep" / "dir").mkdir()
    (merged / "full").rename(merged / "moved")
    with open(merged / "big", "wb") as stream:
        stream.write(b"replaced without a copy")
    failing_layer.heal()
    assert sorted(os.listdir(merged)) == sorted(
        ["big", "deep", "empty", "link", "moved", "new", "one", "two"]
    )
    assert (merged / "big").read_bytes() == b"replaced without a copy"
    assert (merged / "moved" / "f").read_bytes() == b"f"


def test_upper_turned_read_only(sick_union: Patient) -> None:
    """EROFS from the upper's filesystem, as after an error of its disc; rw again, all works."""
    layers = sick_union.upper_layers
    before = faces(sick_union.merged)
    run("mount", "-i", "-o", "remount,ro", str(layers.root))
    acts: list[Callable[[Path], object]] = [
        lambda root: os.chmod(root / "big", 0o600),
        lambda root: os.open(root / "new", os.O_CREAT | os.O_WRONLY),
        lambda root: os.mkdir(root / "new"),
        lambda root: os.unlink(root / "victim"),
        lambda root: os.rename(root / "victim", root / "moved"),
        lambda root: os.rename(root / "full", root / "moved"),
        lambda root: os.rmdir(root / "empty"),
        lambda root: os.symlink("x", root / "new"),
        lambda root: os.link(root / "victim", root / "new"),
        lambda root: os.truncate(root / "victim", 0),
    ]
    for act in acts:
        with fails(errno.EROFS):
            act(sick_union.merged)
    assert differences(before, faces(sick_union.merged)) == []
    run("mount", "-i", "-o", "remount,rw", str(layers.root))
    os.chmod(sick_union.merged / "big", 0o600)
    os.unlink(sick_union.merged / "victim")
    os.mkdir(sick_union.merged / "new")
