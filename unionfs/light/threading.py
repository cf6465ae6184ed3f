# SPDX-License-Identifier: GPL-3.0-or-later
"""`Thread`, `Event`, `Lock` and the ids, as in the standard library's threading.

All threads are daemons: a process that ends does not wait for them.
"""

from __future__ import annotations

TYPE_CHECKING = False

if not TYPE_CHECKING:
    from _thread import allocate_lock as Lock
    from _thread import get_ident, get_native_id, start_new_thread

    __all__ = ["Event", "Lock", "Thread", "get_ident", "get_native_id"]

    class Thread:
        """A thread that calls `target`. What it raises is written to standard error."""

        __slots__ = ("_ended", "_started", "_target", "name")

        def __init__(self, *, target, name, daemon):
            assert daemon
            self.name = name
            self._target = target
            self._ended = Lock()
            self._started = False

        def start(self):
            self._ended.acquire()
            self._started = True
            try:
                start_new_thread(self._run, ())
            except BaseException:
                self._started = False
                self._ended.release()
                raise

        def _run(self):
            try:
                self._target()
            finally:
                self._target = None
                self._ended.release()

        def join(self, timeout=None):
            if self._ended.acquire(timeout=-1 if timeout is None else timeout):
                self._ended.release()

        def is_alive(self):
            return self._started and self._ended.locked()

    class Event:
        """Something that happens once, and can be waited for by one thread or several."""

        __slots__ = ("_happened", "_lock")

        def __init__(self):
            self._lock = Lock()
            self._lock.acquire()
            self._happened = False

        def is_set(self):
            return self._happened

        def set(self):
            if not self._happened:
                self._happened = True
                self._lock.release()

        def wait(self, timeout=None):
            if self._lock.acquire(timeout=-1 if timeout is None else timeout):
                self._lock.release()
            return self._happened
