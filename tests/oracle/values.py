# SPDX-License-Identifier: GPL-3.0-or-later
"""Values that operations and layers are made of, printed as the Python that makes them."""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass
from functools import lru_cache

UMASK = 0o022
"""Of whoever performs the operations."""

NOW = "now"
OMIT = "omit"
Time = int | str
"""Nanoseconds since the epoch, NOW or OMIT (utimensat(2))."""


class Octal(int):
    """A mode, printed in octal."""

    def __repr__(self) -> str:
        return oct(self)


_OPEN_FLAGS = [
    "O_WRONLY",
    "O_RDWR",
    "O_CREAT",
    "O_EXCL",
    "O_TRUNC",
    "O_APPEND",
    "O_NOFOLLOW",
    "O_TMPFILE",
    "O_DIRECTORY",
    "O_PATH",
]


class OpenFlags(int):
    """Flags of open(2), printed by name."""

    def __repr__(self) -> str:
        rest = int(self)
        words = []
        for word in _OPEN_FLAGS:
            bit = getattr(os, word)
            if rest & bit == bit:
                words.append(f"os.{word}")
                rest &= ~bit
        if rest or not words:
            words.append("os.O_RDONLY" if not rest else hex(rest))
        return " | ".join(words)


@dataclass(frozen=True)
class Fill:
    """`length` bytes that differ by `seed` and from place to place."""

    length: int
    seed: int = 0

    def __bytes__(self) -> bytes:
        return _fill(self.length, self.seed)


@lru_cache(maxsize=64)
def _fill(length: int, seed: int) -> bytes:
    return b"".join(b"%03d@%07d " % (seed, at) for at in range(0, length + 12, 12))[:length]


Bytes = bytes | Fill


def acl(*entries: tuple[int, int, int]) -> bytes:
    """A POSIX ACL as its xattr holds it (acl(5)): (tag, permissions, id) after a version of 2."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


_NOBODY = 0xFFFFFFFF
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32

ACL_MINIMAL = acl((USER_OBJ, 6, _NOBODY), (GROUP_OBJ, 4, _NOBODY), (OTHER, 0, _NOBODY))
ACL_NAMED = acl(
    (USER_OBJ, 7, _NOBODY),
    (USER, 6, 1000),
    (GROUP_OBJ, 5, _NOBODY),
    (GROUP, 4, 12345),
    (MASK, 6, _NOBODY),
    (OTHER, 1, _NOBODY),
)
# Grants what the umask would take away, so that it shows whether the umask was applied.
ACL_DEFAULT = acl(
    (USER_OBJ, 7, _NOBODY),
    (USER, 5, 1000),
    (GROUP_OBJ, 7, _NOBODY),
    (MASK, 7, _NOBODY),
    (OTHER, 6, _NOBODY),
)
ACL_BROKEN = acl((USER_OBJ, 7, _NOBODY))

CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
"""security.capability: cap_net_bind_service, permitted and effective (capabilities(7))."""


def errno_name(number: int | None) -> str:
    """ENOENT for 2, and so on; "ok" for None."""
    if number is None:
        return "ok"
    return errno.errorcode.get(number, f"errno {number}")
