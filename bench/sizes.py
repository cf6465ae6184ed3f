# SPDX-License-Identifier: GPL-3.0-or-later
"""How much work a run is: `quick` takes minutes, `full` is for the record, `smoke` shows that all
of it runs."""

from __future__ import annotations

from dataclasses import dataclass

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """One profile. A run does `rounds_min` rounds, then more of them, up to `rounds_max`, as long
    as another is likely to end within `budget` seconds from the start. On a machine too slow for
    that, no work begins after the budget but that of the first round."""

    name: str
    rounds_min: int
    rounds_max: int
    budget: float
    everything_everywhere: bool
    """all work on all filesystems; else all on the first, on others what the disc is part of"""
    micro_repeats: int
    """how often a round does the short scenarios, each time on new mounts"""
    step_seconds: float
    """after which a step is given up and its peer's session with it"""

    dirs: int
    files: int
    """a metadata tree: `dirs` directories of `files` files"""
    warm_passes: int

    data_bytes: int
    random_ops: int
    fsync_ops: int
    fio: bool

    small_files: int
    large_bytes: int
    sparse_bytes: int
    sparse_data: int

    layers: tuple[int, ...]
    layered_dirs: int
    layered_files: int
    listings: tuple[int, ...]
    clients: tuple[int, ...]
    nodes: int
    idle_seconds: float

    source_files: int
    python_files: int
    c_units: int
    wheel_modules: int
    transactions: int
    packages: int
    """0: no apt-get install in this profile"""

    @property
    def space(self) -> int:
        """Bytes needed on the filesystem: the layers, a plain copy or an upper, and some air."""
        return 4 * self.large_bytes + 6 * self.data_bytes + 4 * self.sparse_data + 512 * MIB


SMOKE = Sizes(
    name="smoke",
    rounds_min=1,
    rounds_max=1,
    budget=30,
    everything_everywhere=True,
    micro_repeats=1,
    step_seconds=30,
    dirs=2,
    files=5,
    warm_passes=2,
    data_bytes=1 * MIB,
    random_ops=20,
    fsync_ops=2,
    fio=False,
    small_files=4,
    large_bytes=1 * MIB,
    sparse_bytes=64 * MIB,
    sparse_data=64 * KIB,
    layers=(1, 3),
    layered_dirs=2,
    layered_files=6,
    listings=(10,),
    clients=(1, 2),
    nodes=200,
    idle_seconds=0.2,
    source_files=20,
    python_files=3,
    c_units=2,
    wheel_modules=5,
    transactions=3,
    packages=2,
)
QUICK = Sizes(
    name="quick",
    rounds_min=3,
    rounds_max=9,
    budget=225,
    everything_everywhere=False,
    micro_repeats=3,
    step_seconds=60,
    dirs=10,
    files=50,
    warm_passes=10,
    data_bytes=16 * MIB,
    random_ops=2000,
    fsync_ops=20,
    fio=False,
    small_files=100,
    large_bytes=64 * MIB,
    sparse_bytes=1 * GIB,
    sparse_data=1 * MIB,
    layers=(1, 10, 100),
    layered_dirs=10,
    layered_files=100,
    listings=(10, 1000, 10_000),
    clients=(1, 2, 4),
    nodes=10_000,
    idle_seconds=0.5,
    source_files=600,
    python_files=40,
    c_units=8,
    wheel_modules=60,
    transactions=60,
    packages=0,
)
FULL = Sizes(
    name="full",
    rounds_min=7,
    rounds_max=7,
    budget=4 * 3600,
    everything_everywhere=True,
    micro_repeats=1,
    step_seconds=600,
    dirs=20,
    files=100,
    warm_passes=20,
    data_bytes=256 * MIB,
    random_ops=20_000,
    fsync_ops=200,
    fio=True,
    small_files=500,
    large_bytes=1 * GIB,
    sparse_bytes=4 * GIB,
    sparse_data=1 * MIB,
    layers=(1, 10, 100, 500),
    layered_dirs=20,
    layered_files=500,
    listings=(10, 1000, 100_000),
    clients=(1, 2, 4),
    nodes=60_000,
    idle_seconds=10,
    source_files=5000,
    python_files=200,
    c_units=60,
    wheel_modules=500,
    transactions=1000,
    packages=20,
)
PROFILES = {sizes.name: sizes for sizes in (QUICK, FULL, SMOKE)}


def spoken(count: int) -> str:
    """A number of bytes as a person says it: `64 MiB`, `1 GiB`."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if count >= unit:
            return f"{count / unit:g} {name}"
    return f"{count} B"
