# SPDX-License-Identifier: GPL-3.0-or-later
"""What the daemon's memory costs: 600 bytes for each entry the kernel knows, and none after."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.conftest import MountUnion
from tests.support.clock import wait_until
from tests.support.daemon import smaps_bytes
from tests.support.layers import Layers

DIRECTORIES = 60
FILES = 1000
BAR = 600


def _walk(root: Path) -> int:
    """Look at every object, as find(1) with -ls does."""
    count = 0
    for base, directories, files in os.walk(root):
        for name in [*directories, *files]:
            os.lstat(os.path.join(base, name))
            count += 1
    return count


def _forget_all() -> None:
    """Let the kernel drop every inode that nobody uses (proc_sys_vm(5))."""
    Path("/proc/sys/vm/drop_caches").write_text("2\n")


def _furnish(place: Path) -> None:
    for number in range(DIRECTORIES):
        (place / f"directory{number:02}").mkdir(parents=True)
        for inner in range(FILES):
            name = place / f"directory{number:02}" / f"file-number-{inner:04}"
            os.close(os.open(name, os.O_CREAT | os.O_WRONLY))


@pytest.mark.slow
def test_walk(layers: Layers, mount_union: MountUnion) -> None:
    """Walks of 60,000 entries each, every time others, with all forgotten in between.

    The interpreter gives memory back to the system by the mebibyte, and only when nothing in it is
    in use. So what is forgotten shows in part in the daemon's size, and wholly in that the next
    walk takes its place: a daemon that kept it would grow by as much again.
    """
    trees = [f"tree{number}" for number in range(3)]
    for tree in trees:
        _furnish(layers.lower / tree)
    small = layers.lower / "small"
    small.mkdir()
    for inner in range(200):
        (small / str(inner)).touch()
    daemon = mount_union(limit=300)
    # What is there once and for all, such as buffers and code, is not the entries' cost.
    _walk(layers.merged / "small")
    _forget_all()
    before = smaps_bytes(daemon.pid)
    growths = []
    for tree in trees:
        count = _walk(layers.merged / tree)
        assert count == DIRECTORIES * (FILES + 1)
        growths.append(smaps_bytes(daemon.pid) - before)
        assert growths[-1] <= BAR * count, f"{growths[-1] / count:.0f} bytes an entry"
        _forget_all()
        bound = before + growths[-1] * 9 // 10
        wait_until(
            lambda bound=bound: smaps_bytes(daemon.pid) <= bound,  # type: ignore[misc]
            f"memory is given back: {before} before, grown by {growths}",
        )
    assert max(growths) <= growths[0] * 1.4, growths


@pytest.mark.slow
def test_many_open_files(layers: Layers, mount_union: MountUnion) -> None:
    """Opening and closing 20,000 files leaves neither descriptors nor memory behind."""
    for inner in range(2000):
        (layers.lower / f"{inner}").write_bytes(b"x")
    daemon = mount_union(limit=300)

    def read_all() -> None:
        for inner in range(2000):
            fd = os.open(layers.merged / f"{inner}", os.O_RDONLY)
            os.read(fd, 1)
            os.close(fd)

    read_all()
    _forget_all()
    descriptors = len(os.listdir(f"/proc/{daemon.pid}/fd"))
    before = smaps_bytes(daemon.pid)
    for _ in range(10):
        read_all()
    assert smaps_bytes(daemon.pid) - before <= BAR * 2000 + (1 << 20)
    _forget_all()
    wait_until(
        lambda: len(os.listdir(f"/proc/{daemon.pid}/fd")) <= descriptors + 20,
        f"descriptors are closed: {descriptors} before",
    )
