# SPDX-License-Identifier: GPL-3.0-or-later
"""One client of a supervisor: what it has sent, and what waits to be sent to it.

What its frames mean is decided by who made it (`life`, `requests`).
"""

from __future__ import annotations

import _socket
import os
import struct

from launcher.supervisor import frames
from launcher.supervisor.loop import READ, WRITE, Loop
from launcher.typed import Callable, Final

__all__ = ["Peer"]

# How much may wait for a slow client before the container is kept waiting too.
_BACKLOG: Final = 1 << 18
_PORTION: Final = 1 << 16
_MOST_RIGHTS: Final = 8


class Peer:
    """A connected client.

    streams -- the kinds of output it is sent (frames.STDOUT, frames.STDERR)
    feeds   -- what it sends goes to the container's standard input
    rights  -- descriptors that came with its last request; whoever uses them takes them out
    full    -- so much waits for it that nothing more should be added
    """

    __slots__ = (
        "_closing",
        "_loop",
        "_on_drained",
        "_on_frame",
        "_on_gone",
        "_out",
        "_reader",
        "_socket",
        "feeds",
        "gone",
        "rights",
        "streams",
    )

    def __init__(
        self,
        socket: _socket.socket,
        loop: Loop,
        on_frame: Callable[[Peer, int, bytes], None],
        on_gone: Callable[[Peer], None],
        on_drained: Callable[[Peer], None],
    ) -> None:
        """`socket` becomes the peer's; it is watched from now on."""
        socket.setblocking(False)
        self._socket = socket
        self._loop = loop
        self._on_frame = on_frame
        self._on_gone = on_gone
        self._on_drained = on_drained
        self._reader = frames.Reader()
        self._out = bytearray()
        self._closing = False
        self.streams: frozenset[int] = frozenset()
        self.feeds = False
        self.gone = False
        self.rights: list[int] = []
        loop.watch(socket.fileno(), READ, self._ready)

    @property
    def full(self) -> bool:
        return len(self._out) > _BACKLOG

    @property
    def idle(self) -> bool:
        """Whether all that was sent has left."""
        return not self._out

    def send(self, frame: bytes) -> None:
        """Send a frame, now or as soon as the client takes it."""
        if self.gone:
            return
        self._out += frame
        self._push()

    def finish(self) -> None:
        """Close the connection once all has been sent."""
        self._closing = True
        if not self._out:
            self.close()

    def close(self) -> None:
        """Close the connection now."""
        if self.gone:
            return
        self.gone = True
        self._loop.forget(self._socket.fileno())
        self._socket.close()
        self._drop_rights()
        self._out.clear()
        self._on_gone(self)

    def take_rights(self) -> list[int]:
        """The descriptors that came along; they are the caller's from now on."""
        taken, self.rights = self.rights, []
        return taken

    def _drop_rights(self) -> None:
        for fd in self.take_rights():
            os.close(fd)

    def _push(self) -> None:
        was_full = self.full
        try:
            while self._out:
                del self._out[: self._socket.send(self._out[:_PORTION])]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        if not self._out and self._closing:
            self.close()
            return
        self._loop.watch(self._socket.fileno(), READ | WRITE if self._out else READ, self._ready)
        if was_full and not self.full:
            self._on_drained(self)

    def _ready(self) -> None:
        if self._out:
            self._push()
            if self.gone:
                return
        try:
            content, rights, _, _ = self._socket.recvmsg(
                _PORTION, _socket.CMSG_SPACE(_MOST_RIGHTS * 4), _socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return
        except OSError:
            self.close()
            return
        for level, kind, packed in rights:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                count = len(packed) // 4
                self.rights += struct.unpack(f"={count}i", packed[: 4 * count])
        if not content:
            self.close()
            return
        for frame_kind, frame in self._reader.feed(content):
            if self.gone:
                return
            self._on_frame(self, frame_kind, frame)
