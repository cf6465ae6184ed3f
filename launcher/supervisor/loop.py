# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor's event loop: descriptors, moments, nothing else.

Not trio, which alone costs more memory than everything else of a supervisor (docs/decisions).
"""

from __future__ import annotations

import select
from time import monotonic

from launcher.typed import Callable, Final

__all__ = ["READ", "WRITE", "Loop", "Timer"]

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT


class Timer:
    """Something to be done at a moment, unless it is cancelled before."""

    __slots__ = ("action", "when")

    def __init__(self, when: float, action: Callable[[], None]) -> None:
        self.when = when
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class Loop:
    """Calls what waits for a descriptor or a moment, one after the other, on one thread."""

    __slots__ = ("_poll", "_timers", "_watched")

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._watched: dict[int, Callable[[], None]] = {}
        self._timers: list[Timer] = []

    def watch(self, fd: int, events: int, action: Callable[[], None]) -> None:
        """Call `action` whenever `fd` is ready, or broken, until `forget`."""
        if fd in self._watched:
            self._poll.modify(fd, events)
        else:
            self._poll.register(fd, events)
        self._watched[fd] = action

    def forget(self, fd: int) -> None:
        """Watch a descriptor no more; before it is closed. Nothing if it was not watched."""
        if self._watched.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def after(self, seconds: float, action: Callable[[], None]) -> Timer:
        timer = Timer(monotonic() + seconds, action)
        self._timers.append(timer)
        return timer

    def run(self, until: Callable[[], bool]) -> None:
        """Go on until `until` holds; it is asked after each round."""
        while not until():
            for fd, _ in self._poll.poll(self._patience()):
                action = self._watched.get(fd)
                if action is not None:
                    action()
            self._run_timers()

    def _patience(self) -> float:
        self._timers = [timer for timer in self._timers if timer.action is not None]
        if not self._timers:
            return -1
        return max(min(timer.when for timer in self._timers) - monotonic(), 0)

    def _run_timers(self) -> None:
        now = monotonic()
        for timer in [each for each in self._timers if each.when <= now]:
            action, timer.action = timer.action, None
            if action is not None:
                action()
