# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of one lower file: joined by the index, or each a file of its own without one.

The kernel looks a name up once and then knows its node alone, so each test looks at all names
first; and what a write through one name did is read again after a remount, when the nodes are new.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.conftest import MountUnion
from tests.posix.expect import listing
from tests.support.daemon import Daemon, Option
from tests.support.layers import Layers

NAMES = ("a", "b", "dir/c")
APART: dict[str, dict[str, Option]] = {"index=off": {"index": "off"}, "aufs": {"format": "aufs"}}


def _furnish(place: Path) -> None:
    """A lower file with three names."""
    (place / "dir").mkdir(parents=True)
    (place / "a").write_bytes(b"linked")
    os.link(place / "a", place / "b")
    os.link(place / "a", place / "dir" / "c")


@pytest.fixture
def linked(layers: Layers) -> Path:
    """The merged root of a union over such a file."""
    _furnish(layers.lower)
    return layers.merged


def _append(path: Path, data: bytes = b"+") -> None:
    with open(path, "ab") as stream:
        stream.write(data)


def _look(merged: Path, names: tuple[str, ...] = NAMES) -> dict[str, bytes]:
    return {name: (merged / name).read_bytes() for name in names}


def test_write_after_removal(layers: Layers, mount_union: MountUnion) -> None:
    """Removing any name and writing by any other: the rest of the names have the new content."""
    cases = {f"{NAMES.index(one)}{NAMES.index(two)}": (one, two) for one in NAMES for two in NAMES}
    for room in cases:
        _furnish(layers.lower / room)
    daemon = mount_union()
    wanted: dict[str, dict[str, bytes]] = {}
    for room, (removed, written) in cases.items():
        place = layers.merged / room
        _look(place)
        (place / removed).unlink()
        rest = tuple(name for name in NAMES if name != removed)
        if written == removed:
            (place / removed).write_bytes(b"another")
            wanted[room] = dict.fromkeys(rest, b"linked") | {removed: b"another"}
        else:
            _append(place / written)
            wanted[room] = dict.fromkeys(rest, b"linked+")
    for _ in range(2):
        for room, contents in wanted.items():
            assert _look(layers.merged / room, tuple(contents)) == contents, cases[room]
        daemon.restart()
    for room, (removed, written) in cases.items():
        if written != removed:
            place = layers.merged / room
            rest = tuple(name for name in NAMES if name != removed)
            assert not os.path.lexists(place / removed), cases[room]
            assert {os.stat(place / name).st_nlink for name in rest} == {2}, cases[room]
            assert len({os.stat(place / name).st_ino for name in rest}) == 1, cases[room]


def test_last_name_left(linked: Path, mount_union: MountUnion) -> None:
    """Two of three names removed, the third written, renamed, linked, and removed at last."""
    daemon = mount_union()
    _look(linked)
    (linked / "a").unlink()
    (linked / "b").unlink()
    _append(linked / "dir" / "c")
    (linked / "dir" / "c").rename(linked / "d")
    os.link(linked / "d", linked / "e")
    for _ in range(2):
        assert _look(linked, ("d", "e")) == {"d": b"linked+", "e": b"linked+"}
        assert os.stat(linked / "d").st_nlink == 2
        daemon.restart()
    (linked / "d").unlink()
    (linked / "e").unlink()
    daemon.restart()
    assert listing(str(linked)) == ["dir"]
    assert listing(str(linked / "dir")) == []


def test_open_without_a_name(linked: Path, mount_union: MountUnion) -> None:
    """All names removed while open for reading: the copy by fchmod is seen by the descriptor."""
    mount_union()
    _look(linked)
    fd = os.open(linked / "b", os.O_RDONLY)
    for name in NAMES:
        (linked / name).unlink()
    os.fchmod(fd, 0o600)
    found = os.fstat(fd)
    assert (found.st_mode & 0o777, found.st_nlink) == (0o600, 0)
    assert os.pread(fd, 100, 0) == b"linked"
    os.close(fd)


def test_descriptor_of_a_removed_name(
    linked: Path, mount_union: MountUnion, transport: str
) -> None:
    """A descriptor opened by a name that is removed writes to the file that others still name.

    In passthrough it cannot, as docs/semantics.md 7.a says; then nothing is written anywhere.
    """
    daemon = mount_union()
    _look(linked)
    fd = os.open(linked / "a", os.O_RDONLY)
    (linked / "a").unlink()
    content = b"linked by descriptor"
    refusal: AbstractContextManager[object] = contextlib.nullcontext()
    if transport == "device":
        content = b"linked"
        refusal = pytest.raises(OSError, match=os.strerror(errno.ESTALE))
    with refusal, open(f"/proc/self/fd/{fd}", "ab") as stream:
        stream.write(b" by descriptor")
    os.close(fd)
    for _ in range(2):
        assert _look(linked, ("b", "dir/c")) == dict.fromkeys(("b", "dir/c"), content)
        daemon.restart()


CHANGES: dict[str, Callable[[Path], object]] = {
    "append": _append,
    "truncate": lambda path: os.truncate(path, 3),
    "replace": lambda path: path.write_bytes(b"new"),
    "chmod": lambda path: path.chmod(0o600),
    "setxattr": lambda path: os.setxattr(path, "user.k", b"v"),
}


def _faces(place: Path) -> dict[str, object]:
    return {
        name: (
            (place / name).read_bytes(),
            os.stat(place / name).st_mode,
            os.listxattr(place / name),
        )
        for name in NAMES
    }


@pytest.mark.parametrize("way", APART)
def test_apart(layers: Layers, mount_union: MountUnion, way: str) -> None:
    """Without an index a change by one name is a change of that name, and of no other."""
    rooms = {f"{change}-{NAMES.index(name)}": name for change in CHANGES for name in NAMES}
    for room in rooms:
        _furnish(layers.lower / room)
    daemon: Daemon = mount_union(**APART[way])  # type: ignore[arg-type]
    after = {}
    for room, name in rooms.items():
        place = layers.merged / room
        before = _faces(place)
        CHANGES[room.partition("-")[0]](place / name)
        after[room] = _faces(place)
        assert [each for each in NAMES if before[each] != after[room][each]] == [name], room
    daemon.restart()
    for room in rooms:
        assert _faces(layers.merged / room) == after[room], room


@pytest.mark.parametrize("way", APART)
def test_apart_removal(linked: Path, mount_union: MountUnion, way: str) -> None:
    """Without an index names go one by one, and a removed one stays readable while open."""
    daemon: Daemon = mount_union(**APART[way])  # type: ignore[arg-type]
    _look(linked)
    fd = os.open(linked / "b", os.O_RDONLY)
    (linked / "b").unlink()
    _append(linked / "a")
    assert os.pread(fd, 100, 0) == b"linked"
    assert os.fstat(fd).st_nlink == 0
    os.close(fd)
    for _ in range(2):
        assert _look(linked, ("a", "dir/c")) == {"a": b"linked+", "dir/c": b"linked"}
        assert not os.path.lexists(linked / "b")
        daemon.restart()
