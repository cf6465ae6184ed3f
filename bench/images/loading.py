# SPDX-License-Identifier: GPL-3.0-or-later
"""How long `load` takes, and how much memory, beside podman's."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bench.images.engines import Engine, lamina, podman
from bench.processes import run
from bench.progress import Progress
from bench.statistics import Summary, summary

_MAKERS: dict[str, Callable[[Path], Engine]] = {"lamina": lamina, "podman": podman}


@dataclass(frozen=True, slots=True)
class Row:
    """One engine: seconds, and the most memory in bytes."""

    seconds: Summary
    memory: int


def debian_archive(base: Path, progress: Progress) -> Path:
    """A Debian image as podman saves it. Raises CommandFailed where that cannot be made."""
    progress.at("a Debian image archive", "mmdebstrap", None)
    root = base / "debian.tar"
    include = "--include=python3-minimal,perl,vim-tiny,ca-certificates,openssl"
    run(["mmdebstrap", "--variant=minbase", include, "stable", str(root)], seconds=1800)
    archive = base / "debian-image.tar"
    engine = podman(base / "making")
    engine.run("import", "-q", root, "localhost/debian:latest")
    engine.run("save", "-q", "-o", archive, "localhost/debian:latest")
    return archive


def measure(
    archive: Path, base: Path, rounds: int, seed: int, progress: Progress
) -> dict[str, Row]:
    """Load into an empty store each time, in an order drawn anew for each round.

    What was loaded stays until the end: ext4 looks twice at inodes that were freed a moment ago,
    which would slow down whoever comes next. lamina's time includes that all is on the disc, which
    podman leaves to chance.
    """
    order = random.Random(seed)
    seconds: dict[str, list[float]] = {name: [] for name in _MAKERS}
    memory = dict.fromkeys(_MAKERS, 0)
    for number in range(rounds):
        progress.at("load", f"round {number + 1} of {rounds}", None)
        for name in order.sample(list(_MAKERS), len(_MAKERS)):
            _warm(archive)
            os.sync()
            engine = _MAKERS[name](base / f"{name}-{number}")
            took, most = engine.weigh("load", "-q", "-i", archive)
            seconds[name].append(took)
            memory[name] = max(memory[name], most)
    progress.end()
    found = {name: summary(values) for name, values in seconds.items()}
    return {name: Row(each, memory[name]) for name, each in found.items() if each is not None}


def _warm(archive: Path) -> None:
    """Have the archive in the page cache, so that nobody waits for the disc to read it."""
    with archive.open("rb") as file:
        while file.read(1 << 20):
            pass
