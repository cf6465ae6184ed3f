# SPDX-License-Identifier: GPL-3.0-or-later
"""What a union is after it was unmounted and mounted again: the same, to the inode numbers.

Each scene makes a tree and changes it; then everything that lstat(2), readlink(2), the xattrs and
the content tell is compared before and after, and with what kernel overlayfs shows of the same
layers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import LayersFactory, MountUnion
from tests.posix.scene import directory, file, one_of_each
from tests.support.face import differences, faces
from tests.support.layers import Filesystem, Layers
from tests.support.mounttable import run, unmount_all
from tests.support.syscall import RENAME_EXCHANGE, renameat2


@contextmanager
def _inside(place: Path) -> Iterator[None]:
    home = os.getcwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(home)


def _append(name: str, data: bytes = b"+") -> None:
    with open(name, "ab") as stream:
        stream.write(data)


def _rename_twice(name: str) -> None:
    os.rename(name, name + "2")
    os.rename(name + "2", name)


def make_files() -> None:
    for name in ("f", "g", "h"):
        file(name, name.encode() * 1000)
        os.setxattr(name, "user.k", name.encode())
    directory("d")
    file("d/f", b"inner")
    one_of_each("x-")


def change_files() -> None:
    _append("f")
    os.chmod("g", 0o600)
    os.utime("h", (1, 1))
    _append("d/f")
    file("new", b"new")
    for name in os.listdir("."):
        if name.startswith("x-"):
            os.lchown(name, 7, 8)


def make_links() -> None:
    directory("d")
    for one in ("a", "b", "c"):
        file(one, b"linked")
        os.link(one, one + "2")
        os.link(one, f"d/{one}3")


def change_links() -> None:
    _append("a")
    os.unlink("b2")
    _append("b")
    os.unlink("c")
    os.link("c2", "c4")
    os.rename("d/a3", "d/a4")
    file("n")
    os.link("n", "n2")


def make_removed() -> None:
    for name in ("a", "b", "c", "d"):
        directory(name)
        for inner in ("f", "g"):
            file(f"{name}/{inner}", b"old")
    file("f")
    file("g")
    os.symlink("x", "s")


def change_removed() -> None:
    os.unlink("f")
    os.unlink("g")
    os.mkdir("g")
    os.unlink("s")
    file("s", b"file")
    run("rm", "-r", "a")
    run("rm", "-r", "b")
    os.mkdir("b")
    file("b/g", b"again")
    os.unlink("c/f")
    run("rm", "-r", "d")
    file("d", b"no directory")


def make_moved() -> None:
    for name in ("a", "b", "c", "d"):
        os.makedirs(f"{name}/sub/deep")
        file(f"{name}/f", name.encode())
        file(f"{name}/sub/g", name.encode())
        file(f"{name}/sub/deep/h", name.encode())


def change_moved() -> None:
    os.rename("a", "a2")
    os.rename("b/sub", "b/sub2")
    os.rename("b", "a2/b2")
    renameat2("c", "d", RENAME_EXCHANGE)
    _append("c/sub/deep/h")
    os.unlink("d/sub/g")
    os.rename("a2/f", "d/sub/f")
    os.mkdir("a")
    file("a/f", b"other")


SCENES: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
    "files": (make_files, change_files),
    "links": (make_links, change_links),
    "removed": (make_removed, change_removed),
    "moved": (make_moved, change_moved),
}


@contextmanager
def _overlayfs(layers: Layers) -> Iterator[Path]:
    place = layers.more("kernel")
    options = f"lowerdir={layers.lower},upperdir={layers.upper},workdir={layers.work}"
    run("mount", "-t", "overlay", "-o", options + ",redirect_dir=on,index=on", "none", str(place))
    try:
        yield place
    finally:
        unmount_all(place)


@pytest.mark.parametrize(
    ("scene", "filesystem"),
    [
        ("files", "ext4"),
        ("links", "tmpfs"),
        ("removed", "tmpfs"),
        ("moved", "ext4"),
        pytest.param("files", "tmpfs", marks=pytest.mark.nightly),
        pytest.param("links", "ext4", marks=pytest.mark.nightly),
        pytest.param("removed", "ext4", marks=pytest.mark.nightly),
        pytest.param("moved", "tmpfs", marks=pytest.mark.nightly),
    ],
)
class TestRemount:
    """Each scene on each transport, and on both filesystems in a nightly run."""

    @pytest.fixture
    def layers(self, new_layers: LayersFactory, filesystem: Filesystem) -> Layers:
        return new_layers(filesystem, "64m")

    def test_same_after_remount(self, layers: Layers, mount_union: MountUnion, scene: str) -> None:
        make, change = SCENES[scene]
        with _inside(layers.lower):
            make()
        untouched = faces(layers.lower)
        daemon = mount_union()
        start = faces(layers.merged)
        assert differences(start, untouched) == [], "the union shows the lower layer as it is"
        with _inside(layers.merged):
            change()
        before = faces(layers.merged)
        for name in start.keys() & before.keys():
            if start[name].content == before[name].content and scene in ("files", "links"):
                assert start[name].ino == before[name].ino, f"the number of {name} changed"
        daemon.restart()
        assert differences(before, faces(layers.merged)) == []
        assert differences(untouched, faces(layers.lower)) == [], "a lower layer was written"

    def test_same_in_the_kernel(self, layers: Layers, mount_union: MountUnion, scene: str) -> None:
        """Kernel overlayfs shows the same tree of the same layers."""
        make, change = SCENES[scene]
        with _inside(layers.lower):
            make()
        daemon = mount_union()
        with _inside(layers.merged):
            change()
        mine = faces(layers.merged)
        daemon.stop()
        with _overlayfs(layers) as place:
            theirs = faces(place)

        assert differences(mine, theirs) == []

    def test_layers_of_the_kernel(
        self, layers: Layers, mount_union: MountUnion, scene: str
    ) -> None:
        """What kernel overlayfs wrote reads as it does there."""
        make, change = SCENES[scene]
        with _inside(layers.lower):
            make()
        with _overlayfs(layers) as place:
            with _inside(place):
                change()
            theirs = faces(place)
        mount_union()
        assert differences(theirs, faces(layers.merged)) == []


def test_numbers_after_remount_of_every_change(layers: Layers, mount_union: MountUnion) -> None:
    """A file keeps its number over five mounts, each of which changes it in another way."""
    with _inside(layers.lower):
        file("f", b"content")
        directory("d")
        file("d/g", b"content")
    daemon = mount_union()
    names = ("f", "d", "d/g")
    numbers = {name: os.lstat(layers.merged / name).st_ino for name in names}
    changes: list[Callable[[str], None]] = [
        lambda name: os.chmod(name, 0o700),
        lambda name: os.chown(name, 5, 5),
        lambda name: os.setxattr(name, "user.k", b"v"),
        lambda name: os.utime(name, (5, 5)),
        _rename_twice,
    ]
    for change in changes:
        with _inside(layers.merged):
            for name in names:
                change(name)
            assert {name: os.lstat(name).st_ino for name in names} == numbers
        daemon.restart()
        with _inside(layers.merged):
            assert {name: os.lstat(name).st_ino for name in names} == numbers
