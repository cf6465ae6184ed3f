# SPDX-License-Identifier: GPL-3.0-or-later
"""A try from its first directory to the list of what it changed."""

from __future__ import annotations

import contextlib
import os
import time

from launcher import treeremoval
from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.trial import changes, mounts, record, stage
from launcher.trial.changes import Item
from launcher.trial.record import Trial
from launcher.typed import NamedTuple

__all__ = ["NETWORKS", "Tried", "attempt"]

NETWORKS = ("none", "host")


class Tried(NamedTuple):
    """A try that has run: it is kept, and holds its lock no longer."""

    trial: Trial
    ended: stage.Ended
    items: list[Item]


def attempt(paths: Paths, base: bytes, args: tuple[bytes, ...], network: str) -> Tried:
    """Run a command on a union over the tree at `base`, in the foreground.

    Raises LaunchError where the command could not be started; nothing is then kept.
    """
    if network not in NETWORKS:
        raise LaunchError("use network", network, "it is none or host")
    paths.ensure()
    base = os.path.realpath(base)
    hidden = tuple(os.path.realpath(path) for path in (paths.root, paths.run))
    ordinary = os.geteuid() != 0
    if ordinary:
        seen = mounts.layout_of_user(base, _own_directories(base))
    else:
        seen = mounts.layout(mounts.table(), base, hidden)
    trial = record.create(
        paths, base, args, _directory(base), network, seen.places, userxattr=ordinary
    )
    with record.hold(trial):
        try:
            masked = tuple(inner for path in hidden if (inner := _inside(path, base)) is not None)
            ended = stage.run(trial, seen.shown, masked, paths)
        except BaseException:
            with contextlib.suppress(OSError):
                treeremoval.remove_own(trial.directory)
            raise
        trial = trial._replace(finished=time.time_ns(), status=ended.status)
        record.save(trial)
        items = changes.kept(trial)
    return Tried(trial, ended, items)


def _own_directories(base: bytes) -> tuple[bytes, ...]:
    """Where an ordinary user's commands write."""
    found = [base.rstrip(b"/") + path for path in (b"/tmp", b"/var/tmp")]
    for name in (b"HOME", b"TMPDIR"):
        path = os.environb.get(name, b"")
        if path.startswith(b"/"):
            found.append(path)
    with contextlib.suppress(FileNotFoundError):
        found.append(os.getcwdb())
    return tuple(found)


def _directory(base: bytes) -> bytes:
    """The working directory as the command sees it; the top where it cannot see it."""
    try:
        return _inside(os.getcwdb(), base) or b"/"
    except FileNotFoundError:
        return b"/"


def _inside(path: bytes, base: bytes) -> bytes | None:
    """A path of the host's as the command sees it, None if it lies elsewhere."""
    top = base.rstrip(b"/")
    if path == base:
        return b"/"
    return path[len(top) :] if path.startswith(top + b"/") else None
