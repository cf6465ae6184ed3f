# SPDX-License-Identifier: GPL-3.0-or-later
"""The transport on pyfuse3 (libfuse 3 and trio): serve until unmounted, and leave nothing behind.

It asks for nothing but libfuse and, for ordinary users, fusermount3. What a request does is in
`pyfuse_handlers`, how the mount is made and taken down in `mounting`. pyfuse3 keeps its session in
module variables, so a process serves one union this way.
"""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable
from typing import Final

import pyfuse3
import trio

from unionfs.config import SessionConfig
from unionfs.errors import UnionError
from unionfs.fuse import mounting
from unionfs.fuse.pyfuse_handlers import Handlers
from unionfs.union import Union

__all__ = ["serve"]

MAX_TASKS: Final = 64
"""Requests under way at once: only those that wait for another thread last, at 1 MiB each."""


def serve(union: Union, session: SessionConfig, ready: Callable[[], None]) -> None:
    """Mount ``union`` and serve it until it is unmounted or SIGTERM, SIGINT or SIGHUP arrives.

    ``ready`` is called once the mount answers. On return nothing is mounted any more and the
    union's nodes and files are given up; closing the union itself is the caller's. Raises
    `UnionError` where mounting fails. Call it from the main thread, which alone hears signals.
    """
    config = union.config
    if config.upper is None or config.read_only:
        session = dataclasses.replace(session, read_only=True)
    handlers = Handlers(union)
    mount = mounting.mount(session)
    try:
        _attach(handlers, mount, debug=session.debug)
        try:
            trio.run(_serve, handlers, mount, ready)
        finally:
            pyfuse3.close(unmount=False)
    finally:
        # The session's descriptor has gone first: nobody waits for an answer any more, and
        # detaching cannot come to wait for this thread.
        mount.close()
        mount.unmount(lazy=True)
        handlers.close()
    if not handlers.started.is_set():
        raise UnionError("mount", session.mountpoint, "the session ended before it was ready")


def _attach(handlers: Handlers, mount: mounting.Mount, *, debug: bool) -> None:
    """Give the session's descriptor to libfuse, which takes /dev/fd/N for a mount already made."""
    # pyfuse3 reads after it has waited, and takes "nothing there" (EAGAIN) for the session's end.
    os.set_blocking(mount.fd, True)
    try:
        pyfuse3.init(handlers, f"/dev/fd/{mount.fd}", {"debug"} if debug else set())
    except RuntimeError as error:
        raise UnionError("mount", mount.mountpoint, f"libfuse: {error}") from error
    mount.fd = -1  # closed by pyfuse3.close


async def _serve(handlers: Handlers, mount: mounting.Mount, ready: Callable[[], None]) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(_end_on_signal, mount)
        nursery.start_soon(_announce, handlers, mount, ready)
        await pyfuse3.main(min_tasks=1, max_tasks=MAX_TASKS)
        nursery.cancel_scope.cancel()


async def _announce(handlers: Handlers, mount: mounting.Mount, ready: Callable[[], None]) -> None:
    """Call ``ready`` when a first request has been answered."""
    await handlers.started.wait()
    try:
        await trio.to_thread.run_sync(os.stat, mount.mountpoint)
    except OSError:  # unmounted meanwhile: the loop ends
        return
    ready()


async def _end_on_signal(
    mount: mounting.Mount, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Take the mount down at the first signal, while the loop serves; end at once at the second."""
    wanted = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup(1) leaves it
        wanted.append(signal.SIGHUP)
    with trio.open_signal_receiver(*wanted) as signals:
        async with trio.open_nursery() as nursery:
            task_status.started()
            first = True
            async for _ in signals:
                if first:
                    nursery.start_soon(_take_down, mount)
                    first = False
                else:
                    pyfuse3.terminate()


async def _take_down(mount: mounting.Mount) -> None:
    await trio.to_thread.run_sync(_unmount, mount)
    # Detached with somebody inside, or alive in another mount namespace: it ends all the same.
    pyfuse3.terminate()


def _unmount(mount: mounting.Mount) -> None:
    """Unmount while the session is served; detach if somebody is inside.

    What files mapped through the mount hold dirty is written first: it is lost with the session.
    """
    mount.write_back()
    if not mount.unmount():
        mount.unmount(lazy=True)
