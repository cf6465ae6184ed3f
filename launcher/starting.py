# SPDX-License-Identifier: GPL-3.0-or-later
"""Forking a supervisor, and giving it its container: the command's half of a start.

It is forked as the command's first act (`begin`), so that it loads what it needs on another
processor while the command reads its words and makes the container. The supervisor's own half is
`launcher.supervisor`.
"""

from __future__ import annotations

import _socket
import os

# What both halves need is loaded once, before the fork; from there on two processors go on.
from launcher import events, record, runtime  # noqa: F401
from launcher.control import Connection
from launcher.typed import Any, NoReturn
from unionfs.light import contextlib

__all__ = ["Starting", "begin"]


class Starting:
    """A supervisor that has not got its container yet. Closing the connection ends it.

    connection -- to it; after `go` this is a client like all others
    """

    __slots__ = ("_mapped", "connection", "pid")

    def __init__(self, connection: Connection, pid: int, *, rootless: bool) -> None:
        self.connection = connection
        self.pid = pid
        self._mapped = not rootless

    def prepare(self, fields: dict[str, Any]) -> None:
        """Give it its container (see `life.Life`); returns at once. Raises LaunchError."""
        if not self._mapped:
            self._map()
        self.connection.ask("prepare", **fields)

    def _map(self) -> None:
        from launcher import idmap

        self.connection.answer()  # it is in its user namespace
        idmap.write(self.pid, idmap.of_caller())
        with contextlib.suppress(BrokenPipeError):  # `ready` tells
            self.connection.send(b"m")
        self._mapped = True

    def ready(self) -> None:
        """Return when all is prepared. Raises LaunchError where it cannot be."""
        self.connection.answer()

    def go(self, when: int) -> tuple[int, list[str]]:
        """Let the container's program run from the time `when` (ns): its pid and warnings."""
        started = self.connection.request("go", when=when)
        return started["started"], started["warnings"]

    def abandon(self) -> None:
        """Give it up, and return when it has taken everything back."""
        self.connection.finish()


def begin() -> Starting:
    """Fork a supervisor. To be called before anything else is done: it forks."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    rootless = os.geteuid() != 0
    pid = os.fork()
    if pid == 0:
        ours.close()
        _live(theirs, rootless)
    theirs.close()
    return Starting(Connection(ours), pid, rootless=rootless)


def _live(owner: _socket.socket, rootless: bool) -> NoReturn:
    """The supervisor's whole life."""
    status = 1
    try:
        os.setsid()
        os.chdir("/")
        # Nothing of the caller's is kept open: not its pipes, whose readers wait for their end.
        null = os.open("/dev/null", os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        fd = owner.fileno()
        os.closerange(3, fd)
        os.closerange(fd + 1, 0x7FFFFFFF)
        from launcher.supervisor.beginning import live

        live(owner, users=rootless)
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)
