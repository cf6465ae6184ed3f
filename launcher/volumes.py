# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes: directories with a name that outlive containers.

    ROOT/volumes/NAME/volume.json    when it was made, its labels, whether it has a name of its own
    ROOT/volumes/NAME/_data/         what is in it

An anonymous volume is called by 64 hex digits and goes with its container (`rm -v`, `--rm`).
"""

from __future__ import annotations

import contextlib
import json
import os
import time

from launcher import events, record, treeremoval
from launcher.errors import LaunchError
from launcher.names import is_name
from launcher.paths import Paths
from launcher.record import Record, RequestedMount
from launcher.typed import NamedTuple

__all__ = [
    "Volume",
    "create",
    "data",
    "erase",
    "every",
    "find",
    "inspected",
    "prepare",
    "remove",
    "users",
]


class Volume(NamedTuple):
    """One volume; `created` in nanoseconds since the epoch."""

    name: str
    created: int
    labels: tuple[tuple[str, str], ...] = ()
    anonymous: bool = False


def _place(paths: Paths, name: str) -> bytes:
    return paths.root + b"/volumes/" + os.fsencode(name)


def data(paths: Paths, name: str) -> bytes:
    """The directory that is mounted."""
    return _place(paths, name) + b"/_data"


def create(
    paths: Paths,
    name: str,
    labels: tuple[tuple[str, str], ...] = (),
    *,
    anonymous: bool = False,
) -> bool:
    """Make a volume, unless there is one of that name; whether it was made. Raises LaunchError."""
    if not is_name(name):
        reason = "a name is of letters, digits, _, . and -, and of two at least"
        raise LaunchError("create volume", name, reason)
    place = _place(paths, name)
    if os.path.isdir(place):
        return False
    # Under another name first: one that is there is whole.
    fresh = b"%s.new-%d" % (place, os.getpid())
    made = Volume(name, time.time_ns(), labels, anonymous)
    try:
        os.makedirs(fresh + b"/_data", 0o755, exist_ok=True)
        os.chmod(fresh, 0o700)
        with open(fresh + b"/volume.json", "w", encoding="ascii") as file:
            json.dump(made._asdict(), file)
        try:
            os.rename(fresh, place)
        except OSError:
            if not os.path.isdir(place):
                raise
            treeremoval.remove(fresh)
            return False
    except OSError as error:
        with contextlib.suppress(OSError):
            treeremoval.remove(fresh)
        raise LaunchError("create volume", name, error) from error
    events.note(paths, "volume", "create", name, {"driver": "local"})
    return True


def find(paths: Paths, name: str) -> Volume:
    """The volume of that name. Raises LaunchError."""
    if is_name(name):
        with contextlib.suppress(FileNotFoundError):
            return _read(paths, name)
    raise LaunchError("find volume", name, "there is none of that name")


def _read(paths: Paths, name: str) -> Volume:
    path = _place(paths, name) + b"/volume.json"
    try:
        with open(path, "rb") as file:
            fields = json.load(file)
        labels = tuple((str(key), str(value)) for key, value in fields["labels"])
        return Volume(name, int(fields["created"]), labels, bool(fields["anonymous"]))
    except (ValueError, KeyError, TypeError) as error:
        raise LaunchError("read", path, f"it is damaged: {error}") from error


def every(paths: Paths) -> list[Volume]:
    """All volumes, by name."""
    try:
        there = sorted(os.listdir(paths.root + b"/volumes"))
    except FileNotFoundError:
        return []
    found = []
    for each in there:
        with contextlib.suppress(FileNotFoundError):
            if is_name(os.fsdecode(each)) and b".new-" not in each:
                found.append(_read(paths, os.fsdecode(each)))
    return found


def inspected(paths: Paths, volume: Volume) -> dict[str, object]:
    """All that is known of a volume, in the form of docker's API (`GET /volumes/NAME`)."""
    from launcher.documents import GoMap
    from launcher.rfc3339 import rfc3339

    return {
        "CreatedAt": rfc3339(volume.created),
        "Driver": "local",
        "Labels": GoMap(volume.labels),
        "Mountpoint": os.fsdecode(data(paths, volume.name)),
        "Name": volume.name,
        "Options": None,
        "Scope": "local",
    }


def users(paths: Paths) -> dict[str, list[str]]:
    """The ids of the containers that use each volume, by its name."""
    found: dict[str, list[str]] = {}
    try:
        there = os.listdir(paths.containers)
    except FileNotFoundError:
        return found
    for each in there:
        with contextlib.suppress(LaunchError):
            for mount in record.load(paths, os.fsdecode(each)).mounts:
                if mount.kind == "volume":
                    found.setdefault(mount.source, []).append(os.fsdecode(each))
    return found


def remove(paths: Paths, name: str) -> None:
    """Remove a volume that no container uses. Raises LaunchError."""
    find(paths, name)
    holders = users(paths).get(name)
    if holders:
        reason = f"container {', '.join(each[:12] for each in holders)} uses it"
        raise LaunchError("remove volume", name, reason)
    erase(paths, name)


def erase(paths: Paths, name: str) -> None:
    """Remove a volume and all that is in it. Raises LaunchError."""
    try:
        treeremoval.remove(_place(paths, name))
    except OSError as error:
        raise LaunchError("remove volume", name, error) from error
    events.note(paths, "volume", "destroy", name, {"driver": "local"})


def prepare(paths: Paths, wanted: Record) -> list[str]:
    """Make what the mounts of a new container need on the host: its volumes, and directories
    that `-v` names. Returns the volumes that were made. Raises LaunchError.
    """
    made: list[str] = []
    try:
        for each in wanted.mounts:
            if each.kind == "volume":
                anonymous = "anonymous" in each.options
                labels = tuple(
                    (name, value)
                    for option in each.options
                    if option.startswith("label=")
                    for name, _, value in [option[6:].partition("=")]
                )
                if create(paths, each.source, labels, anonymous=anonymous):
                    made.append(each.source)
            elif each.kind == "bind":
                _prepare_bind(each)
    except BaseException:
        for name in made:
            erase(paths, name)
        raise
    return made


def _prepare_bind(mount: RequestedMount) -> None:
    if os.path.exists(mount.source):
        return
    if "missing" not in mount.options:
        raise LaunchError("bind", mount.source, "there is nothing on the host at that path")
    try:
        os.makedirs(mount.source, 0o755, exist_ok=True)
    except OSError as error:
        raise LaunchError("make", mount.source, error) from error
