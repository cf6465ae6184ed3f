# SPDX-License-Identifier: GPL-3.0-or-later
"""Unions whose layers can be made to fail, and the furniture of their lower layer."""

from __future__ import annotations

import os
import random
import select
import stat
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
from tests.support.face import Face, differences, faces
from tests.support.layers import Filesystem, Layers
from tests.support.mounttable import mount_at, unmount_all

# More than is copied up without a thread of its own.
BIG = (1 << 20) + 5000


def furnish(place: Path) -> None:
    """A lower layer with a room for each act, and in each room every sort of object."""
    content = random.Random(7).randbytes(BIG)
    for name in [*COPYING, "lobby", *CHANGING]:
        home = place / room_of(name)
        if name in CHANGING:
            content = content[:1000]
        (home / "deep" / "er").mkdir(parents=True)
        for inner in ("big", "one", "deep/er/big"):
            (home / inner).write_bytes(content)
        os.setxattr(home / "big", "user.k", b"v")
        os.link(home / "one", home / "two")
        (home / "victim").write_bytes(b"victim")
        (home / "empty").mkdir()
        (home / "full").mkdir()
        (home / "full" / "f").write_bytes(b"f")
        os.symlink("big", home / "link")


def room_of(name: str) -> str:
    """The directory of an act, so that none is in the way of another."""
    return name.replace(" ", "-")


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


# What needs a new object in upper, if only a whiteout or the copy of a directory.
CHANGING: dict[str, Callable[[Path], object]] = {
    "create": lambda root: os.open(root / "new", os.O_CREAT | os.O_WRONLY),
    "mkdir": lambda root: os.mkdir(root / "new"),
    "mkdir below": lambda root: os.mkdir(root / "deep" / "er" / "new"),
    "symlink": lambda root: os.symlink("x", root / "new"),
    "mkfifo": lambda root: os.mkfifo(root / "new"),
    "mknod": lambda root: os.mknod(root / "new", stat.S_IFCHR | 0o600, os.makedev(1, 3)),
    "chmod small": lambda root: os.chmod(root / "victim", 0o600),
    "chmod directory": lambda root: os.chmod(root / "full", 0o700),
    "chmod below": lambda root: os.chmod(root / "deep" / "er" / "big", 0o600),
    "rename small": lambda root: os.rename(root / "victim", root / "moved"),
    "rename directory": lambda root: os.rename(root / "full", root / "moved"),
    "rename below": lambda root: os.rename(root / "full" / "f", root / "moved"),
    "unlink": lambda root: os.unlink(root / "victim"),
    "rmdir": lambda root: os.rmdir(root / "empty"),
    "unlink below": lambda root: os.unlink(root / "full" / "f"),
    "unlink one of two names": lambda root: os.unlink(root / "one"),
    "link small": lambda root: os.link(root / "victim", root / "new"),
    "truncate small": lambda root: os.truncate(root / "victim", 0),
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

    def room(self, name: str) -> Path:
        return self.merged / room_of(name)

    def fails_whole(self, name: str, act: Callable[[Path], object], *errnos: int) -> None:
        """`act` in its room fails with one of `errnos`; afterwards nothing at all has changed."""
        room = self.room(name)
        before = faces(room)
        with fails(*errnos, what=f"{name}:"):
            act(room)
        assert differences(before, faces(room)) == [], name
        assert os.listdir(self.upper_layers.work / "work") == [], name

    def copy_up_directories(self) -> None:
        """Bring all directories up, so that later failures have none to copy."""
        for base, _, _ in os.walk(self.merged):
            os.chmod(base, 0o755)

    def keeps_space(self, before: tuple[int, int]) -> None:
        """As much is free as before, when what the kernel releases late is released."""
        wait_until(lambda: self.free() >= before, f"{before} is free again, not {self.free()}")

    def same_after_remount(self) -> None:
        """The tree is the same when it is mounted again; but see docs/semantics.md, 7.c."""
        before = _uncounted(faces(self.merged))
        self.daemon.restart()
        assert differences(before, _uncounted(faces(self.merged))) == []


def _uncounted(found: dict[str, Face]) -> dict[str, Face]:
    return {name: face._replace(nlink=0) for name, face in found.items()}


SmallUnion = Callable[..., Patient]


@pytest.fixture
def small_union(new_layers: LayersFactory, mount_union: MountUnion) -> SmallUnion:
    """Mount a union whose upper is on a filesystem of a given size, its lower on a roomy one."""

    def make(
        filesystem: Filesystem = "tmpfs", size: str = "64m", inodes: int | None = None
    ) -> Patient:
        wide = new_layers("tmpfs", "256m")
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
