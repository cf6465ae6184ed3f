# SPDX-License-Identifier: GPL-3.0-or-later
"""What the verbs of tries share: showing changes, and saying how an apply went."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from launcher.cli.changetree import difference_lines, summary, tree
from launcher.cli.pager import page, wants_colour
from launcher.errors import LaunchError, shown
from launcher.trial.apply import Conflict, Outcome
from launcher.trial.changes import Item
from launcher.trial.record import Trial, whole
from launcher.typed import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import TextIO

__all__ = [
    "absolute",
    "complete",
    "path_of",
    "report",
    "say_conflicts",
    "show_changes",
    "show_differences",
]

_MOST: Final = 20


def complete(trial: Trial) -> None:
    """Raise LaunchError for a try whose command was not seen to end, or that lost power since."""
    if not trial.finished:
        reason = "it was interrupted while the command ran (lamina discard removes it)"
        raise LaunchError("use try", trial.id, reason)
    if not whole(trial):
        reason = "the machine went down before it was on disc (lamina discard removes it)"
        raise LaunchError("use try", trial.id, reason)


def path_of(trial: Trial, item: Item) -> str:
    """Where a change is, as the command saw it."""
    top = trial.places[item.place].mountpoint.rstrip(b"/")
    return shown(top + item.path)


def show_changes(trial: Trial, items: list[Item], stream: TextIO) -> None:
    """The tree of changes and their count."""
    lines = [*tree(trial, items, colour=wants_colour(stream)), "", summary(items)]
    page(lines, stream)


def show_differences(trial: Trial, items: list[Item], stream: TextIO) -> None:
    """The differences in text files."""
    from launcher.trial.textdiff import text_differences

    def lines() -> Iterator[str]:
        try:
            yield from text_differences(trial, items)
        except OSError as error:
            raise LaunchError("compare", error.filename or b"", error) from error

    page(difference_lines(lines(), colour=wants_colour(stream)), stream)


def say_conflicts(trial: Trial, conflicts: Sequence[Conflict], stream: TextIO) -> None:
    """One line for each change that the host has overtaken."""
    _say([f"cannot apply {path_of(trial, each.item)}: {each.reason}" for each in conflicts], stream)


def report(trial: Trial, outcome: Outcome, stream: TextIO) -> None:
    """How an apply went: what failed, one line each, and what was done."""
    _say(
        [f"cannot apply {path_of(trial, each.item)}: {each.reason}" for each in outcome.failed],
        stream,
    )


def _say(lines: list[str], stream: TextIO) -> None:
    for line in lines[:_MOST]:
        stream.write(f"lamina: {line}\n")
    if len(lines) > _MOST:
        stream.write(f"lamina: and {len(lines) - _MOST} more\n")
    stream.flush()


def absolute(trial: Trial, path: bytes) -> bytes:
    """A path that a person wrote, as the command saw it; its links are not followed."""
    if not path.startswith(b"/"):
        here = os.getcwdb()
        base = trial.base.rstrip(b"/")
        inside = here[len(base) :] if (here + b"/").startswith(base + b"/") else b""
        path = (inside or b"/") + b"/" + path
    return b"/" + os.path.normpath(path).lstrip(b"/")
