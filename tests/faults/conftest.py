# SPDX-License-Identifier: GPL-3.0-or-later
"""Unions whose layers can be made to fail, and the furniture of their lower layer."""

from __future__ import annotations

import os
import random
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import LayersFactory, MountUnion
from tests.posix.expect import fails
from tests.support.clock import scaled, wait_until
from tests.support.daemon import REPOSITORY, Daemon, environment
from tests.support.face import differences, faces
from tests.support.layers import Filesystem, Layers
from tests.support.mounttable import mount_at, unmount_all

BIG = 1 << 20


def furnish(place: Path) -> None:
    """A lower layer with one object of each sort that a copy-up treats in a way of its own."""
    (place / "big").write_bytes(random.Random(7).randbytes(BIG))
    os.setxattr(place / "big", "user.k", b"v")
    (place / "victim").write_bytes(b"victim")
    (place / "deep" / "er").mkdir(parents=True)
    (place / "deep" / "er" / "big").write_bytes(random.Random(8).randbytes(BIG))
    (place / "one").write_bytes(random.Random(9).randbytes(BIG))
    os.link(place / "one", place / "two")
    (place / "empty").mkdir()
    (place / "full").mkdir()
    (place / "full" / "f").write_bytes(b"f")
    os.symlink("big", place / "link")


def append(path: Path) -> None:
    with open(path, "ab") as stream:
        stream.write(b"more")


def write_first_byte(path: Path) -> None:
    with open(path, "r+b") as stream:
        stream.write(b"!")


# What copies data up, and how to tell that it was done.
COPYING: dict[str, tuple[Callable[[Path], None], Callable[[Path], bool]]] = {
    "chmod": (
        lambda root: os.chmod(root / "big", 0o600),
        lambda root: (root / "big").stat().st_mode & 0o777 == 0o600,
    ),
    "chown": (
        lambda root: os.chown(root / "big", 7, 8),
        lambda root: (root / "big").stat().st_uid == 7,
    ),
    "utime": (
        lambda root: os.utime(root / "big", (5, 5)),
        lambda root: (root / "big").stat().st_mtime == 5,
    ),
    "setxattr": (
        lambda root: os.setxattr(root / "big", "user.n", b"w"),
        lambda root: os.getxattr(root / "big", "user.n") == b"w",
    ),
    "append": (
        lambda root: append(root / "big"),
        lambda root: (root / "big").stat().st_size == BIG + 4,
    ),
    "write": (
        lambda root: write_first_byte(root / "deep" / "er" / "big"),
        lambda root: (root / "deep" / "er" / "big").read_bytes()[:1] == b"!",
    ),
    "truncate": (
        lambda root: os.truncate(root / "big", BIG - 1),
        lambda root: (root / "big").stat().st_size == BIG - 1,
    ),
    "rename": (
        lambda root: os.rename(root / "big", root / "moved"),
        lambda root: (root / "moved").stat().st_size == BIG and not (root / "big").exists(),
    ),
    "rename over": (
        lambda root: os.rename(root / "big", root / "victim"),
        lambda root: (root / "victim").stat().st_size == BIG,
    ),
    "rename into": (
        lambda root: os.rename(root / "big", root / "deep" / "er" / "moved"),
        lambda root: (root / "deep" / "er" / "moved").stat().st_size == BIG,
    ),
    "link": (
        lambda root: os.link(root / "big", root / "second"),
        lambda root: (root / "second").stat().st_nlink == 2,
    ),
    "chmod of a linked file": (
        lambda root: os.chmod(root / "two", 0o600),
        lambda root: (root / "one").stat().st_mode & 0o777 == 0o600,
    ),
}


@dataclass
class Patient:
    """A mounted union and the means to see that a failure did no harm.

    upper_layers  where upper and work lie
    """

    daemon: Daemon
    merged: Path
    upper_layers: Layers

    def free(self) -> tuple[int, int]:
        """Free blocks and inodes of the upper's filesystem."""
        found = os.statvfs(self.upper_layers.root)
        return found.f_bfree, found.f_ffree

    def fails_whole(self, act: Callable[[Path], object], *errnos: int) -> None:
        """`act` fails with one of `errnos`; afterwards nothing at all has changed."""
        before, free = faces(self.merged), self.free()
        with fails(*errnos):
            act(self.merged)
        assert differences(before, faces(self.merged)) == []
        assert os.listdir(self.upper_layers.work / "work") == []
        wait_until(lambda: self.free() >= free, f"the space comes back: {free}, now {self.free()}")

    def same_after_remount(self) -> None:
        """The tree is the same when it is mounted again."""
        before = faces(self.merged)
        self.daemon.restart()
        assert differences(before, faces(self.merged)) == []


SmallUnion = Callable[..., Patient]


@pytest.fixture
def small_union(new_layers: LayersFactory, mount_union: MountUnion) -> SmallUnion:
    """Mount a union whose upper is on a filesystem of a given size, its lower on a roomy one."""

    def make(
        filesystem: Filesystem = "tmpfs", size: str = "64m", inodes: int | None = None
    ) -> Patient:
        wide = new_layers("tmpfs", "64m")
        small = new_layers(filesystem, size, inodes)
        furnish(wide.lower)
        daemon = mount_union(
            lowers=[wide.lower], upper=small.upper, work=small.work, merged=wide.merged
        )
        return Patient(daemon, wide.merged, small)

    return make


class FailingLayer:
    """A lower layer on the failing mirror; `fail` and `heal` command it."""

    def __init__(self, layers: Layers) -> None:
        self.source = layers.more("disc")
        self.path = layers.more("failing")
        self._control = layers.more("control")
        furnish(self.source)
        reader, writer = os.pipe()
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.faults.failing"),
                *(str(self.source), str(self.path), str(self._control), str(writer)),
            ],
            pass_fds=(writer,),
            cwd=REPOSITORY,
            env=environment(),
        )
        os.close(writer)
        readable, _, _ = select.select([reader], [], [], scaled(30))
        ready = bool(readable) and os.read(reader, 1) == b"."
        os.close(reader)
        if not ready:
            self.stop()
            raise AssertionError("the failing mirror did not start")

    def fail(self, operation: str, number: int, beyond: int | None = None) -> None:
        words = str(number) if beyond is None else f"{number} {beyond}"
        (self._control / operation).write_text(words)

    def heal(self) -> None:
        for order in self._control.iterdir():
            order.unlink()

    def stop(self) -> None:
        unmount_all(self.path)
        self._process.kill()
        self._process.wait()
        assert mount_at(self.path) is None


@pytest.fixture
def failing_layer(layers: Layers) -> Iterator[FailingLayer]:
    layer = FailingLayer(layers)
    yield layer
    layer.stop()


@pytest.fixture
def sick_union(
    layers: Layers, failing_layer: FailingLayer, mount_union: MountUnion
) -> Iterator[Patient]:
    """A union over the failing mirror, unmounted before the mirror ends."""
    daemon = mount_union(lowers=[failing_layer.path])
    yield Patient(daemon, layers.merged, layers)
    failing_layer.heal()
