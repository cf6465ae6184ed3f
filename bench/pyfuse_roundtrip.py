# SPDX-License-Identifier: GPL-3.0-or-later
"""What the union costs on top of pyfuse3: a cold stat on both, in turns.

    python -m bench.pyfuse_roundtrip [--names N] [--rounds N] [--example PATH] [--bar RATIO]

One side is a filesystem in a dict, the least that pyfuse3 can be asked to serve: its time is
pyfuse3's own round trip. The other is a union of an upper and a lower layer on tmpfs over the same
transport. A stat is cold when the kernel has dropped its dentries and inodes before (2 written to
/proc/sys/vm/drop_caches, which needs root), so that it costs exactly one LOOKUP on both sides; the
union has forgotten its nodes by then too. Each round visits the names in a new order, first on one
side and then on the other.

`--example` adds the tmpfs.py of pyfuse3's source distribution, the example filesystem by which
pyfuse3 itself shows what it costs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pyfuse3
import trio
from pyfuse3 import EntryAttributes, FUSEError, RequestContext

_REPOSITORY = Path(__file__).resolve().parents[1]


def _names(count: int) -> list[bytes]:
    return [b"name-%05d" % number for number in range(count)]


# -- the filesystem in a dict --------------------------------------------------------------------


class Memory(pyfuse3.Operations):
    """One directory of empty files, with the timeouts of pyfuse3's example."""

    def __init__(self, names: list[bytes], ready: Callable[[], None]) -> None:
        super().__init__()
        self._numbers = {name: number for number, name in enumerate(names, 2)}
        self._now = time.time_ns()
        self._ready = ready

    def init(self) -> None:
        self._ready()

    async def lookup(self, parent_inode: int, name: bytes, ctx: RequestContext) -> EntryAttributes:
        number = self._numbers.get(name)
        if number is None:
            raise FUSEError(2)
        return self._attributes(number)

    async def getattr(self, inode: int, ctx: RequestContext) -> EntryAttributes:
        return self._attributes(inode)

    def _attributes(self, inode: int) -> EntryAttributes:
        entry = EntryAttributes()
        entry.st_ino = inode
        entry.generation = 0
        entry.entry_timeout = 300
        entry.attr_timeout = 300
        root = inode == pyfuse3.ROOT_INODE
        entry.st_mode = stat.S_IFDIR | 0o755 if root else stat.S_IFREG | 0o644
        entry.st_nlink = 1
        entry.st_uid = 0
        entry.st_gid = 0
        entry.st_rdev = 0
        entry.st_size = 0
        entry.st_blksize = 512
        entry.st_blocks = 1
        entry.st_atime_ns = self._now
        entry.st_mtime_ns = self._now
        entry.st_ctime_ns = self._now
        return entry


def _serve_memory(mountpoint: str, count: int, ready: Callable[[], None]) -> None:
    operations = Memory(_names(count), ready)
    pyfuse3.init(operations, mountpoint, {*pyfuse3.default_options, "fsname=memory"})
    try:
        trio.run(pyfuse3.main)
    finally:
        pyfuse3.close(unmount=True)


def _serve_union(mountpoint: str, layers: Path, ready: Callable[[], None]) -> None:
    from unionfs.config import MountConfig, SessionConfig
    from unionfs.fuse.pyfuse import serve
    from unionfs.union import Union

    union = Union(
        MountConfig(
            lower=(os.fsencode(layers / "lower"),),
            upper=os.fsencode(layers / "upper"),
            work=os.fsencode(layers / "work"),
        )
    )
    try:
        serve(union, SessionConfig(mountpoint=os.fsencode(mountpoint), transport="pyfuse3"), ready)
    finally:
        union.close()


# -- both sides as processes ---------------------------------------------------------------------


