# SPDX-License-Identifier: GPL-3.0-or-later
"""Text for a terminal: through the reader's pager if it does not fit on the screen."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Iterable

from launcher.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["page", "wants_colour"]


def wants_colour(stream: TextIO) -> bool:
    """Whether a stream is a terminal that shows colours (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def page(lines: Iterable[str], stream: TextIO) -> None:
    """Print lines to a stream; where that is a terminal too small for them, let PAGER do it."""
    text = list(lines)
    size = shutil.get_terminal_size()
    program = _pager()
    if not (stream.isatty() and sys.stdout.isatty() and sys.stdin.isatty()) or program is None:
        _print(text, stream)
        return
    if len(text) < size.lines - 2:
        _print(text, stream)
        return
    import subprocess

    # As git does: colours pass, and less ends at once if it all fits.
    environment = {"LESS": "FRX", **os.environ}
    with subprocess.Popen(program, shell=True, stdin=subprocess.PIPE, env=environment) as pager:
        assert pager.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            pager.stdin.write(("\n".join(text) + "\n").encode(errors="surrogateescape"))
            pager.stdin.close()
        while True:
            # Ctrl-C is the pager's.
            with contextlib.suppress(KeyboardInterrupt):
                pager.wait()
                return


def _print(lines: list[str], stream: TextIO) -> None:
    for line in lines:
        stream.write(line + "\n")
    stream.flush()


def _pager() -> str | None:
    chosen = os.environ.get("PAGER")
    if chosen is not None:
        return chosen or None
    return next((each for each in ("less", "more") if shutil.which(each)), None)
