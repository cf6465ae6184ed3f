# SPDX-License-Identifier: GPL-3.0-or-later
"""Many idle containers at once: how long they take to start, and what they hold of memory and CPU.

Counted as a helper is each process that came with them and lives in the machine's own pid
namespace; those in a container's are the container's own, and not counted.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from time import perf_counter_ns, sleep

from bench.containers.engines import Engine
from bench.processes import PROC, CommandFailed, TookTooLong, cpu_ns
from bench.progress import Progress

_KIB = 1024


@dataclass(frozen=True, slots=True)
class Idle:
    """Of `count` containers: seconds to start them all; bytes of PSS and processes beside their own
    for each; and the share of one CPU that all helpers together use, in %."""

    count: int
    seconds: float
    pss: float
    processes: float
    cpu: float


def measure(engine: Engine, count: int, watch: float, progress: Progress) -> Idle:
    """Start `count` containers, look for `watch` seconds, and remove them all."""
    assert engine.detached is not None
    assert engine.remove is not None
    others = _own_namespace()
    started = 0
    try:
        begin = perf_counter_ns()
        for number in range(count):
            progress.at(f"{engine.name}: idle containers", f"{number + 1} of {count}", None)
            engine.run(engine.detached(number))
            started += 1
        seconds = (perf_counter_ns() - begin) / 1e9
        helpers = sorted(_own_namespace() - others)
        used, at = {pid: cpu_ns([pid]) for pid in helpers}, perf_counter_ns()
        sleep(watch)
        # One that has ended meanwhile tells nothing any more.
        grown = sum(max(cpu_ns([pid]) - before, 0) for pid, before in used.items())
        cpu = grown / (perf_counter_ns() - at) * 100
        pss = sum(map(_pss, helpers))
        return Idle(count, seconds, pss / count, len(helpers) / count, cpu)
    finally:
        for number in range(started):
            progress.at(f"{engine.name}: removing", f"{number + 1} of {started}", None)
            with suppress(CommandFailed, TookTooLong):
                engine.run(engine.remove(number))
        progress.end()


def _own_namespace() -> set[int]:
    """All processes in this process's pid namespace, and not in one below it."""
    found = set()
    own = os.stat("/proc/self/ns/pid").st_ino
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                if os.stat(entry / "ns/pid").st_ino == own:
                    found.add(int(entry.name))
    return found


def _pss(pid: int) -> int:
    """The process's share of the memory it maps, in bytes (proc_pid_smaps(5), the roll-up)."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * _KIB
    return 0
