# SPDX-License-Identifier: GPL-3.0-or-later
"""Speaking to a container's supervisor: connecting, asking, hearing.

    with control.connect(paths, id) as connection:
        connection.request("pause")

What a request takes and leads to is said in `launcher.supervisor.requests`.
"""

from __future__ import annotations

import _socket
import os

from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.supervisor import frames
from launcher.typed import Any, Final
from unionfs.light import contextlib, json

__all__ = ["Connection", "connect"]

_PORTION: Final = 1 << 16


class Connection:
    """A connection to a supervisor; a context manager that closes it. One thread's."""

    __slots__ = ("_arrived", "_reader", "_socket")

    def __init__(self, socket: _socket.socket) -> None:
        """`socket`, which is blocking, becomes the connection's."""
        self._socket = socket
        self._reader = frames.Reader()
        self._arrived: list[tuple[int, bytes]] = []

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def finish(self) -> None:
        """Say that no more will be asked, and return when the supervisor has closed its end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(_socket.SHUT_WR)
        while self.receive() is not None:
            pass
        self.close()

    def send(self, content: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send whole frames. BrokenPipeError if the supervisor has gone."""
        if fds:
            sent = self._socket.sendmsg([content], frames.pack_rights(fds))
            content = content[sent:]
        self._socket.sendall(content)

    def receive(self) -> tuple[int, bytes] | None:
        """Wait for one frame; None once the supervisor has closed the connection."""
        while not self._arrived:
            try:
                content = self._socket.recv(_PORTION)
            except ConnectionError:
                content = b""
            if not content:
                return None
            self._arrived += self._reader.feed(content)
        return self._arrived.pop(0)

    @property
    def has_more(self) -> bool:
        """Whether `receive` has a frame without waiting for the socket."""
        return bool(self._arrived)

    def ask(self, verb: str, fds: tuple[int, ...] = (), **fields: Any) -> None:
        """Send a request, and descriptors with it, which stay the caller's.

        Where the supervisor has gone, `answer` tells what it said before, or that it has gone.
        """
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send(frames.message(frames.REQUEST, {"verb": verb, **fields}), fds)

    def answer(self) -> dict[str, Any]:
        """Wait for the next reply. Raises LaunchError with what the supervisor says."""
        while True:
            frame = self.receive()
            if frame is None:
                raise LaunchError("reach the supervisor", b"", "it was killed")
            kind, content = frame
            if kind == frames.REPLY:
                fields: dict[str, Any] = json.loads(content)
                if fields.get("error"):
                    raise failure(fields["error"])
                return fields

    def request(self, verb: str, fds: tuple[int, ...] = (), **fields: Any) -> dict[str, Any]:
        """`ask`, and then `answer`."""
        self.ask(verb, fds, **fields)
        return self.answer()


def failure(said: object) -> LaunchError:
    """The error that a supervisor told of."""
    if isinstance(said, str):
        return LaunchError("start container", b"", said)
    assert isinstance(said, list)
    what, thing, reason, status = said
    return LaunchError(what, os.fsencode(thing), reason, status)


def connect(paths: Paths, id: str) -> Connection:
    """Connect to the supervisor of a container. Raises LaunchError if it is not started."""
    try:
        directory = os.open(paths.runtime(id), os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        raise _not_running(id) from None
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        # A socket's own path may be 107 bytes long (unix(7)).
        socket.connect(b"/proc/self/fd/%d/control" % directory)
    except (FileNotFoundError, ConnectionError):
        socket.close()
        raise _not_running(id) from None
    finally:
        os.close(directory)
    return Connection(socket)


def _not_running(id: str) -> LaunchError:
    return LaunchError("reach container", id[:12], "it is not running")
