# SPDX-License-Identifier: GPL-3.0-or-later
"""inotify(7): being woken up when a file grows or a directory changes."""

from __future__ import annotations

import ctypes
import os
import struct
from select import POLLIN, poll

from launcher.sys.libc import C, failure
from launcher.typed import Final

__all__ = ["CREATE", "DELETE", "MODIFY", "MOVED_FROM", "MOVED_TO", "Inotify"]

MODIFY: Final = 0x00000002
MOVED_FROM: Final = 0x00000040
MOVED_TO: Final = 0x00000080
CREATE: Final = 0x00000100
DELETE: Final = 0x00000200

_HEAD: Final = struct.Struct("=iIII")
_ROOM: Final = 1 << 16

_init: Final = C.inotify_init1
_init.argtypes = (ctypes.c_int,)
_add: Final = C.inotify_add_watch
_add.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)


class Inotify:
    """An instance with its watches. A context manager; `fd` is its own and becomes readable."""

    __slots__ = ("fd",)

    def __init__(self) -> None:
        """Raises OSError."""
        self.fd: int = _init(os.O_CLOEXEC | os.O_NONBLOCK)
        if self.fd < 0:
            raise failure()

    def __enter__(self) -> Inotify:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def add(self, path: bytes, mask: int) -> int:
        """Watch a path for the events in `mask`; returns the watch's number. Raises OSError."""
        watch: int = _add(self.fd, path, mask)
        if watch < 0:
            raise failure(path)
        return watch

    def wait(self, seconds: float | None = None, *others: int) -> list[tuple[int, int, bytes]]:
        """Wait until something happens, `seconds` at most: (watch, event, name in a directory).

        Returns also when one of the descriptors `others` becomes readable or is hung up.
        """
        waiting = poll()
        for fd in (self.fd, *others):
            waiting.register(fd, POLLIN)
        waiting.poll(None if seconds is None else max(0, -int(-seconds * 1000 // 1)))
        try:
            content = os.read(self.fd, _ROOM)
        except BlockingIOError:
            return []
        found = []
        at = 0
        while at < len(content):
            watch, mask, _, length = _HEAD.unpack_from(content, at)
            at += _HEAD.size
            found.append((watch, mask, content[at : at + length].rstrip(b"\0")))
            at += length
        return found
