# SPDX-License-Identifier: GPL-3.0-or-later
"""Waking a thread that is blocked in read(2), from signal handlers and other threads.

A thread that sleeps in epoll can be woken by a pipe, but pays for it with a second system call for
each request. One that blocks in the read itself pays nothing, and is woken by the bell: a small
thread of its own waits for the rings, makes the descriptor non-blocking and sends a signal whose
handler does nothing, so that the read ends. In this order no ring is lost: a read that had not yet
begun finds the descriptor non-blocking, one that had is interrupted.
"""

from __future__ import annotations

import os

from unionfs.light import contextlib, signal, threading
from unionfs.typed import Final

# Ignored where nobody has installed a handler (signal(7)), so a late one does no harm.
_SIGNAL: Final = signal.SIGURG
_OWN: Final = bytes([_SIGNAL])


class Bell:
    """Rings for one thread.

    writer -- rings when written to, as signal.set_wakeup_fd takes it; never blocks
    """

    def __init__(self, inner: int) -> None:
        """From the main thread. `inner` is a pipe to write to at each ring as well."""
        self._inner = inner
        self._lock = threading.Lock()
        self._reading = -1
        self._sleeper = 0
        self._silent = False
        self._before = signal.signal(_SIGNAL, lambda *_: None)
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.writer, False)
        self._thread = threading.Thread(target=self._listen, name="bell", daemon=True)
        self._thread.start()

    def watch(self, fd: int) -> None:
        """From now on the calling thread may block in reads of `fd`; -1: no more."""
        with self._lock:
            self._reading = fd
            self._sleeper = threading.get_ident()

    def ring(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is full of rings already
            os.write(self.writer, b"\0")

    def _listen(self) -> None:
        while True:
            rung = os.read(self._reader, 4096)
            if self._silent:
                return
            if not rung.strip(_OWN):
                continue  # set_wakeup_fd tells of the bell's own signal too
            with contextlib.suppress(BlockingIOError):
                os.write(self._inner, b"\0")
            with self._lock:
                if self._reading >= 0:
                    os.set_blocking(self._reading, False)
                    signal.pthread_kill(self._sleeper, _SIGNAL)

    def close(self) -> None:
        """From the main thread, when `writer` is not used any more."""
        self._silent = True
        self.ring()
        self._thread.join()
        if self._before is not None:
            signal.signal(_SIGNAL, self._before)
        os.close(self._reader)
        os.close(self.writer)
