# SPDX-License-Identifier: GPL-3.0-or-later
"""A request as handlers meet it: its unpacked header, and the buffer it lies in.

A handler takes (head, buffer) and returns the reply: a whole message, or an errno (0: success
without a payload), or None where no reply is due or a worker will send it. What it raises as
OSError becomes the errno. The buffer is only good until the handler returns.
"""

from __future__ import annotations

from unionfs.fuse import wire
from unionfs.node import Caller
from unionfs.typed import Callable, Final

Head = tuple[int, ...]
"""The fields of `wire.IN_HEADER`; read by the indices below."""

LENGTH: Final = 0
OPCODE: Final = 1
UNIQUE: Final = 2
NODE: Final = 3
UID: Final = 4
GID: Final = 5
PID: Final = 6
EXTENSIONS: Final = 7  # length of what follows the arguments, in 8 bytes

Message = bytes | bytearray | memoryview
Answer = Message | int | None
Handler = Callable[[Head, memoryview], Answer]
Table = dict[int, Handler]

BODY: Final = wire.IN_SIZE

_new_tuple: Final = tuple.__new__  # half the cost of calling the named tuple


def end_of(head: Head) -> int:
    """Where the arguments end and extensions begin."""
    return head[LENGTH] - 8 * head[EXTENSIONS]


def name_at(head: Head, buffer: memoryview, start: int) -> bytes:
    """The last argument, a name that ends with a NUL."""
    return buffer[start : end_of(head) - 1].tobytes()


def names_at(head: Head, buffer: memoryview, start: int) -> tuple[bytes, bytes]:
    """The last two arguments, names that end with a NUL each."""
    first, _, second = buffer[start : end_of(head) - 1].tobytes().partition(b"\0")
    return first, second


def caller_of(head: Head, buffer: memoryview, umask: int) -> Caller:
    """Who asks, with the supplementary groups that the kernel thought worth telling."""
    groups: tuple[int, ...] = ()
    if head[EXTENSIONS]:
        groups = _groups(buffer, end_of(head), head[LENGTH])
    return _new_tuple(Caller, (head[UID], head[GID], umask, groups, head[PID]))


def _groups(buffer: memoryview, start: int, end: int) -> tuple[int, ...]:
    """The groups among a request's extensions (fuse_supp_groups)."""
    while start + wire.EXT_HEADER.size <= end:
        size, kind = wire.EXT_HEADER.unpack_from(buffer, start)
        if kind == wire.EXT_GROUPS:
            first = start + wire.EXT_HEADER.size
            (count,) = wire.SUPP_GROUPS.unpack_from(buffer, first)
            first += wire.SUPP_GROUPS.size
            return tuple(buffer[first : first + 4 * count].cast("I"))
        if size < wire.EXT_HEADER.size:
            break
        start += size
    return ()
