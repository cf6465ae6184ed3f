# SPDX-License-Identifier: GPL-3.0-or-later
"""The error that is meant for a person.

Errors for the kernel are plain `OSError`s with an errno; they never pass through here. `UnionError`
is raised where a person asked for something (mount, umount, diff …) and must be told, in one line,
what could not be done, to what, and why.
"""

from __future__ import annotations

import os

__all__ = ["UnionError", "UsageError", "reason_of", "shown"]


class UnionError(Exception):
    """Something a person asked for could not be done.

    `str()` gives "cannot <what> <thing>: <reason>". `thing` may be a path in bytes, which need not
    be UTF-8; it is made printable by `shown`. An empty `thing` is left out of the sentence.
    """

    def __init__(self, what: str, thing: bytes | str, reason: str | OSError) -> None:
        self.what = what
        self.thing = thing
        self.reason = reason_of(reason) if isinstance(reason, OSError) else reason
        super().__init__(what, thing, self.reason)

    def __str__(self) -> str:
        thing = shown(self.thing)
        head = f"cannot {self.what} {thing}" if thing else f"cannot {self.what}"
        return f"{head}: {self.reason}"


class UsageError(UnionError):
    """The request itself is malformed; the command ends with status 2 instead of 1."""


def shown(thing: bytes | str) -> str:
    """`thing` as one line of printable text.

    UTF-8 stays as it is; bytes that are not UTF-8, control characters and line breaks become
    backslash escapes, so that a hostile name can neither break the line nor drive a terminal.
    """
    text = thing.decode("utf-8", "surrogateescape") if isinstance(thing, bytes) else thing
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(char: str) -> str:
    if char.isprintable():
        return char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that surrogateescape smuggled through
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def reason_of(error: OSError) -> str:
    """The bare reason of an `OSError`, without its number and path."""
    if error.errno is not None:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__
