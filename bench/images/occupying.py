# SPDX-License-Identifier: GPL-3.0-or-later
"""What containers of one image take of the disc when they have started."""

from __future__ import annotations

from pathlib import Path

from bench.images.engines import lamina
from bench.progress import Progress


def measure(place: Path, count: int, progress: Progress) -> float:
    """Bytes of disc that each of `count` idle containers of busybox adds; they run meanwhile."""
    engine = lamina(place)
    engine.run("run", "--rm", "busybox", "true")
    before = _used(place)
    names = [f"weighed{number}" for number in range(count)]
    try:
        for number, name in enumerate(names):
            progress.at("containers on the disc", f"{number + 1} of {count}", None)
            engine.run("run", "-d", "--network", "none", "--name", name, "busybox", "sleep", "9999")
        after = _used(place)
    finally:
        progress.at("containers on the disc", "removing", None)
        engine.run("rm", "-f", *[name for name in names if name in _names(place)])
    progress.end()
    return (after - before) / count


def _names(place: Path) -> set[str]:
    return set(lamina(place).run("ps", "-a", "--format", "{{.Names}}").split())


def _used(place: Path) -> int:
    """Bytes of disc below a directory, each file once."""
    total = 0
    seen: set[tuple[int, int]] = set()
    for path in (place, *place.rglob("*")):
        try:
            found = path.lstat()
        except FileNotFoundError:
            continue
        if (found.st_dev, found.st_ino) not in seen:
            seen.add((found.st_dev, found.st_ino))
            total += found.st_blocks * 512
    return total
