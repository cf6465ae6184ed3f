# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina logs`: what a container has written to its standard output and error."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable

from launcher import logs
from launcher.cli.context import Context
from launcher.errors import LaunchError, shown
from launcher.logs import Piece
from launcher.record import glance
from launcher.rfc3339 import rfc3339_fixed
from launcher.state import State
from launcher.typed import TYPE_CHECKING
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

if TYPE_CHECKING:
    from typing import BinaryIO

COMMAND = Command(
    "lamina logs",
    "[-f] [-n LINES] [--since TIME] [--until TIME] [-t] CONTAINER",
    "show what a container has put out",
    (
        Flag(("--details",), None, "with what --log-opt labels and env added"),
        Flag(("-f", "--follow"), None, "go on until the container ends"),
        Flag(("--since",), "TIME", "only from then on (a date, or 10m)"),
        Flag(("--until",), "TIME", "only before then"),
        Flag(("-n", "--tail"), "LINES", "only so many at the end"),
        Flag(("-t", "--timestamps"), None, "with the time of each line"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)


def run(arguments: Arguments, context: Context) -> int:
    """Print the log, each stream to its own; returns the exit status."""
    if len(arguments.operands) != 1:
        raise UsageError("show logs", "", "it takes one container (see lamina logs --help)")
    name = os.fsdecode(arguments.operands[0])
    with State(context.paths) as state:
        id = state.find(name).row.id
    if glance(context.paths, id).get("log", {}).get("driver") == "none":
        raise LaunchError("show logs of", name, "it keeps none (--log-driver none)")
    tail = _tail(arguments.one("--tail"))
    since, until = (_time(arguments.one(flag)) for flag in ("--since", "--until"))
    pieces: Iterable[Piece | None]
    if arguments.has("--follow"):
        pieces = logs.follow(context.paths, id, tail, until)
    else:
        pieces = logs.read(context.paths, id, tail)
    first = "" if since is None else rfc3339_fixed(since)
    last = "~" if until is None else rfc3339_fixed(until)
    output = _Output(arguments.has("--timestamps"), arguments.has("--details"))
    try:
        for piece in pieces:
            if piece is None:
                output.flush()
            elif first <= piece.when <= last:
                output.write(piece)
    finally:
        output.flush()
    return 0


def _tail(word: bytes | None) -> int | None:
    if word is None or word == b"all":
        return None
    try:
        count = int(word)
    except ValueError:
        reason = "it is a number of lines, or all"
        raise UsageError("understand", f"--tail {shown(word)}", reason) from None
    return count if count >= 0 else None


def _time(word: bytes | None) -> int | None:
    if word is None:
        return None
    from launcher.cli.timespec import moment

    return moment(os.fsdecode(word), time.time_ns())


class _Output:
    """The two streams. What is written to one is out before the other is written to."""

    def __init__(self, timestamps: bool, details: bool) -> None:
        self._timestamps = timestamps
        self._details = details
        self._inside: dict[str, bool] = {}
        self._last: BinaryIO | None = None
        sys.stdout.flush()

    def write(self, piece: Piece) -> None:
        text = piece.text
        if not self._inside.get(piece.stream):
            if self._details and piece.extra:
                text = f"{_extra(piece.extra)} {text}"
            if self._timestamps:
                text = f"{piece.when} {text}"
        self._inside[piece.stream] = not piece.text.endswith("\n")
        stream = sys.stderr.buffer if piece.stream == "stderr" else sys.stdout.buffer
        if self._last is not None and stream is not self._last:
            self._last.flush()
        self._last = stream
        stream.write(text.encode("utf-8", "surrogateescape"))

    def flush(self) -> None:
        if self._last is not None:
            self._last.flush()


def _extra(pairs: dict[str, str]) -> str:
    from urllib.parse import quote_plus

    each = (f"{quote_plus(key)}={quote_plus(value)}" for key, value in sorted(pairs.items()))
    return ",".join(each)
