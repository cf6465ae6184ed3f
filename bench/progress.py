# SPDX-License-Identifier: GPL-3.0-or-later
"""What a person sees while it runs: a line that changes on a terminal, one a scenario elsewhere."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TextIO


class Progress:
    """Counts sessions. The end can be foreseen once a round is done."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._start = monotonic()
        self._line = ""
        self._heading = ""

    @property
    def elapsed(self) -> float:
        return monotonic() - self._start

    def say(self, text: str) -> None:
        """A line that stays."""
        self._clear()
        print(text, file=self._stream, flush=True)

    def at(self, heading: str, detail: str, left: float | None) -> None:
        """Now at `detail` of the work `heading`; `left` seconds to go, if known."""
        rest = "" if left is None else f", about {clock(left)} left"
        if self._terminal:
            self._clear()
            self._line = f"[{clock(self.elapsed)}{rest}] {heading}: {detail}"[:118]
            print(self._line, end="", file=self._stream, flush=True)
        elif heading != self._heading:
            print(f"[{clock(self.elapsed)}{rest}] {heading}", file=self._stream, flush=True)
        self._heading = heading

    def end(self) -> None:
        self._clear()

    def _clear(self) -> None:
        if self._line:
            print("\r\x1b[K", end="", file=self._stream, flush=True)
            self._line = ""


def clock(seconds: float) -> str:
    """Minutes and seconds: 3:07."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
