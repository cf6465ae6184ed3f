# SPDX-License-Identifier: GPL-3.0-or-later
"""A few threads for work that takes long, and how long the same work took before.

A hop to a thread and back costs 100 µs and more, so it pays only where the work itself is long:
data of a copy-up, an fsync that reaches a disc, a read that must wait for one. Threads start when
they are first needed. What they run may touch `File`s, never the `Union`.
"""

from __future__ import annotations

import os

from unionfs.light import SimpleQueue, threading
from unionfs.typed import Callable, Final

Job = Callable[[], None]

_THREADS: Final = 4


class Workers:
    """A pool of threads; jobs deal with their own errors."""

    __slots__ = ("_cpus", "_jobs", "_lock", "_threads", "_unfinished")

    def __init__(self) -> None:
        self._cpus = os.sched_getaffinity(0)
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._lock = threading.Lock()

    def submit(self, job: Job) -> None:
        with self._lock:
            self._unfinished += 1
            wanted = self._unfinished > len(self._threads) < _THREADS
        if wanted:
            name = f"worker-{len(self._threads)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        self._jobs.put(job)

    def _run(self) -> None:
        # The serving thread, which starts this one, may keep to one CPU just now (`attention`).
        os.sched_setaffinity(0, self._cpus)
        while True:
            job = self._jobs.get()
            if job is None:
                return
            job()
            del job  # what it holds must not live until the next one comes
            with self._lock:
                self._unfinished -= 1

    def close(self) -> None:
        """Finish what was submitted and end the threads."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()


class Pace:
    """How long one kind of work has taken lately, to tell whether a thread pays for it.

    limit_ns -- work shorter than this is better done at once
    """

    __slots__ = ("_average", "limit_ns")

    def __init__(self, limit_ns: int) -> None:
        self.limit_ns = limit_ns
        self._average = 0

    @property
    def slow(self) -> bool:
        return self._average > self.limit_ns

    def took(self, nanoseconds: int) -> None:
        """Note one run; the average forgets half of what it knew in about five."""
        self._average += (nanoseconds - self._average) >> 3
