# SPDX-License-Identifier: GPL-3.0-or-later
"""The serving loop: one thread, any number of sessions.

Receiving, handling and replying are three functions of a `Channel`; the loop only decides when
they run. A request is served from the moment it is read to its reply; nothing is queued between.
What other threads want done on the serving thread comes through `call`.

Between requests the loop sleeps in epoll, or stays awake for a moment; see `attention`.
"""

from __future__ import annotations

import os
import select
from time import monotonic_ns

from unionfs.fuse.attention import LONGEST_NS, PAUSE_NS, SPIN, Attention, Spin
from unionfs.fuse.bell import Bell
from unionfs.light import deque
from unionfs.typed import Callable, Final, Protocol

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

    def caller(self, buffer: memoryview) -> int:
        """The task (as of gettid(2)) that sent the request in the buffer, 0 if not known."""

    def ended(self) -> None:
        """The session is over; nothing more will be asked of the channel."""


class Loop:
    """Serves channels until the last one is over or `stop` was called.

    Used by one thread; `call` and `stop` may be used by any, `stop` also in a signal handler.
    """

    __slots__ = (
        "_attention",
        "_bell",
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
        self._attention: Attention | None = None
        self._bell: Bell | None = None

    @property
    def wakeup_fd(self) -> int:
        """A descriptor that wakes the loop when written to, as signal.set_wakeup_fd takes it."""
        return self._writer if self._bell is None else self._bell.writer

    def allow_blocking(self) -> None:
        """Let a single session be read by blocking reads, which saves a system call a request.

        To be called from the main thread, before `wakeup_fd` is used.
        """
        self._bell = Bell(self._writer)

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
            os.write(self.wakeup_fd, b"\0")
        except BlockingIOError:
            return  # it is full of wake-ups already

    def run(self) -> None:
        """Serve until the end. The channels stay open: whoever made them closes them."""
        poll, spin, calls = self._poll.poll, self.spin, self._calls
        awake_until = 0
        while self._channels:
            if len(self._channels) == 1 and not self._stop_by:
                self._serve_only(*self._channels.items())
                continue
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
            elif served:
                awake_until = spin.until(monotonic_ns())

    def _serve_only(self, only: tuple[int, Channel]) -> None:
        """Serve the only channel until it is over, another is added, or `stop` was called."""
        fd, channel = only
        receive, handle, reply = channel.receive, channel.handle, channel.reply
        buffer, view = self._buffer, self._view
        poll, calls, spin, now = self._poll.poll, self._calls, self.spin, monotonic_ns
        # Its thread is the one that serves.
        attention = self._attention = self._attention or Attention(spin)
        manner, left = attention.manner, attention.window
        spent = awake_until = 0
        napping = False
        before = now()
        bell = self._bell
        if bell is not None:
            bell.watch(fd)
            os.set_blocking(fd, manner != SPIN)
        try:
            while True:
                size = receive(buffer)
                if size > 0:
                    if awake_until:
                        spin.hit()
                        awake_until = 0
                    came = now()
                    if napping:
                        napping = False
                        os.set_blocking(fd, False)
                        spin.woken(came)
                    gap = came - before
                    before = came
                    if gap < LONGEST_NS:
                        spent += gap
                    elif gap < PAUSE_NS:
                        spent += LONGEST_NS
                    else:
                        attention.resume(channel.caller(view))
                        left, spent = attention.window, 0
                    answer = handle(view)
                    if answer is not None:
                        reply(answer)
                    left -= 1
                    if not left:
                        attention.judge(spent, channel.caller(view))
                        left, spent = attention.window, 0
                        if manner != attention.manner:
                            manner = attention.manner
                            if bell is not None:
                                os.set_blocking(fd, manner != SPIN)
                elif size < 0:
                    self._remove(fd, channel)
                    return
                if calls:
                    self._run_calls()
                if self._stop_by or len(self._channels) != 1:
                    return
                if manner == SPIN:
                    if size:
                        continue
                    if not awake_until:
                        awake_until = spin.until(now())
                        if awake_until:
                            continue
                    elif now() < awake_until:
                        continue
                    else:
                        spin.missed()
                        awake_until = 0
                if bell is None:
                    for ready, _ in poll(-1, 2):
                        if ready == self._reader:
                            os.read(ready, 4096)
                        elif manner == SPIN:
                            spin.woken(now())
                elif not size:  # the bell was rung, or nobody came while awake
                    napping = manner == SPIN
                    os.set_blocking(fd, True)
                    # What comes from here on rings after this line, so the read will end.
                    self._run_calls()
                    if not self._goes_on():
                        return
        finally:
            attention.rest()
            if bell is not None:
                bell.watch(-1)
                os.set_blocking(fd, False)

    def _goes_on(self) -> bool:
        return not self._stop_by and len(self._channels) == 1

    def close(self) -> None:
        if self._bell is not None:
            self._bell.close()
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
        """Serve one of several channels while it has requests; whether there was any.

        After a while it gives way to the others.
        """
        channel = self._channels.get(fd)
        if channel is None:
            return False
        for served in range(_TURN):
            size = channel.receive(self._buffer)
            if size < 0:
                self._remove(fd, channel)
                return True
            if not size:
                return served > 0
            answer = channel.handle(self._view)
            if answer is not None:
                channel.reply(answer)
            if self._calls:
                self._run_calls()
        return True

    def _remove(self, fd: int, channel: Channel) -> None:
        del self._channels[fd]
        self._poll.unregister(fd)
        channel.ended()
