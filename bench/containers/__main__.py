# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m bench.containers [start|idle]`: a Markdown table, and exit status 1 for a missed bar.

The bars are those of the project: a start takes at most half of podman's time, 0.35 of docker's and
twice runc's on a prepared bundle; an idle container holds at most 12 MB beside its own process.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.containers import engines, idling, starting
from bench.processes import CommandFailed, TookTooLong
from bench.progress import Progress
from bench.report.figures import percent, times
from bench.statistics import ratio

BARS = {"podman": 0.5, "docker": 0.35, "runc": 2.0}
IDLE_BYTES = 12_000_000
IDLE_SECONDS = 60.0
IDLE_COUNT = 200


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.containers", description=__doc__.split(":")[0])
    parser.add_argument("what", nargs="?", choices=("start", "idle"), default="start")
    parser.add_argument("--rounds", type=int, default=20, help="of starts (default: 20)")
    parser.add_argument("--count", type=int, default=IDLE_COUNT, help="of idle containers")
    parser.add_argument("--watch", type=float, default=10.0, help="seconds to watch idle ones")
    parser.add_argument("--engines", default="", metavar="NAME,…", help=f"of {engines.NAMES}")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(words)
    if os.geteuid() != 0:
        print("bench.containers: cannot compare: the peers need root", file=sys.stderr)
        return 1
    names = tuple(filter(None, options.engines.split(","))) or engines.NAMES
    unknown = set(names) - set(engines.NAMES)
    if unknown:
        print(f"bench.containers: there is no engine {unknown.pop()}", file=sys.stderr)
        return 2
    progress = Progress()
    base = Path(tempfile.mkdtemp(prefix="lamina-bench-", dir="/var/tmp"))
    try:
        ready, lacking = engines.prepare(base, names)
        for line in lacking:
            print(f"left out: {line}", file=sys.stderr)
        if options.what == "start":
            return _start(ready, options.rounds, options.seed, progress)
        return _idle(ready, options.count, options.watch, progress)
    except (CommandFailed, TookTooLong) as error:
        print(f"bench.containers: {error}", file=sys.stderr)
        return 1
    finally:
        engines.discard(base)


def _start(ready: list[engines.Engine], rounds: int, seed: int, progress: Progress) -> int:
    found = starting.measure(ready, rounds, seed, progress)
    own = found.get(engines.LAMINA)
    missed = False
    print(f"\n| start to end of `true`, {rounds} rounds | median | spread | lamina takes | bar |")
    print("|---|---|---|---|---|")
    for engine in ready:
        row = found[engine.name]
        factor = ratio(own, row)
        bar = BARS.get(engine.name)
        verdict = ""
        if bar is not None and factor is not None:
            missed = missed or factor > bar
            verdict = f"{'pass' if factor <= bar else '**miss**'} (at most {times(bar)})"
        print(
            f"| {engine.version or engine.name} | {row.median:.1f} ms | ±{percent(row.spread)} "
            f"| {times(factor)} | {verdict} |"
        )
    return int(missed)


def _idle(ready: list[engines.Engine], count: int, watch: float, progress: Progress) -> int:
    print(f"\n| {count} idle containers | started in | helpers' PSS each | helpers each | CPU |")
    print("|---|---|---|---|---|")
    missed = False
    for engine in _detachable(ready):
        idle = idling.measure(engine, count, watch, progress)
        print(
            f"| {engine.version or engine.name} | {idle.seconds:.1f} s | {idle.pss / 1e6:.1f} MB "
            f"| {idle.processes:.1f} | {idle.cpu:.2f} % of one |"
        )
        if engine.name == engines.LAMINA:
            scaled = IDLE_SECONDS * count / IDLE_COUNT
            missed = idle.pss > IDLE_BYTES or idle.seconds > max(scaled, 1.0)
    print(f"\nbars: {IDLE_BYTES / 1e6:g} MB each, {IDLE_COUNT} in {IDLE_SECONDS:g} s")
    return int(missed)


def _detachable(ready: list[engines.Engine]) -> Iterator[engines.Engine]:
    return (engine for engine in ready if engine.detached is not None)


if __name__ == "__main__":
    raise SystemExit(main())
