# SPDX-License-Identifier: GPL-3.0-or-later
"""Running `lamina` as a person does, and mounts that end with the test."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.support.clock import scaled
from tests.support.daemon import command, environment
from tests.support.layers import Layers
from tests.support.mounttable import mounts, unmount_all

Word = str | bytes | Path


class Lamina(Protocol):
    """See `lamina`."""

    def __call__(
        self, *words: Word, status: int = 0, cwd: Path | None = None
    ) -> subprocess.CompletedProcess[str]: ...


def run_lamina(
    *words: Word, status: int = 0, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end and hold its exit status, and the form of what it complains.

    Its output is read to the end: a daemon that kept the pipe open would be noticed.
    """
    done = subprocess.run(
        [*map(os.fsencode, command()), *map(os.fsencode, words)],
        capture_output=True,
        text=True,
        errors="surrogateescape",
        env=environment(),
        timeout=scaled(60),
        check=False,
        cwd=cwd,
    )
    assert done.returncode == status, f"status {done.returncode}: {done.stderr}{done.stdout}"
    if status:
        for line in done.stderr.splitlines():
            assert line.startswith("lamina: cannot "), done.stderr
        assert done.stderr.endswith("\n")
    else:
        assert not done.stderr, done.stderr
    return done


@pytest.fixture
def lamina(layers: Layers) -> Iterator[Lamina]:
    """`run_lamina`; what is still mounted below `layers.root` at the end of the test goes."""
    yield run_lamina
    below = os.fsencode(layers.root) + b"/"
    for entry in reversed(mounts()):
        if entry.mountpoint.startswith(below):
            unmount_all(os.fsdecode(entry.mountpoint))


@pytest.fixture
def cd(layers: Layers) -> Layers:
    """Layers whose lower is the CD of the tests below."""
    lower = layers.lower
    for directory in ("letters", "photos/summer", "old/sub", "empty"):
        (lower / directory).mkdir(parents=True)
    for name, text in (
        ("letters/may", "written once\n"),
        ("letters/june", "rain\n"),
        ("photos/summer/lake", "blue\n"),
        ("old/sub/x", "x\n"),
        ("old/y", "y\n"),
        ("advertisement", "not worth keeping\n"),
        ("keep", "kept\n"),
    ):
        (lower / name).write_text(text)
    (lower / "keep2").hardlink_to(lower / "keep")
    (lower / "link").symlink_to("keep")
    return layers
