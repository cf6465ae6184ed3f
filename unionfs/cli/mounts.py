# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina mounts`: the unions that are mounted, their layers and daemons."""

from __future__ import annotations

import os
import time

from unionfs.cli.arguments import DEBUG, HELP, JSON, Command, parse
from unionfs.cli.output import say_json, say_table, text_of
from unionfs.errors import UsageError
from unionfs.fuse.mountinfo import Mounted
from unionfs.fuse.registry import Entry, alive, unions
from unionfs.typed import Final

__all__ = ["COMMAND", "run"]

COMMAND: Final = Command(
    "lamina mounts",
    "[--json]",
    "List the unions that are mounted: what they are made of, since when, and by which daemon.\n"
    "A dead one is repaired by lamina umount.",
    (JSON, DEBUG, HELP),
)

_HEADER: Final = ("MERGED", "LOWER", "UPPER", "SINCE", "DAEMON", "TRANSPORT", "STATE")
_SHOWN_LAYERS: Final = 3


def run(words: list[bytes]) -> int:
    """The verb; returns the exit status."""
    arguments = parse(COMMAND, words)
    if arguments is None:
        return 0
    if arguments.operands:
        raise UsageError("list mounts of", arguments.operands[0], "all of them are listed")
    found = unions()
    if arguments.has(JSON.key):
        say_json([_record(mounted, entry) for mounted, entry in found])
    else:
        say_table(_HEADER, [_row(mounted, entry) for mounted, entry in found])
    return 0


def _state(entry: Entry | None) -> str:
    if entry is None:
        return "unknown"
    return "ok" if alive(entry) else "dead"


def _row(mounted: Mounted, entry: Entry | None) -> list[bytes | str]:
    if entry is None:
        return [mounted.mountpoint, "?", "?", "?", "?", "?", _state(None)]
    config = entry.config
    lower = b":".join(config.lower[:_SHOWN_LAYERS])
    more = len(config.lower) - _SHOWN_LAYERS
    return [
        mounted.mountpoint,
        lower + (b" and %d more" % more if more > 0 else b""),
        "-" if config.upper is None else config.upper,
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(entry.since)),
        str(entry.pid),
        entry.transport,
        _state(entry),
    ]


def _record(mounted: Mounted, entry: Entry | None) -> dict[str, object]:
    record: dict[str, object] = {
        "merged": text_of(mounted.mountpoint),
        "source": text_of(mounted.source),
        "state": _state(entry),
    }
    if entry is not None:
        config = entry.config
        record |= {
            "lower": [os.fsdecode(path) for path in config.lower],
            "data": [os.fsdecode(path) for path in config.data],
            "upper": text_of(config.upper),
            "work": text_of(config.work),
            "format": config.format,
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(entry.since)),
            "daemon": entry.pid,
            "transport": entry.transport,
            "log": text_of(entry.log),
        }
    return record
