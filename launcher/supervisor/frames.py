# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes over a supervisor's sockets: frames of a kind and a content, both ways.

A frame is one byte that says its kind, four that say how long it is, and its content. Requests and
replies are JSON objects; the container's input and output are bytes as they are. Descriptors come
along with the first byte of a request (unix(7), SCM_RIGHTS).
"""

from __future__ import annotations

import _socket
import struct

from launcher.typed import Any, Final, Mapping
from unionfs.light import json

__all__ = [
    "EXIT",
    "REPLY",
    "REQUEST",
    "RESIZE",
    "SIGNAL",
    "STDERR",
    "STDIN",
    "STDIN_END",
    "STDOUT",
    "TAKEN",
    "WINDOW",
    "Reader",
    "message",
    "pack",
    "pack_rights",
]

# From a client.
STDIN: Final = 1  # bytes for the container's standard input; at most WINDOW of them not yet TAKEN
STDIN_END: Final = 2  # there will be no more
SIGNAL: Final = 3  # !B: send a signal to the container's first process
RESIZE: Final = 4  # !HH: the client's terminal has so many rows and columns
REQUEST: Final = 5  # {"verb": …}
# From the supervisor.
STDOUT: Final = 16
STDERR: Final = 17
TAKEN: Final = 18  # !I: so many bytes of standard input have reached the container
REPLY: Final = 19  # what a request led to; {"error": [what, thing, reason, status]} if it failed
EXIT: Final = 20  # the container ended; all its output has been sent before

WINDOW: Final = 1 << 16

_HEAD: Final = struct.Struct("!BI")


def pack(kind: int, content: bytes = b"") -> bytes:
    """One frame."""
    return _HEAD.pack(kind, len(content)) + content


def message(kind: int, fields: Mapping[str, Any]) -> bytes:
    """One frame of JSON."""
    return pack(kind, json.dumps(fields, separators=(",", ":")).encode("ascii"))


def pack_rights(fds: tuple[int, ...]) -> list[tuple[int, int, bytes]]:
    """Descriptors as sendmsg takes them."""
    if not fds:
        return []
    content = struct.pack(f"={len(fds)}i", *fds)
    return [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, content)]


class Reader:
    """Puts frames together from what arrives."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, content: bytes) -> list[tuple[int, bytes]]:
        """The frames that are whole now."""
        buffer = self._buffer
        buffer += content
        found = []
        start = 0
        while len(buffer) - start >= _HEAD.size:
            kind, length = _HEAD.unpack_from(buffer, start)
            end = start + _HEAD.size + length
            if len(buffer) < end:
                break
            found.append((kind, bytes(buffer[start + _HEAD.size : end])))
            start = end
        del buffer[:start]
        return found
