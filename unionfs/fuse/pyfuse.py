# SPDX-License-Identifier: GPL-3.0-or-later
"""The transport on pyfuse3 (libfuse 3 and trio): serve until unmounted, and leave nothing behind.

It asks for nothing but libfuse and, for ordinary users, fusermount3. What a request does is in
`pyfuse_handlers`, how the mount is made and taken down in `mounting`. pyfuse3 keeps its session in
module variables, so a process serves one union this way.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress

import pyfuse3
import trio

from unionfs.config import SessionConfig
from unionfs.errors import UnionError
from unionfs.fuse import mounting
from unionfs.fuse.pyfuse_handlers import Handlers
from unionfs.fuse.pyfuse_introduction import Introduction
from unionfs.typed import Final
from unionfs.union import Union

__all__ = ["serve"]

MAX_TASKS: Final = 64
"""Requests under way at once: only those that wait for another thread last, at 1 MiB each."""


def serve(union: Union, session: SessionConfig, ready: Callable[[], None]) -> None:
    """Mount ``union`` and serve it until it is unmounted or SIGTERM, SIGINT or SIGHUP arrives.

    ``ready`` is called once the mount answers. On return nothing is mounted any more and the
    union's nodes and files are given up; closing the union itself is the caller's. Raises
    `UnionError` where mounting fails. Signals are heard where it is called from the main thread.
    """
    config = union.config
    if config.upper is None or config.read_only:
        session = session._replace(read_only=True)
    handlers = Handlers(union)
    start = _Start(ready)
    mount = mounting.mount(session)
    introduction = Introduction(mount.fd)
    try:
        _attach(handlers, introduction, debug=session.debug)
        try:
            trio.run(_serve, introduction, mount, start)
        finally:
            pyfuse3.close(unmount=False)
    finally:
        introduction.close()
        handlers.close()
        # The session's descriptor is closed by now: nobody waits for an answer any more, and
        # detaching cannot come to wait for this thread.
        mount.unmount(lazy=True)
    if start.failure is not None:
        raise UnionError("mount", session.mountpoint, start.failure)


class _Start:
    """How the session begins.

    ready   -- to be called when the mount answers
    failure -- why that has not come about; None once it has
    """

    __slots__ = ("failure", "ready")

    def __init__(self, ready: Callable[[], None]) -> None:
        self.ready = ready
        self.failure: OSError | str | None = "the session ended before it was ready"


def _attach(handlers: Handlers, introduction: Introduction, *, debug: bool) -> None:
    """Let libfuse take /dev/fd/N for a mount already made; `pyfuse3.close` will close it."""
    try:
        pyfuse3.init(handlers, f"/dev/fd/{introduction.number}", {"debug"} if debug else set())
    except RuntimeError as error:
        os.close(introduction.number)
        raise UnionError("start", "libfuse", str(error)) from error


async def _serve(introduction: Introduction, mount: mounting.Mount, start: _Start) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(_end_on_signal, mount, nursery.cancel_scope)
        try:
            await introduction.make()
        except OSError as error:
            start.failure = error
        else:
            nursery.start_soon(_announce, mount, start)
            await pyfuse3.main(min_tasks=1, max_tasks=MAX_TASKS)
        nursery.cancel_scope.cancel()


async def _announce(mount: mounting.Mount, start: _Start) -> None:
    """Say that the mount is ready when a first request has been answered."""
    try:
        await trio.to_thread.run_sync(os.stat, mount.mountpoint, abandon_on_cancel=True)
    except OSError as error:
        start.failure = error
        pyfuse3.terminate()
        return
    start.failure = None
    start.ready()


async def _end_on_signal(
    mount: mounting.Mount,
    serving: trio.CancelScope,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """At the first signal end in good order, while the loop serves; at the second end at once."""
    if threading.current_thread() is not threading.main_thread():
        task_status.started()  # no other thread is told of signals
        return
    wanted = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup(1) leaves it
        wanted.append(signal.SIGHUP)
    with trio.open_signal_receiver(*wanted) as signals:
        async with trio.open_nursery() as nursery:
            task_status.started()
            await anext(signals)
            nursery.start_soon(_take_down, mount)
            await anext(signals)
            serving.cancel()


async def _take_down(mount: mounting.Mount) -> None:
    await trio.to_thread.run_sync(_unmount, mount, abandon_on_cancel=True)
    # Detached with somebody inside, or alive in another mount namespace: it ends all the same,
    # when the requests under way have been answered.
    pyfuse3.terminate()


def _unmount(mount: mounting.Mount) -> None:
    """Unmount while the session is served; detach if somebody is inside.

    What files mapped through the mount hold dirty is written first: it is lost with the session.
    """
    with suppress(UnionError):  # then it is detached when the session has ended
        mount.write_back()
        if not mount.unmount():
            mount.unmount(lazy=True)
