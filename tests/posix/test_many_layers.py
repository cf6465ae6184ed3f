# SPDX-License-Identifier: GPL-3.0-or-later
"""Unions of 128 and 200 lower layers: each rule of the merge, wherever in the stack it applies."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.conftest import MountUnion
from tests.posix.expect import listing
from tests.support.layers import Layers


def _whiteout(path: Path) -> None:
    """As kernel overlayfs marks a removed name: the character device 0:0."""
    os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(0, 0))


def _stack(layers: Layers, count: int) -> list[Path]:
    """`count` layers, topmost first; each has a file of its own and a say in the shared names.

    Layer k (0 is the bottom) makes own-k, dir/own-k and shared; it hides hidden-(k-1); every
    tenth layer has an opaque directory `opaque` with its own file.
    """
    made = []
    for number in range(count):
        place = layers.more(f"layer{number}")
        (place / f"own-{number}").write_text(str(number))
        (place / "dir").mkdir()
        (place / "dir" / f"own-{number}").write_text(str(number))
        (place / "shared").write_text(str(number))
        (place / f"hidden-{number}").write_text(str(number))
        if number:
            _whiteout(place / f"hidden-{number - 1}")
        (place / "opaque").mkdir()
        (place / "opaque" / f"own-{number}").write_text(str(number))
        if number % 10 == 0:
            os.setxattr(place / "opaque", "trusted.overlay.opaque", b"y")
        made.append(place)
    return made[::-1]


@pytest.mark.parametrize("count", [128, 200])
def test_merge(layers: Layers, mount_union: MountUnion, count: int) -> None:
    mount_union(lowers=_stack(layers, count), limit=300)
    merged = layers.merged
    top = count - 1
    assert listing(str(merged)) == sorted(
        ["dir", "shared", "opaque", f"hidden-{top}", *(f"own-{n}" for n in range(count))]
    )
    assert (merged / "shared").read_text() == str(top)
    assert listing(str(merged / "dir")) == sorted(f"own-{n}" for n in range(count))
    for number in (0, 1, count // 2, top):
        assert (merged / f"own-{number}").read_text() == str(number)
        assert (merged / "dir" / f"own-{number}").read_text() == str(number)
    for number in (0, 1, count // 2, top - 1):
        assert not os.path.lexists(merged / f"hidden-{number}")
    last_opaque = top // 10 * 10
    assert listing(str(merged / "opaque")) == sorted(f"own-{n}" for n in range(last_opaque, count))


@pytest.mark.parametrize("count", [128, 200])
def test_changes(layers: Layers, mount_union: MountUnion, count: int) -> None:
    """Objects of the lowest layers are changed, removed, renamed; and all again after a remount."""
    lowers = _stack(layers, count)
    daemon = mount_union(lowers=lowers, limit=300)
    merged = layers.merged
    with open(merged / "own-0", "a") as stream:
        stream.write(" changed")
    (merged / "dir" / "own-1").unlink()
    (merged / "dir").rename(merged / "moved")
    (merged / "shared").unlink()
    for _ in range(2):
        assert (merged / "own-0").read_text() == "0 changed"
        assert not os.path.lexists(merged / "shared")
        assert not os.path.lexists(merged / "dir")
        assert listing(str(merged / "moved")) == sorted(f"own-{n}" for n in range(count) if n != 1)
        assert (merged / "moved" / "own-0").read_text() == "0"
        daemon.restart()
    assert (lowers[-1] / "own-0").read_text() == "0"
