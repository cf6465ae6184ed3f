# SPDX-License-Identifier: GPL-3.0-or-later
"""Ending a session on request: on a signal the mount is taken down while it is still served.

An unmount writes back what the kernel holds of the mount, which are requests to this very process;
so it runs in a thread of its own, and the loop ends when the session does.
"""

from __future__ import annotations

import os

from unionfs.errors import UnionError
from unionfs.fuse.loop import Loop
from unionfs.fuse.mounting import Mount
from unionfs.light import contextlib, signal, threading
from unionfs.typed import Final, Iterator

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class TakingDown:
    """Unmounting on request, in a thread, while the loop goes on serving what that asks for."""

    def __init__(self, mount: Mount, loop: Loop) -> None:
        self._mount = mount
        self._loop = loop
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; called again, stop waiting for anything."""
        if self._thread is not None:
            self._loop.stop()
            return
        self._thread = threading.Thread(target=self._run, name="unmount", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        mount = self._mount
        try:
            if not mount.unmount():
                mount.write_back()
                mount.unmount(lazy=True)
        except UnionError:
            pass  # the end of the session detaches it
        finally:
            self._loop.stop()

    def finish(self) -> None:
        """Wait for the thread; after the session's descriptor was closed, so nothing holds it."""
        if self._thread is not None:
            self._thread.join()


@contextlib.contextmanager
def on_signals(taking_down: TakingDown, loop: Loop) -> Iterator[None]:
    """Take the mount down on a signal; only the main thread can be told of signals."""
    if threading.get_native_id() != os.getpid():
        yield
        return
    loop.allow_blocking()
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    woken = signal.set_wakeup_fd(loop.wakeup_fd, warn_on_full_buffer=False)
    try:
        for number in _SIGNALS:
            if before[number] is not signal.SIG_IGN or number == signal.SIGTERM:
                signal.signal(number, lambda *_: taking_down.start())
        yield
    finally:
        signal.set_wakeup_fd(woken)
        for number, handler in before.items():
            if handler is not None:  # None: it was not set from Python, and cannot be
                signal.signal(number, handler)
