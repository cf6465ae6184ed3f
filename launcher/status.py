# SPDX-License-Identifier: GPL-3.0-or-later
"""What a new process tells the supervisor before it becomes the container's program.

One record a message, each a single write of fewer than PIPE_BUF bytes, so that it arrives whole.
READY and then the end of the pipe mean that the program runs (or that the process was killed just
before it, which its exit status tells); an end without READY means that it never will.
"""

from __future__ import annotations

import os
import struct

from launcher.typed import Final, NamedTuple

__all__ = ["FAILED", "PID", "READY", "WARNING", "Record", "read", "write"]

# Kinds of records.
PID: Final = 1  # `number` is the pid of the clone, as the supervisor sees it
WARNING: Final = 2  # step number `step` did less than was asked
READY: Final = 3  # all walls are up, only the program is missing
FAILED: Final = (
    4  # step number `step`: errno `number` on `path`, or 0 and a text; no more will come
)

_HEAD: Final = struct.Struct("=BiiH")
_LONGEST: Final = 2048


class Record(NamedTuple):
    kind: int
    step: int = 0
    number: int = 0
    path: bytes = b""


def write(fd: int, record: Record) -> None:
    """Send one record; BrokenPipeError if the supervisor is gone."""
    path = record.path[:_LONGEST]
    os.write(fd, _HEAD.pack(record.kind, record.step, record.number, len(path)) + path)


def read(fd: int) -> Record | None:
    """Wait for one record; None at the end."""
    head = _exactly(fd, _HEAD.size)
    if head is None:
        return None
    kind, index, number, length = _HEAD.unpack(head)
    return Record(kind, index, number, _exactly(fd, length) or b"")


def _exactly(fd: int, size: int) -> bytes | None:
    content = b""
    while len(content) < size:
        part = os.read(fd, size - len(content))
        if not part:
            return None
        content += part
    return content
