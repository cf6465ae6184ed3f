# SPDX-License-Identifier: GPL-3.0-or-later
"""A line that shows how far something long has come: on a terminal; elsewhere nothing."""

from __future__ import annotations

import os
import sys
import time

from launcher.cli.sizes import decimal_size
from launcher.errors import shown
from launcher.typed import Final

__all__ = ["Progress"]

_EVERY: Final = 0.1  # seconds
_BAR: Final = 20


class Progress:
    """Shows bytes, rate and the time that is left, on standard error. A context manager.

    Nothing is shown in the first moment, so that what is short shows nothing at all. `update` may
    be called from any one thread.
    """

    def __init__(self, what: bytes | str, *, silent: bool = False) -> None:
        self.what = shown(what)
        self.silent = silent or not sys.stderr.isatty()
        self._begun = time.monotonic()
        self._next = self._begun + 2 * _EVERY
        self._drawn = False

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def update(self, done: int, total: int) -> None:
        """`done` of `total` bytes; a total of 0 is not known."""
        if self.silent:
            return
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY
        self._drawn = True
        try:
            width = os.get_terminal_size(2).columns
        except OSError:
            width = 80
        line = self.line(done, total, now - self._begun)
        sys.stderr.write("\r" + line[: width - 1] + "\x1b[K")
        sys.stderr.flush()

    def line(self, done: int, total: int, elapsed: float) -> str:
        """What is shown after `elapsed` seconds."""
        rate = done / elapsed if elapsed > 0 else 0.0
        text = f"{self.what}  {decimal_size(done)}"
        if total > 0:
            part = min(done / total, 1.0)
            filled = int(part * _BAR)
            bar = "#" * filled + "-" * (_BAR - filled)
            text = f"{self.what}  [{bar}] {part:4.0%}  {decimal_size(done)}/{decimal_size(total)}"
        text += f"  {decimal_size(int(rate))}/s"
        if total > done and rate > 0:
            left = int((total - done) / rate) + 1
            text += f"  {left // 60}:{left % 60:02} left"
        return text