@contextmanager
def _served(words: list[str], mountpoint: Path, announced: bool = True) -> Iterator[None]:
    """A server process for as long as the context lasts; it is mounted when the context begins."""
    reader, writer = os.pipe()
    command = [sys.executable, *words, *(["--ready-fd", str(writer)] if announced else [])]
    process = subprocess.Popen(
        command, cwd=_REPOSITORY, pass_fds=(writer,), stdin=subprocess.DEVNULL
    )
    os.close(writer)
    try:
        if announced:
            if not select.select([reader], [], [], 60)[0] or not os.read(reader, 1):
                raise SystemExit(f"no mount at {mountpoint}")
        else:
            deadline = time.monotonic() + 60
            while not os.path.ismount(mountpoint):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"no mount at {mountpoint}")
                time.sleep(0.01)
        yield
    finally:
        os.close(reader)
        if announced:
            process.send_signal(signal.SIGTERM)
        subprocess.run(["umount", "-l", str(mountpoint)], capture_output=True, check=False)
        process.wait()


def _cold_stats(mountpoint: Path, names: list[bytes]) -> list[int]:
    """Nanoseconds of one stat of each name, none of them known to the kernel."""
    Path("/proc/sys/vm/drop_caches").write_text("2")
    root = os.open(mountpoint, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fstat(root)
        clock, status = time.perf_counter_ns, os.stat
        spent = []
        for name in names:
            start = clock()
            status(name, dir_fd=root)
            spent.append(clock() - start)
        return spent
    finally:
        os.close(root)


def measure(count: int, rounds: int, example: str | None) -> dict[str, list[float]]:
    """Medians in µs, one for each side and round."""
    names = _names(count)
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/dev/shm")))
        for directory in ("lower", "upper", "work", "memory", "union", "example"):
            (base / directory).mkdir()
        for name in names:
            Path(os.fsdecode(os.path.join(os.fsencode(base / "lower"), name))).touch()
        here = ["-m", "bench.pyfuse_roundtrip", "--names", str(count)]
        sides = {"memory": base / "memory", "union": base / "union"}
        stack.enter_context(
            _served([*here, "--serve-memory", str(sides["memory"])], sides["memory"])
        )
        stack.enter_context(_served([*here, "--serve-union", str(base)], sides["union"]))
        if example is not None:
            sides["example"] = base / "example"
            words = [os.path.abspath(example), str(sides["example"])]
            stack.enter_context(_served(words, sides["example"], announced=False))
            for name in names:
                os.mknod(os.path.join(os.fsencode(sides["example"]), name))
        result: dict[str, list[float]] = {side: [] for side in sides}
        for number in range(rounds + 1):
            random.shuffle(names)
            order = list(sides)
            random.shuffle(order)
            for side in order:
                spent = _cold_stats(sides[side], names)
                if number:  # the first round warms up
                    result[side].append(statistics.median(spent) / 1000)
        return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--names", type=int, default=2000, help="files in the directory")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--example", metavar="PATH", help="pyfuse3's examples/tmpfs.py")
    parser.add_argument("--bar", type=float, help="fail if the ratio is above this")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve-memory", metavar="MOUNTPOINT", help=argparse.SUPPRESS)
    parser.add_argument("--serve-union", metavar="BASE", help=argparse.SUPPRESS)
    parser.add_argument("--ready-fd", type=int, default=-1, help=argparse.SUPPRESS)
    options = parser.parse_args()

    def ready() -> None:
        os.write(options.ready_fd, b"\n")

    if options.serve_memory:
        _serve_memory(options.serve_memory, options.names, ready)
        return 0
    if options.serve_union:
        base = Path(options.serve_union)
        _serve_union(str(base / "union"), base, ready)
        return 0

    medians = measure(options.names, options.rounds, options.example)
    typical = {side: statistics.median(values) for side, values in medians.items()}
    ratios = {side: typical["union"] / value for side, value in typical.items() if side != "union"}
    if options.json:
        print(json.dumps({"us": medians, "ratio": ratios}))
    else:
        for side, values in medians.items():
            ordered = sorted(values)
            print(
                f"{side:8} cold stat {typical[side]:7.1f} µs"
                f"   (rounds {ordered[0]:.1f} to {ordered[-1]:.1f})"
            )
        for side, ratio in ratios.items():
            print(f"union / {side}: {ratio:.2f}")
    worst = max(ratios.values())
    if options.bar is not None and worst > options.bar:
        print(f"above the bar of {options.bar:g}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
