# SPDX-License-Identifier: GPL-3.0-or-later
"""EROFS: a tree mounted read-only refuses every change, and nothing reaches a layer."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import MountUnion
from tests.posix.expect import content, fails, listing
from tests.posix.scene import directory, file
from tests.support.daemon import Daemon
from tests.support.layers import Layers
from tests.support.mounttable import mount_at, run
from tests.support.syscall import RENAME_EXCHANGE, linkat, renameat2, utimensat


def _open(name: str, flags: int) -> Callable[[], object]:
    return lambda: os.open(name, flags, 0o644)


REFUSED: dict[str, Callable[[], object]] = {
    "chmod": lambda: os.chmod("f", 0o600),
    "chmod directory": lambda: os.chmod("d", 0o700),
    "chown": lambda: os.chown("f", 1, 1),
    "lchown": lambda: os.lchown("link", 1, 1),
    "truncate": lambda: os.truncate("f", 0),
    "utimensat": lambda: utimensat("f", (1, 0), (1, 0)),
    "open for writing": _open("f", os.O_WRONLY),
    "open for both": _open("f", os.O_RDWR),
    "open to append": _open("f", os.O_WRONLY | os.O_APPEND),
    "open to truncate": _open("f", os.O_RDONLY | os.O_TRUNC),
    "create": _open("new", os.O_CREAT | os.O_WRONLY),
    "create exclusively": _open("new", os.O_CREAT | os.O_EXCL | os.O_RDONLY),
    "unnamed": _open(".", os.O_TMPFILE | os.O_RDWR),
    "mkdir": lambda: os.mkdir("new"),
    "mkfifo": lambda: os.mkfifo("new"),
    "mknod": lambda: os.mknod("new", stat.S_IFCHR | 0o644, os.makedev(1, 3)),
    "symlink": lambda: os.symlink("x", "new"),
    "link": lambda: linkat("f", "new"),
    "rename": lambda: os.rename("f", "new"),
    "rename over": lambda: os.rename("f", "g"),
    "rename directory": lambda: os.rename("d", "new"),
    "exchange": lambda: renameat2("f", "g", RENAME_EXCHANGE),
    "unlink": lambda: os.unlink("f"),
    "rmdir": lambda: os.rmdir("empty"),
    "setxattr": lambda: os.setxattr("f", "user.k", b"v"),
    "removexattr": lambda: os.removexattr("f", "user.old"),
}


def _fill(place: Path) -> None:
    with _inside(place):
        file("f", b"content")
        file("g")
        os.setxattr("f", "user.old", b"v")
        directory("d")
        file("d/inner")
        directory("empty")
        os.symlink("f", "link")
        os.mkfifo("p")


@contextmanager
def _inside(place: Path) -> Iterator[None]:
    home = os.getcwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(home)


def _check(place: Path) -> None:
    with _inside(place):
        for name, act in REFUSED.items():
            # Without O_TMPFILE in the filesystem the kernel says EOPNOTSUPP before EROFS.
            also = [errno.EOPNOTSUPP] if name == "unnamed" else []
            with fails(errno.EROFS, *also, what=name):
                act()
        with fails(errno.EEXIST):
            os.mkdir("d")
        assert content("f") == b"content"
        assert os.getxattr("f", "user.old") == b"v"
        assert listing() == ["d", "empty", "f", "g", "link", "p"]
        assert os.access("f", os.R_OK)
        assert not os.access("f", os.W_OK)
        # A FIFO is no part of the filesystem's content: it can be written to.
        reader = os.open("p", os.O_RDONLY | os.O_NONBLOCK)
        writer = os.open("p", os.O_WRONLY | os.O_NONBLOCK)
        os.write(writer, b"x")
        assert os.read(reader, 1) == b"x"
        os.close(reader)
        os.close(writer)
    entry = mount_at(place)
    assert entry is not None
    assert "ro" in entry.options | entry.super_options


def test_plain(layers: Layers) -> None:
    """The table itself, on a tmpfs."""
    place = layers.more("plain")
    run("mount", "-t", "tmpfs", "none", str(place))
    try:
        _fill(place)
        run("mount", "-o", "remount,ro", str(place))
        _check(place)
    finally:
        run("umount", str(place))


def test_overlayfs(layers: Layers) -> None:
    """Kernel overlayfs without an upper."""
    _fill(layers.lower)
    second = layers.more("second")
    run(
        *("mount", "-t", "overlay", "-o", f"lowerdir={layers.lower}:{second}"),
        *("none", str(layers.merged)),
    )
    try:
        _check(layers.merged)
    finally:
        run("umount", str(layers.merged))


def _digest(place: Path) -> list[tuple[str, int, int, int]]:
    found = []
    for base, directories, files in os.walk(place):
        for name in [".", *directories, *files]:
            path = os.path.join(base, name)
            seen = os.lstat(path)
            found.append((path, seen.st_mode, seen.st_size, seen.st_mtime_ns))
    return sorted(found)


def test_union_without_upper(layers: Layers, mount_union: MountUnion) -> None:
    """No upper: read-only from the start."""
    _fill(layers.lower)
    before = _digest(layers.lower)
    mount_union(upper=None)
    _check(layers.merged)
    assert _digest(layers.lower) == before


def test_union_mounted_read_only(layers: Layers, mount_union: MountUnion) -> None:
    """An upper that a mount with `ro` does not touch, but shows."""
    _fill(layers.upper)
    before = _digest(layers.upper)
    mount_union(ro=True)
    _check(layers.merged)
    assert _digest(layers.upper) == before


@pytest.mark.parametrize("where", ["upper", "lower"])
def test_remounted_read_only(layers: Layers, mount_union: MountUnion, where: str) -> None:
    """`mount -o remount,ro` of a union: the kernel refuses, and after rw takes changes again."""
    _fill(getattr(layers, where))
    daemon: Daemon = mount_union()
    run("mount", "-i", "-o", "remount,ro", str(layers.merged))
    _check(layers.merged)
    run("mount", "-i", "-o", "remount,rw", str(layers.merged))
    (layers.merged / "f").write_bytes(b"new")
    assert (layers.merged / "f").read_bytes() == b"new"
    assert daemon.alive
