# SPDX-License-Identifier: GPL-3.0-or-later
"""The serving loop: one thread, any number of sessions.

Receiving, handling and replying are three functions of a `Channel`; the loop only decides when
they run. A request is served from the moment it is read to its reply; nothing is queued between.
What other threads want done on the serving thread comes through `call`.

Most of a round trip is the time until a sleeping server runs again, so after a reply the loop
stays awake for a moment (`Spin`) before it sleeps in epoll.
"""

from __future__ import annotations

import os
import select
from collections import deque
from collections.abc import Callable
from time import monotonic_ns

from unionfs.typed import Final, Protocol

# How long to stay awake after a reply. A client that goes on at once comes back within 20-80 µs.
SPIN_NS: Final = 100_000
_CONFIDENCE: Final = 16
_LOAD_EVERY_NS: Final = 2_000_000
# Requests of one session in a row before the others are looked at.
_TURN: Final = 64
# How much longer requests are served after `stop` if they never end.
_LAST_NS: Final = 200_000_000


class Channel(Protocol):
    """One session as the loop sees it."""

    @property
    def fd(self) -> int:
        """What becomes readable when a request waits."""

    def receive(self, buffer: list[bytearray]) -> int:
        """Read one request into buffer[0]; its length, 0 if none waits, -1 when it is over."""

    def handle(self, buffer: memoryview) -> bytes | bytearray | memoryview | None:
        """Serve the request in the buffer; the reply, or None if none is due (yet)."""

    def reply(self, message: bytes | bytearray | memoryview) -> None:
        """Send a reply. May be called from any thread."""

    def ended(self) -> None:
        """The session is over; nothing more will be asked of the channel."""


class Spin:
    """Whether staying awake after a reply is worth it just now.

    Each request that came while the loop was awake, or would have if it had been, speaks for it;
    each spin in vain speaks twice against. It is never worth it where the CPUs have other work:
    the client could not run.
    """

    __slots__ = ("_busy", "_checked", "_cpus", "_load", "_score", "_slept")

    def __init__(self, load: int, cpus: int) -> None:
        self._load = load
        self._cpus = cpus
        self._score = _CONFIDENCE // 2
        self._busy = False
        self._checked = 0
        self._slept = 0

    def until(self, now: int) -> int:
        """Until when to stay awake, in monotonic ns; 0 to go to sleep at once."""
        if self._score <= 0 or self._crowded(now):
            self._slept = now
            return 0
        return now + SPIN_NS

    def _crowded(self, now: int) -> bool:
        """Whether at least as many other tasks want to run as there are CPUs."""
        if now - self._checked > _LOAD_EVERY_NS:
            self._checked = now
            # proc_loadavg(5): the fourth field is runnable tasks, this one included.
            running, _, _ = os.pread(self._load, 128, 0).split(b" ", 4)[3].partition(b"/")
            self._busy = int(running) > self._cpus
        return self._busy

    def hit(self) -> None:
        """A request came while awake."""
        if self._score < _CONFIDENCE:
            self._score += 1

    def missed(self) -> None:
        """None came."""
        if self._score > 0:
            self._score -= 2

    def woken(self, now: int) -> None:
        """A request ended a sleep. Waking takes about as long as a spin lasts."""
        if self._slept and now - self._slept < 2 * SPIN_NS:
            self.hit()
        self._slept = 0


