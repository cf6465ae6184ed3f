# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m bench.images [load|disc|roundtrip]`: figures of images; status 1 for a missed bar.

The bars are those of the project: loading a Debian image takes at most 0.8 of podman's time and
less than 150 MB of memory; each of 100 containers adds less than 1 MB of disc; what goes to podman
or umoci and back is equal file by file.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.images import loading, occupying, roundtrips
from bench.processes import CommandFailed, TookTooLong, run
from bench.progress import Progress
from bench.report.figures import percent, times
from bench.statistics import ratio

LOAD_BAR = 0.8
MEMORY_BAR = 150_000_000
DISC_BAR = 1_000_000


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.images", description=__doc__.split(":")[0])
    parser.add_argument("what", nargs="?", choices=("load", "disc", "roundtrip"), default="load")
    parser.add_argument("--archive", type=Path, help="of an image, instead of making Debian's")
    parser.add_argument("--rounds", type=int, default=5, help="of loading (default: 5)")
    parser.add_argument("--count", type=int, default=100, help="of containers (default: 100)")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(words)
    if os.geteuid() != 0:
        print("bench.images: cannot compare: the peers need root", file=sys.stderr)
        return 1
    progress = Progress()
    base = Path(tempfile.mkdtemp(prefix="lamina-bench-", dir="/var/tmp"))
    try:
        if options.what == "disc":
            return _disc(base, options.count, progress)
        if options.what == "roundtrip":
            return _roundtrips(base)
        archive = options.archive or loading.debian_archive(base, progress)
        found = loading.measure(archive, base, options.rounds, options.seed, progress)
        return _load(found, archive.stat().st_size)
    except (CommandFailed, TookTooLong) as error:
        print(f"bench.images: {error}", file=sys.stderr)
        return 1
    finally:
        _discard(base)


def _load(found: dict[str, loading.Row], size: int) -> int:
    print(f"\n| load of {size / 1e6:.0f} MB | median | spread | memory | lamina takes | bar |")
    print("|---|---|---|---|---|---|")
    own = found["lamina"]
    factor = ratio(own.seconds, found["podman"].seconds)
    missed = factor is None or factor > LOAD_BAR or own.memory > MEMORY_BAR
    for name, row in found.items():
        compared = verdict = ""
        if name == "podman":
            compared = times(factor)
            verdict = f"{'**miss**' if missed else 'pass'} (at most {times(LOAD_BAR)}, 150 MB)"
        print(
            f"| {name} | {row.seconds.median:.2f} s | ±{percent(row.seconds.spread)} "
            f"| {row.memory / 1e6:.0f} MB | {compared} | {verdict} |"
        )
    return int(missed)


def _disc(base: Path, count: int, progress: Progress) -> int:
    each = occupying.measure(base / "lamina", count, progress)
    missed = each >= DISC_BAR
    verdict = "**miss**" if missed else "pass"
    print(f"{count} containers: {each / 1e3:.0f} kB of disc each: {verdict} (less than 1 MB)")
    return int(missed)


def _roundtrips(base: Path) -> int:
    missed = 0
    for way in roundtrips.names():
        found = roundtrips.measure(way, base / way)
        print(f"lamina → {way} → lamina: {'equal' if not found else '**differs**'}")
        for line in found:
            print(f"  {line}")
        missed += bool(found)
    return int(missed > 0)


def _discard(base: Path) -> None:
    """Let go of what is mounted below `base`, and of all that is there."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines()[::-1]:
        point = line.split()[4]
        if point.startswith(f"{base}/"):
            run(["umount", "-l", point], seconds=60)
    shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    raise SystemExit(main())
