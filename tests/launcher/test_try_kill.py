# SPDX-License-Identifier: GPL-3.0-or-later
"""An apply, or its undo, that is killed between any two of its steps is finished or taken back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from launcher.sys import files
from launcher.trial import apply as applying
from launcher.trial import carry, copying, journal
from tests.launcher.trials import Ground, snapshot
from tests.support.layers import Layers

KILLED = 77

SCRIPT = """
    echo x >> f; rm g; rm -r tree; mv a z; echo x > z/new; rm z/h
    mv b t; mv c b; mv t c
    mkdir -p n/e; echo x > n/e/w; ln -s w n/e/l; chmod 600 mode
    rm -r was-dir; echo x > was-dir; rm was-file; mkdir was-file; echo x > was-file/i
    echo x >> twin1
"""


class _Points:
    """The places at which a kill is tried: before and after whatever changes a file."""

    def __init__(self, at: int) -> None:
        self._left = at

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **more: Any) -> Any:
            self.reach()
            result = function(*arguments, **more)
            self.reach()
            return result

        return wrapped

    def reach(self) -> None:
        self._left -= 1
        if self._left == 0:
            os._exit(KILLED)

    def install(self) -> None:
        """For the rest of this process."""
        carry.__dict__["renameat2"] = self.wrap(files.renameat2)
        for name in ("rename", "link", "mkdir", "symlink", "unlink", "rmdir", "chmod", "fsync"):
            setattr(os, name, self.wrap(getattr(os, name)))
        copying.make = self.wrap(copying.make)
        journal.Journal.note = self.wrap(journal.Journal.note)  # type: ignore[method-assign]
        journal.Journal.end = self.wrap(journal.Journal.end)  # type: ignore[method-assign]


def killed_at(point: int, action: Callable[[], object]) -> bool:
    """Run something in a child that is killed at a point; False if it came to its end before."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _Points(point).install()
            action()
            status = 0
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, KILLED)
    return status == KILLED


def furnish(ground: Ground) -> None:
    for name in ("f", "g", "mode", "was-file", "a/h", "b/f", "c/f", "tree/a/b", "was-dir/i"):
        ground.write(name, f"{name}\n")
    ground.write("twin1")
    os.link(ground.root / "twin1", ground.root / "twin2")


@pytest.fixture(params=["the same filesystem", "another filesystem"])
def ground(
    request: pytest.FixtureRequest, tmp_path: Path, new_layers: Callable[..., Layers]
) -> Ground:
    if request.param == "the same filesystem":
        return Ground(tmp_path)
    return Ground(tmp_path, new_layers("tmpfs").lower)


def content(ground: Ground) -> dict[str, tuple[object, ...]]:
    """Without inodes and link counts: what was copied to the store and back has others."""
    return {name: (*each[:7], *each[9:]) for name, each in ground.seen().items()}


def tried(ground: Ground) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the host is before, and what it is to be."""
    furnish(ground)
    before = content(ground)
    wanted: dict[str, Any] = {}

    def script(merged: Path) -> None:
        subprocess.run(["bash", "-euc", SCRIPT], cwd=merged, check=True)
        wanted.update({name: (*each[:7], *each[9:]) for name, each in snapshot(merged).items()})

    ground.run(script)
    return before, wanted


# All points take minutes.
STRIDES = [pytest.param(23, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.nightly)]


@pytest.mark.parametrize("stride", STRIDES)
def test_an_apply_killed_anywhere_is_finished_or_taken_back(ground: Ground, stride: int) -> None:
    before, wanted = tried(ground)
    point = 1
    while killed_at(point, ground.apply):
        log = journal.latest(ground.trial)
        if log is not None:
            log.close()
            if point // stride % 2:
                outcome = applying.finish(ground.trial)
                assert outcome is None or outcome.failed == (), point
                assert content(ground) == wanted, point
            assert ground.undo(force=True) == [], point
        assert content(ground) == before, point
        assert ground.conflicts() == {}, point
        point += stride
    assert point > 100
    assert content(ground) == wanted


@pytest.mark.parametrize("stride", STRIDES)
def test_an_undo_killed_anywhere_is_finished(ground: Ground, stride: int) -> None:
    before, wanted = tried(ground)
    point = 1
    while True:
        assert ground.apply().failed == (), point
        assert content(ground) == wanted, point
        if not killed_at(point, ground.undo):
            break
        log = journal.latest(ground.trial)
        if log is not None:
            log.close()
            assert ground.refusals() == {}, point
            assert ground.undo() == [], point
        assert content(ground) == before, point
        assert ground.conflicts() == {}, point
        point += stride
    assert point > 50
    assert content(ground) == before
