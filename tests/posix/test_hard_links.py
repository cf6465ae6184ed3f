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

JOINED: dict[str, Option] = {}
APART: list[dict[str, Option]] = [{"index": "off"}, {"format": "aufs"}]


@pytest.fixture
def linked(layers: Layers) -> Path:
    """A lower file with three names; the merged root."""
    (layers.lower / "dir").mkdir()
    (layers.lower / "a").write_bytes(b"linked")
    os.link(layers.lower / "a", layers.lower / "b")
    os.link(layers.lower / "a", layers.lower / "dir" / "c")
    return layers.merged


def _append(path: Path, data: bytes = b"+") -> None:
    with open(path, "ab") as stream:
        stream.write(data)


def _look(merged: Path, names: tuple[str, ...] = NAMES) -> dict[str, bytes]:
    return {name: (merged / name).read_bytes() for name in names}


@pytest.mark.parametrize("removed", NAMES)
@pytest.mark.parametrize("written", NAMES)
def test_write_after_removal(
    linked: Path, mount_union: MountUnion, removed: str, written: str
) -> None:
    """Removing any name and writing by any other: the rest of the names have the new content."""
    daemon = mount_union()
    _look(linked)
    (linked / removed).unlink()
    rest = tuple(name for name in NAMES if name != removed)
    if written == removed:
        (linked / removed).write_bytes(b"another")
        wanted = dict.fromkeys(rest, b"linked") | {removed: b"another"}
    else:
        _append(linked / written)
        wanted = dict.fromkeys(rest, b"linked+")
    for _ in range(2):
        assert _look(linked, tuple(wanted)) == wanted
        daemon.restart()
    if written != removed:
        assert not os.path.lexists(linked / removed)
        assert {os.stat(linked / name).st_nlink for name in rest} == {2}
        assert len({os.stat(linked / name).st_ino for name in rest}) == 1


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


@pytest.mark.parametrize("options", APART, ids=["index=off", "aufs"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("change", CHANGES)
def test_apart(
    linked: Path, mount_union: MountUnion, options: dict[str, Option], name: str, change: str
) -> None:
    """Without an index a change by one name is a change of that name, and of no other."""
    daemon: Daemon = mount_union(**options)  # type: ignore[arg-type]

    def faces() -> dict[str, object]:
        return {
            each: (
                (linked / each).read_bytes(),
                os.stat(linked / each).st_mode,
                os.listxattr(linked / each),
            )
            for each in NAMES
        }

    before = faces()
    CHANGES[change](linked / name)
    after = faces()
    assert [each for each in NAMES if before[each] != after[each]] == [name]
    daemon.restart()
    assert faces() == after


@pytest.mark.parametrize("options", APART, ids=["index=off", "aufs"])
def test_apart_removal(linked: Path, mount_union: MountUnion, options: dict[str, Option]) -> None:
    """Without an index names go one by one, and a removed one stays readable while open."""
    daemon: Daemon = mount_union(**options)  # type: ignore[arg-type]
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