class Loop:
    """Serves channels until the last one is over or `stop` was called.

    Used by one thread; `call` and `stop` may be used by any, `stop` also in a signal handler.
    """

    __slots__ = (
        "_buffer",
        "_calls",
        "_channels",
        "_load",
        "_poll",
        "_reader",
        "_size",
        "_stop_by",
        "_view",
        "_writer",
        "spin",
    )

    def __init__(self) -> None:
        self._channels: dict[int, Channel] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._stop_by = 0
        self._size = 0
        self._buffer: list[bytearray] = []
        self._view = memoryview(b"")
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._load = os.open("/proc/loadavg", os.O_RDONLY | os.O_CLOEXEC)
        self._poll = select.epoll()
        self._poll.register(self._reader, select.EPOLLIN)
        self.spin = Spin(self._load, len(os.sched_getaffinity(0)))

    @property
    def wakeup_fd(self) -> int:
        """A descriptor that wakes the loop when written to, as signal.set_wakeup_fd takes it."""
        return self._writer

    def add(self, channel: Channel, size: int) -> None:
        """Serve a channel whose requests are at most `size` bytes long."""
        if size > self._size:
            self._size = size
            self._buffer = [bytearray(size)]
            self._view = memoryview(self._buffer[0])
        self._channels[channel.fd] = channel
        self._poll.register(channel.fd, select.EPOLLIN)

    def call(self, function: Callable[[], None]) -> None:
        """Have the serving thread run `function` soon."""
        self._calls.append(function)
        self._wake()

    def stop(self) -> None:
        """Have `run` return soon: when no request waits, or after a moment if they never end."""
        self._stop_by = monotonic_ns() + _LAST_NS
        self._wake()

    def _wake(self) -> None:
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:
            return  # it is full of wake-ups already

    def run(self) -> None:
        """Serve until the end. The channels stay open: whoever made them closes them."""
        poll, spin, calls = self._poll.poll, self.spin, self._calls
        awake_until = 0
        while self._channels:
            if awake_until:
                ready = poll(0)
                if not ready and not calls and not self._stop_by:
                    if monotonic_ns() > awake_until:
                        spin.missed()
                        awake_until = 0
                    continue
            else:
                ready = poll(0 if calls or self._stop_by else -1)
            served = False
            for fd, _ in ready:
                if fd == self._reader:
                    os.read(fd, 4096)
                    continue
                if awake_until:
                    spin.hit()
                    awake_until = 0
                elif not served:
                    spin.woken(monotonic_ns())
                served = self._serve(fd) or served
            self._run_calls()
            if self._stop_by:
                if not (served or calls) or monotonic_ns() > self._stop_by:
                    return
            elif served and len(self._channels) > 1:
                awake_until = spin.until(monotonic_ns())

    def close(self) -> None:
        self._poll.close()
        os.close(self._load)
        os.close(self._reader)
        os.close(self._writer)

    def finish(self) -> None:
        """After `run`, and when no other thread calls any more: do what was still to be done."""
        self._run_calls()

    def _run_calls(self) -> None:
        while self._calls:
            self._calls.popleft()()

    def _serve(self, fd: int) -> bool:
        """Serve one channel while it has requests; whether there was any.

        With a single channel this is where the loop stays awake; with several it gives way to
        the others after a while.
        """
        channel = self._channels.get(fd)
        if channel is None:
            return False
        receive, handle, reply = channel.receive, channel.handle, channel.reply
        buffer, view = self._buffer, self._view
        calls, spin, now = self._calls, self.spin, monotonic_ns
        alone = len(self._channels) == 1
        served = 0
        awake_until = 0
        while True:
            size = receive(buffer)
            if size > 0:
                if awake_until:
                    spin.hit()
                    awake_until = 0
                answer = handle(view)
                if answer is not None:
                    reply(answer)
                served += 1
                if calls:
                    self._run_calls()
                if served >= _TURN:
                    if not alone or self._stop_by:
                        return True
                    served = 1
            elif size < 0:
                self._remove(fd, channel)
                return True
            elif awake_until:
                if calls or self._stop_by:
                    return True
                if now() > awake_until:
                    spin.missed()
                    return True
            else:
                if not served or calls or self._stop_by or not alone:
                    return served > 0
                awake_until = spin.until(now())
                if not awake_until:
                    return True

    def _remove(self, fd: int, channel: Channel) -> None:
        del self._channels[fd]
        self._poll.unregister(fd)
        channel.ended()
