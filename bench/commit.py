# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m bench.commit`: what a commit costs, beside podman's; exit status 1 for a missed bar.

A running container of a large image is changed and committed, with either engine in turn. The bars
are those of the project: after one small change at most 0.3 s and 0.3 of podman's time, the same
for an image ten times as large; after 100 MB of changes at most 0.7 of podman's time.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from bench.containers.engines import BUSYBOX, discard
from bench.processes import CommandFailed, TookTooLong, run
from bench.progress import Progress
from bench.report.figures import NONE, percent, times
from bench.statistics import Summary, ratio, summary

SECONDS = 600.0
SMALL_SECONDS = 0.3
SMALL_RATIO = 0.3
LARGE_RATIO = 0.7
FLAT_RATIO = 1.25
LARGE_MB = 100
_FILE = 100_000  # bytes of each file of the image
_ULIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: `words` begin each of its commands, `started` what starts a container."""

    name: str
    words: tuple[str, ...]
    started: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)

    def do(self, *words: str) -> int:
        """Run one of its commands; its wall time in ns. Raises CommandFailed or TookTooLong."""
        return run((*self.words, *words), seconds=SECONDS, env=self.environment).ns

    def ms(self, *words: str) -> float:
        """The same in milliseconds."""
        return self.do(*words) / 1e6


def engines(base: Path) -> tuple[Engine, ...]:
    """lamina and podman, both with all their state below `base`."""
    beside = Path(sys.executable).with_name("lamina")
    program = str(beside) if beside.exists() else "lamina"
    podman = ("podman", "--root", str(base / "podman"), "--runroot", str(base / "podman-run"))
    return (
        Engine(
            "lamina",
            (program,),
            ("run", "-d", "--network", "none"),
            {"LAMINA_ROOT": str(base / "lamina")},
        ),
        Engine(
            "podman",
            (*podman, "--cgroup-manager", "cgroupfs", "--runtime", "runc"),
            ("run", "-d", "--network", "none", *_ULIMITS),
        ),
    )


def make_image(base: Path, megabytes: int) -> Path:
    """An archive of busybox beside so much in files of the size that most have."""
    root = base / "rootfs"
    for name in ("bin", "etc", "proc", "sys", "dev", "tmp", "data"):
        (root / name).mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in ("sh", "sleep", "dd", "rm"):
        (root / "bin" / name).symlink_to("busybox")
    content = random.Random(1).randbytes(_FILE)
    for number in range(megabytes * 1_000_000 // _FILE):
        directory = root / f"data/{number // 100}"
        directory.mkdir(exist_ok=True)
        (directory / f"{number % 100}").write_bytes(number.to_bytes(8, "big") + content)
    archive = base / "image.tar"
    run(["tar", "-C", str(root), "-cf", str(archive), "."], seconds=SECONDS)
    shutil.rmtree(root)
    return archive


@contextmanager
def container(engine: Engine, archive: Path) -> Iterator[str]:
    """A running container of a fresh image."""
    image = f"bench-{archive.parent.name}"
    engine.do("import", str(archive), image)
    name = f"commit-{os.getpid()}"
    engine.do(*engine.started, "--name", name, image, "/bin/sleep", "100000")
    try:
        yield name
    finally:
        with suppress(CommandFailed, TookTooLong):
            engine.do("rm", "-f", name)


def commit(engine: Engine, name: str, change: str) -> float:
    """Milliseconds of one commit after a change, a line for the container's shell."""
    engine.do("exec", name, "/bin/sh", "-c", change)
    took = engine.ms("commit", name, "bench-committed")
    with suppress(CommandFailed):
        engine.do("rmi", "-f", "bench-committed")
    return took


def measure(
    ready: Sequence[Engine], archive: Path, rounds: int, change: str, progress: Progress, what: str
) -> dict[str, Summary]:
    """By engine: each once a round, in turn."""
    samples: dict[str, list[float]] = {engine.name: [] for engine in ready}
    with _containers(ready, archive) as names:
        for number in range(rounds):
            progress.at(what, f"round {number + 1} of {rounds}", None)
            order = list(ready) if number % 2 else list(reversed(ready))
            for engine in order:
                line = change.format(number=number)
                samples[engine.name].append(commit(engine, names[engine.name], line))
    progress.end()
    found = {name: summary(values) for name, values in samples.items()}
    return {name: each for name, each in found.items() if each is not None}


@contextmanager
def _containers(ready: Sequence[Engine], archive: Path) -> Iterator[dict[str, str]]:
    with ExitStack() as ends:
        yield {engine.name: ends.enter_context(container(engine, archive)) for engine in ready}


SMALL = "echo {number} > /changed"
LARGE = (
    "i=0; while [ $i -lt 10 ]; do "
    f"dd if=/dev/urandom of=/large-$i bs=1M count={LARGE_MB // 10} 2> /dev/null; i=$((i + 1)); done"
)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="bench.commit", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--sizes", default="300,3000", metavar="MB,…", help="of the images")
    parser.add_argument("--without-peer", action="store_true", help="lamina alone")
    options = parser.parse_args(words)
    if os.geteuid() != 0:
        print("bench.commit: cannot compare: the peer needs root", file=sys.stderr)
        return 1
    sizes = [int(each) for each in options.sizes.split(",")]
    progress = Progress()
    base = Path(tempfile.mkdtemp(prefix="lamina-bench-", dir="/var/tmp"))
    try:
        ready = engines(base)
        if options.without_peer:
            ready = ready[:1]
        rows: list[tuple[str, dict[str, Summary]]] = []
        for size in sizes:
            place = base / f"{size}mb"
            progress.say(f"making an image of {size} MB")
            archive = make_image(place, size)
            what = f"one small change to an image of {size} MB"
            rows.append((what, measure(ready, archive, options.rounds, SMALL, progress, what)))
            if size == sizes[0]:
                what = f"{LARGE_MB} MB of changes"
                rows.append((what, measure(ready, archive, options.rounds, LARGE, progress, what)))
            archive.unlink()
        return report(rows)
    except (CommandFailed, TookTooLong) as error:
        print(f"bench.commit: {error}", file=sys.stderr)
        return 1
    finally:
        discard(base)


def report(rows: Sequence[tuple[str, dict[str, Summary]]]) -> int:
    """Print the table; 1 if a bar was missed."""
    missed = False
    first = rows[0][1]["lamina"]
    print("\n| commit | lamina | spread | podman | lamina takes | bars |")
    print("|---|---|---|---|---|---|")
    for number, (what, found) in enumerate(rows):
        own, peer = found["lamina"], found.get("podman")
        factor = ratio(own, peer)
        bars: list[tuple[str, bool]] = []
        large = what.startswith(str(LARGE_MB))
        most = LARGE_RATIO if large else SMALL_RATIO
        if not large:
            bars.append((f"at most {SMALL_SECONDS} s", own.median <= SMALL_SECONDS * 1000))
        if factor is not None:
            bars.append((f"at most {times(most)}", factor <= most))
        if number and not large:
            flat = own.median / first.median
            bars.append((f"as the first ({times(flat)})", flat <= FLAT_RATIO))
        missed = missed or not all(kept for _, kept in bars)
        told = ", ".join(f"{text}: {'pass' if kept else '**miss**'}" for text, kept in bars)
        print(
            f"| {what} | {own.median:.0f} ms | ±{percent(own.spread)} "
            f"| {NONE if peer is None else f'{peer.median:.0f} ms'} | {times(factor)} | {told} |"
        )
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
