# SPDX-License-Identifier: GPL-3.0-or-later
"""The error that is meant for the person who asked for a container."""

from __future__ import annotations

import os

__all__ = ["LaunchError", "SpecError", "shown"]


class LaunchError(Exception):
    """Something asked of the launcher could not be done.

    `str()` gives "cannot <what> <thing>: <reason>". `status` is the exit status that docker gives
    for it: 125 the container could not be made, 126 its command cannot be executed, 127 its
    command was not found.
    """

    def __init__(
        self, what: str, thing: bytes | str, reason: str | OSError, status: int = 125
    ) -> None:
        if isinstance(reason, OSError):
            reason = os.strerror(reason.errno) if reason.errno is not None else str(reason)
        self.what = what
        self.thing = thing
        self.reason = reason
        self.status = status
        super().__init__(what, thing, reason, status)

    def __str__(self) -> str:
        thing = shown(self.thing)
        return (
            f"cannot {self.what} {thing}: {self.reason}"
            if thing
            else (f"cannot {self.what}: {self.reason}")
        )


class SpecError(LaunchError):
    """The description of the container itself asks for what cannot be."""


def shown(thing: bytes | str) -> str:
    """`thing` as one line of printable text, whatever a hostile name holds."""
    text = os.fsdecode(thing)
    if text.isprintable():
        return text
    return ascii(text)[1:-1]
