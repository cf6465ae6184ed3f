# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina ps`: the containers there are, and how they are."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial

from launcher.cli.container_rows import LISTING, Look, container_row, sizes_text
from launcher.cli.context import Context
from launcher.cli.listing import show
from launcher.errors import shown
from launcher.paths import Paths
from launcher.state import State
from launcher.typed import Final
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

COMMAND = Command(
    "lamina ps",
    "[-a] [-q] [-n COUNT | -l] [-s] [-f FILTER]… [--no-trunc] [--format TEMPLATE]",
    "list containers: those that run, or all",
    (
        Flag(("-a", "--all"), None, "also those that do not run"),
        Flag(("-f", "--filter"), "FILTER", "only what fits, as name=… status=… label=…"),
        Flag(("--format",), "TEMPLATE", "table, json, raw, or a template like {{.ID}} {{.Names}}"),
        Flag(("-n", "--last"), "COUNT", "the last that were created, whether they run or not"),
        Flag(("-l", "--latest"), None, "the last that was created"),
        Flag(("--no-trunc",), None, "shorten nothing"),
        Flag(("-q", "--quiet"), None, "ids only"),
        Flag(("-s", "--size"), None, "how much each has written"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)

_RUNNING: Final = ("running", "paused", "restarting")


def run(arguments: Arguments, context: Context) -> int:
    """Print the listing; returns the exit status."""
    if arguments.operands:
        raise UsageError("list", shown(arguments.operands[0]), "ps takes no names (see --filter)")
    paths = context.paths
    count = _count(arguments)
    with State(paths) as state:
        looks = [Look(paths, entry) for entry in state.all()]
        every = arguments.has("--all") or count is not None
        words = arguments.all("--filter")
        if words:
            from launcher.cli.container_filters import KEYS, selector
            from launcher.cli.filters import read_filters

            filters = read_filters(words, KEYS)
            every = every or "status" in filters or "exited" in filters
            fits = selector(paths, state, filters)
            looks = [look for look in looks if fits(look)]
    if not every:
        looks = [look for look in looks if look.entry.status in _RUNNING]
    if count is not None:
        looks = looks[:count]
    sys.stdout.write(_text(arguments, paths, looks))
    return 0


def _count(arguments: Arguments) -> int | None:
    """How many of the newest are wanted, or None for all that run."""
    if arguments.has("--latest"):
        return 1
    word = arguments.one("--last")
    if word is None:
        return None
    try:
        count = int(word)
    except ValueError:
        raise UsageError("understand", f"--last {shown(word)}", "it is no number") from None
    return count if count > 0 else None


def _text(arguments: Arguments, paths: Paths, looks: list[Look]) -> str:
    cut = not arguments.has("--no-trunc")
    form = os.fsdecode(arguments.one("--format") or b"")
    if arguments.has("--quiet") and form in ("", "table", "raw"):
        ids = (look.entry.row.id for look in looks)
        return "".join((id[:12] if cut else id) + "\n" for id in ids)
    now = time.time_ns()
    sized = arguments.has("--size") or ".Size" in form
    size = _sizes(paths, looks) if sized else None
    rows = [
        container_row(look, now, cut, "0B" if size is None else partial(size, look))
        for look in looks
    ]
    listing = LISTING
    if arguments.has("--size"):
        raw = listing.raw.removesuffix("\\n") + "\\nsize: {{- pad .Size 1 0}}\\n"
        listing = listing._replace(columns=(*listing.columns, "Size"), raw=raw)
    return show(listing, rows, form)


def _sizes(paths: Paths, looks: list[Look]) -> Callable[[Look], str]:
    """What tells how much containers have written, and how much is in their images."""
    from launcher.diskuse import content_size, layer_sizes

    layers = {look.entry.row.id: look.fields.get("layers", ()) for look in looks}
    sizes = layer_sizes(paths, (each for one in layers.values() for each in one))

    def text(look: Look) -> str:
        id = look.entry.row.id
        own = content_size(paths.container(id) + b"/upper")
        return sizes_text(own, sum(sizes[each] for each in layers[id]))

    return text
