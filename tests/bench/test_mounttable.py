# SPDX-License-Identifier: GPL-3.0-or-later
"""The mount table: escapes, what contains what, and waiting without polling by the clock."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from bench import mounttable


@pytest.fixture
def point(tmp_path: Path) -> Iterator[Path]:
    """A mount point with names that the table escapes; unmounted afterwards."""
    path = tmp_path / "a b\\c"
    path.mkdir()
    yield path
    while mounttable.at(path):
        subprocess.run(["umount", os.fspath(path)], check=True)


def mount(path: Path) -> None:
    words = ["mount", "-t", "tmpfs", "-o", "size=1m,nosuid", "source", os.fspath(path)]
    subprocess.run(words, check=True)


def test_names_with_blanks_and_backslashes(point: Path) -> None:
    assert mounttable.at(point) is None
    mount(point)
    found = mounttable.at(point)
    assert found is not None
    assert (found.fstype, found.source) == ("tmpfs", "source")
    assert "nosuid" in found.options.split(",")
    assert found.device == (os.major(point.stat().st_dev), os.minor(point.stat().st_dev))


def test_what_lies_on_and_below(point: Path, tmp_path: Path) -> None:
    mount(point)
    inner = point / "inner"
    inner.mkdir()
    mount(inner)
    try:
        assert mounttable.containing(inner / "file").point == inner
        assert mounttable.containing(point / "file").point == point
        assert [found.point for found in mounttable.below(tmp_path)] == [inner, point]
    finally:
        subprocess.run(["umount", os.fspath(inner)], check=True)


def test_waiting_ends_with_the_mount(point: Path) -> None:
    mounter = threading.Thread(target=mount, args=(point,))
    mounter.start()
    assert mounttable.wait(lambda: mounttable.at(point) is not None, [], 30)
    mounter.join()


def test_waiting_ends_with_a_descriptor_or_the_time(point: Path) -> None:
    out, into = os.pipe()
    try:
        os.close(into)
        start = monotonic()
        assert not mounttable.wait(lambda: False, [out], 30)
        assert monotonic() - start < 10
        assert not mounttable.wait(lambda: False, [], 0.05)
    finally:
        os.close(out)
