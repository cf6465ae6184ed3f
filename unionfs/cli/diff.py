# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina diff`: what an upper layer adds, changes, deletes and renames."""

from __future__ import annotations

import os

from unionfs.changes import Change, diff
from unionfs.cli.arguments import DEBUG, HELP, JSON, Command, Flag, parse
from unionfs.cli.mount import absolute, beside, privileged
from unionfs.cli.output import say, say_json, text_of
from unionfs.config import MountConfig
from unionfs.errors import UnionError, UsageError
from unionfs.fuse.mountinfo import located, mounts, topmost
from unionfs.fuse.registry import find
from unionfs.options import Choices, OptionError, apply_options
from unionfs.typed import Final

__all__ = ["COMMAND", "run"]

COMMAND: Final = Command(
    "lamina diff",
    "MERGED | [--lower CD …] UPPER",
    "List what was changed in a mounted union, or in an upper directory against its lower layers:\n"
    "A added, C changed, D deleted, R renamed. For an upper directory alone its marks decide\n"
    "between added and changed.",
    (
        Flag(("--lower",), "CD", "a layer below UPPER; of several, the topmost first"),
        Flag(("-o",), "OPTIONS", "options that UPPER is mounted with (lowerdir=, userxattr …)"),
        Flag(("--format",), "NAME", "marks on the layers: overlay (default) or aufs"),
        JSON,
        DEBUG,
        HELP,
    ),
)


def run(words: list[bytes]) -> int:
    """The verb; returns the exit status."""
    arguments = parse(COMMAND, words)
    if arguments is None:
        return 0
    if len(arguments.operands) != 1:
        reason = f"one mount point or upper directory is needed (see {COMMAND.name} --help)"
        raise UsageError("compare", b" ".join(arguments.operands), reason)
    path = arguments.operands[0]
    choices = Choices()
    try:
        for text in arguments.all("-o"):
            apply_options(text, choices)
        for name in arguments.all("--format"):
            apply_options(b"format=" + name, choices)
    except OptionError as error:
        raise UsageError("compare", path, str(error)) from error
    choices.lower += arguments.all("--lower")
    config = None if choices.lower else _mounted(path)
    if config is None:
        choices.lower = [absolute(lower) for lower in choices.lower]
        choices.data = [absolute(layer) for layer in choices.data]
        choices.upper = absolute(path)
        choices.work = absolute(choices.work or beside(choices.upper))
        config = choices.union(userxattr=not privileged())
    if config.upper is None:
        return 0
    changes = diff(
        config.upper,
        config.lower,
        data=config.data,
        format=config.format,
        userxattr=config.userxattr,
        work=config.work if config.index else None,
        detail=arguments.has(JSON.key),
    )
    if arguments.has(JSON.key):
        say_json([_record(change) for change in changes])
    else:
        for change in changes:
            source = () if change.source is None else (change.source, " -> ")
            say(change.kind, " ", *source, change.path)
    return 0


def _mounted(path: bytes) -> MountConfig | None:
    """The union mounted on a path, None if none is."""
    table = mounts()
    mounted = topmost(located(path), table) or topmost(os.path.realpath(path), table)
    if mounted is None:
        return None
    entry = find(mounted)
    if entry is None and mounted.fstype == "fuse.lamina":
        raise UnionError("compare", path, "its layers are not on record; name them with --lower")
    return None if entry is None else entry.config


def _record(change: Change) -> dict[str, object]:
    record: dict[str, object] = {
        "kind": change.kind,
        "path": text_of(change.path),
        "type": change.type,
    }
    if change.source is not None:
        record["source"] = text_of(change.source)
    if change.kind in "CR":
        record["what"] = list(change.what)
    return record
