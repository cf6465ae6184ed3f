# SPDX-License-Identifier: GPL-3.0-or-later
"""What a mount costs by being there: time to mount, memory for each node known, CPU when idle."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter_ns, sleep

from bench.layers import Layout, age, grid
from bench.processes import cpu_ns, resident
from bench.results import Row
from bench.session import NotApplicable, Session
from bench.sizes import MIB, Sizes
from bench.workloads.scenario import Scenario, Step, one_layer

GROUP = "footprint"
MILLION = 1_000_000
DIRS = 100


def _build(base: Path, sizes: Sizes) -> Layout:
    layer, layout = one_layer(base)
    grid(layer / "walked", DIRS, _files(sizes))
    age(layer)
    return layout


def _files(sizes: Sizes) -> int:
    """Files in each of the directories of the tree that is walked."""
    return max(sizes.nodes // DIRS, 1)


def _mount(session: Session) -> float:
    if session.peer.plain:
        raise NotApplicable
    return session.mount_ns / 1e6


def _memory(session: Session, files: int) -> float:
    daemon, before = session.daemon(), resident(session.daemon())
    session.loop("walk", "walked", dirs=DIRS)
    grown = max(resident(daemon) - before, 0)
    return grown / (DIRS * (files + 1)) * MILLION / MIB


def _idle(session: Session, seconds: float) -> float:
    """Share of one CPU in %, over a time in which nobody asks anything of the mount."""
    daemon = session.daemon()
    start, before = perf_counter_ns(), cpu_ns(daemon)
    sleep(seconds)
    return (cpu_ns(daemon) - before) / (perf_counter_ns() - start) * 100


def scenarios(sizes: Sizes) -> list[Scenario]:
    steps = (
        Step(
            Row(GROUP, "mount", "ms", "from the start of the command to its first answer"), _mount
        ),
        Step(
            Row(GROUP, "memory per million nodes", "MiB",
                f"of the daemon, scaled from a walk of {sizes.nodes} entries"),
            lambda session: _memory(session, _files(sizes)),
        ),
        Step(
            Row(GROUP, "CPU when idle", "%",
                f"of one CPU, over {sizes.idle_seconds:g} s after that walk"),
            lambda session: _idle(session, sizes.idle_seconds),
        ),
    )  # fmt: skip
    return [Scenario(name="footprint", build=_build, steps=steps)]
