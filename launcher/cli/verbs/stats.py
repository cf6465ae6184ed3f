# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina stats`: what containers use of the machine, again every second."""

from __future__ import annotations

import os
import sys
import time

from launcher.cgroup import hierarchies
from launcher.cli.context import Context
from launcher.cli.listing import Listing, show
from launcher.cli.sizes import binary_size, decimal_size
from launcher.documents import Row
from launcher.measure import Sample, Usage, sample, usage
from launcher.state import Entry, State
from launcher.typed import Final
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag

COMMAND = Command(
    "lamina stats",
    "[-a] [--no-stream] [--no-trunc] [--format TEMPLATE] [CONTAINER]…",
    "show what containers use: processors, memory, network, discs",
    (
        Flag(("-a", "--all"), None, "also those that do not run"),
        Flag(("--format",), "TEMPLATE", "table, json, or a template like {{.CPUPerc}}"),
        Flag(("--no-stream",), None, "look once, and end"),
        Flag(("--no-trunc",), None, "shorten nothing"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)
_LISTING: Final = Listing(
    {
        "Container": "CONTAINER",
        "ID": "CONTAINER ID",
        "Name": "NAME",
        "CPUPerc": "CPU %",
        "MemUsage": "MEM USAGE / LIMIT",
        "MemPerc": "MEM %",
        "NetIO": "NET I/O",
        "BlockIO": "BLOCK I/O",
        "PIDs": "PIDS",
    },
    ("ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"),
)
_INTERVAL: Final = 1.0  # seconds, as docker's
_HOME_AND_CLEAR: Final = "\x1b[H\x1b[J"
_UNKNOWN: Final = "--"
_UP: Final = ("running", "paused")


def run(arguments: Arguments, context: Context) -> int:
    """Print tables until interrupted, or one; returns the exit status."""
    form = os.fsdecode(arguments.one("--format") or b"")
    stream = not arguments.has("--no-stream")
    clear = _HOME_AND_CLEAR if stream and sys.stdout.isatty() else ""
    mounted = hierarchies.find()
    before: dict[str, Sample] = {}
    with State(context.paths) as state:
        while True:
            entries = _entries(state, arguments)
            if not before:
                before = _samples(entries, mounted)
                if not before and not stream:
                    sys.stdout.write(show(_LISTING, _rows(entries, {}, {}, arguments), form))
                    return 0
                time.sleep(_INTERVAL)
                entries = _entries(state, arguments)
            after = _samples(entries, mounted)
            text = show(_LISTING, _rows(entries, before, after, arguments), form)
            sys.stdout.write(clear + text)
            sys.stdout.flush()
            if not stream:
                return 0
            before = after
            time.sleep(_INTERVAL)


def _entries(state: State, arguments: Arguments) -> list[Entry]:
    if arguments.operands:
        return [state.find(os.fsdecode(name)) for name in arguments.operands]
    entries = state.all()
    return [each for each in entries if arguments.has("--all") or each.status in _UP]


def _samples(entries: list[Entry], mounted: tuple[hierarchies.Mounted, ...]) -> dict[str, Sample]:
    return {
        each.row.id: sample(each.row.id, each.running.pid, mounted)
        for each in entries
        if each.running is not None and each.status in _UP
    }


def _rows(
    entries: list[Entry],
    before: dict[str, Sample],
    after: dict[str, Sample],
    arguments: Arguments,
) -> list[Row]:
    cut = not arguments.has("--no-trunc")
    rows = []
    for index, entry in enumerate(entries):
        id = entry.row.id
        words = arguments.operands
        names = {
            "Container": os.fsdecode(words[index]) if words else id[:12],
            "ID": id[:12] if cut else id,
            "Name": entry.row.name,
        }
        if id in after:
            # One that has come up just now is compared with itself, and has used nothing yet.
            figures = _figures(usage(before.get(id, after[id]), after[id]))
        else:
            figures = _figures(Usage(0.0, 0, 0, 0, 0, 0, 0, 0))
        rows.append(Row(names | figures))
    return rows


def _figures(used: Usage) -> dict[str, str]:
    memory = _UNKNOWN if used.memory is None else binary_size(used.memory)
    return {
        "CPUPerc": _percent(used.cpu),
        "MemUsage": f"{memory} / {binary_size(used.memory_limit)}",
        "MemPerc": _percent(0.0 if used.memory_limit == 0 else used.memory_share),
        "NetIO": f"{decimal_size(used.received)} / {decimal_size(used.sent)}",
        "BlockIO": f"{decimal_size(used.block_read)} / {decimal_size(used.block_written)}",
        "PIDs": _UNKNOWN if used.pids is None else str(used.pids),
    }


def _percent(value: float | None) -> str:
    return _UNKNOWN if value is None else f"{value:.2f}%"
