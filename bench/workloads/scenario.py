# SPDX-License-Identifier: GPL-3.0-or-later
"""What a workload is made of: a scenario builds layers once, and does its steps on a mount."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from bench.layers import Layout
from bench.results import Row
from bench.session import Session
from bench.sizes import Sizes


@dataclass(frozen=True, slots=True)
class Step:
    """Does some work on a session and says what it cost, in the unit of its row. Steps of one
    scenario are done in order and may build on what the ones before have left."""

    row: Row
    action: Callable[[Session], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`build` fills a directory of its own on the ground. `on_disc` says that the work is done on
    every filesystem even in a quick run, because the disc is in it. `needs` are programs, `modules`
    those of this Python, without which it is left out. `rehearse`: done once on a plain directory
    before the first round, so that no peer pays for programs being read from the disc. `repeats`:
    a round does it so many times, each on new mounts."""

    name: str
    build: Callable[[Path, Sizes], Layout]
    steps: tuple[Step, ...]
    on_disc: bool = False
    needs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    rehearse: bool = False
    repeats: int = 1

    def missing(self) -> str:
        """What it needs and the machine lacks; empty if it can be done."""
        programs = [name for name in self.needs if shutil.which(name) is None]
        return ", ".join(programs + [name for name in self.modules if find_spec(name) is None])


def per_operation(row: Row, operation: str, tree: str, **given: object) -> Step:
    """A row in µs for one operation of the client in a tree."""
    return Step(row, lambda session: session.loop(operation, tree, **given) / 1e3)


def one_layer(base: Path) -> tuple[Path, Layout]:
    """A single lower layer in `base`, and the layout that has it."""
    layer, extras = base / "0", base / "extras"
    layer.mkdir(parents=True)
    extras.mkdir()
    return layer, Layout((layer,), extras)
