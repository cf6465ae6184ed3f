# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies on the disc of a container: made by `create`, taken away by `remove`.

Files come before the row and go before it: a crash leaves a directory without a row, which
`orphans` finds, or a row that is marked as being removed, never a row that points at nothing.
How a container is started and stopped is the supervisor's.
"""

from __future__ import annotations

import os

from launcher import events, names, record, runtime, treeremoval
from launcher.errors import LaunchError
from launcher.paths import Paths
from launcher.record import Record
from launcher.state import Entry, Row, State
from launcher.typed import Final
from unionfs.light import contextlib

__all__ = ["create", "discard", "erase", "orphans", "remove"]

# What the mode of a namespace begins with that is another container's.
_OTHERS: Final = "container:"

# How often a name is invented before the fault must lie elsewhere.
_INVENTIONS: Final = 20


def create(paths: Paths, wanted: Record) -> Record:
    """Make the directory, the volumes and the row of a container; returns it as it was entered.

    A record without a name gets one; `--userns auto` gets its ids. Raises LaunchError, with
    nothing left behind.
    """
    paths.ensure()
    directory = paths.container(wanted.id)
    made: list[str] = []
    try:
        _make_directories(directory, wanted)
        if wanted.mounts:
            from launcher import volumes

            made += volumes.prepare(paths, wanted)
        if any(each.startswith(_OTHERS) for each in (wanted.pid, wanted.ipc, wanted.network)):
            wanted = _with_ids_of_others(paths, wanted)
        if wanted.userns.startswith("auto"):
            from launcher import subids

            wanted = subids.assign(paths, wanted)
        if wanted.seccomp != "unconfined":
            _compile_filter(paths, wanted)
        entered = _enter(paths, wanted)
    except BaseException as error:
        _take_back(paths, wanted.id, made)
        if isinstance(error, OSError):
            with State(paths) as state:
                if _image_of(paths, wanted) and not state.has_image(wanted.image_id):
                    raise LaunchError("find image", wanted.image, "it has been removed") from error
            raise LaunchError("make", directory, error) from error
        raise
    events.note_container(paths, "create", entered)
    return entered


def _compile_filter(paths: Paths, wanted: Record) -> None:
    """Compile the filter where none is kept yet: a supervisor that does so itself holds the library
    in memory for as long as it lives.
    """
    if wanted.seccomp or not os.path.isdir(paths.root + b"/seccomp"):
        from launcher import specify

        specify.filter_of(paths, wanted)


def _with_ids_of_others(paths: Paths, wanted: Record) -> Record:
    """With ids in place of names: those whose namespaces are shared may be renamed later."""
    with State(paths) as state:

        def settled(mode: str) -> str:
            if not mode.startswith(_OTHERS):
                return mode
            return _OTHERS + state.find(mode.removeprefix(_OTHERS)).row.id

        return wanted._replace(
            pid=settled(wanted.pid), ipc=settled(wanted.ipc), network=settled(wanted.network)
        )


def _make_directories(directory: bytes, wanted: Record) -> None:
    os.mkdir(directory, 0o700)
    for name in (b"/upper", b"/work", b"/merged"):
        os.mkdir(directory + name, 0o755)
    upper = directory + b"/upper"
    if wanted.layers:
        # The root directory of a union is the upper's: it is to look as the image's does.
        top = os.stat(wanted.layers[0])
        os.chown(upper, top.st_uid, top.st_gid)
        os.chmod(upper, top.st_mode & 0o7777)
        os.utime(upper, ns=(top.st_atime_ns, top.st_mtime_ns))


def _image_of(paths: Paths, wanted: Record) -> str:
    """The id of its image, if that lies in the store and so may be removed; otherwise ""."""
    stored = any(layer.startswith(paths.layers + b"/") for layer in wanted.layers)
    return wanted.image_id if stored else ""


def _enter(paths: Paths, wanted: Record) -> Record:
    image = _image_of(paths, wanted)
    # What goes with its first run need not outlive a loss of power.
    durable = not wanted.auto_remove
    with State(paths) as state:
        if wanted.name:
            record.save(paths, wanted, durable=durable)
            state.add(wanted, image)
            return wanted
        for attempt in range(_INVENTIONS):
            named = wanted._replace(name=names.invented(attempt))
            if state.has_name(named.name):
                continue
            record.save(paths, named, durable=durable)
            try:
                state.add(named, image)
                return named
            except LaunchError:
                if not state.has_name(named.name):  # otherwise somebody was faster
                    raise
    raise LaunchError("name container", wanted.id[:12], "all names that came to mind are in use")


def _take_back(paths: Paths, id: str, made: list[str]) -> None:
    from launcher import volumes

    with contextlib.suppress(OSError, LaunchError):
        erase(paths, id)
    for name in made:
        with contextlib.suppress(OSError, LaunchError):
            volumes.erase(paths, name)


def remove(paths: Paths, entry: Entry, force: bool = False, volumes: bool = False) -> None:
    """Remove a container, and with `volumes` those that are its alone and have no name.

    One that runs is refused, or with `force` killed first. Raises LaunchError.
    """
    row = entry.row
    if entry.running is not None or runtime.alive(paths, row.id):
        if not force:
            reason = f"it is {entry.status}; stop it first, or use --force"
            raise LaunchError("remove container", row.name, reason)
        _end(paths, entry)
        if runtime.alive(paths, row.id):
            raise LaunchError("remove container", row.name, "it does not end")
    if os.path.isdir(paths.runtime(row.id)):
        # Its supervisor was killed with all that would clear up behind it.
        from launcher.supervisor import undertaker

        undertaker.tidy(paths, row.id)
        with State(paths) as state:
            if not state.has(row.id):
                return  # it was to be removed at its end
    discard(paths, row, volumes=volumes)


def discard(paths: Paths, row: Row, *, volumes: bool) -> None:
    """`remove`, for who knows that nothing of it runs: its supervisor, and who buries that one."""
    anonymous: list[str] = []
    if volumes:
        # One that is damaged is removed all the same; its volumes then stay for `volume prune`.
        with contextlib.suppress(LaunchError):
            anonymous = [
                each.source
                for each in record.load(paths, row.id).mounts
                if each.kind == "volume" and "anonymous" in each.options
            ]
    labels = tuple(record.glance(paths, row.id).get("labels", ()))
    with State(paths) as state:
        state.begin_removal(row.id)
        try:
            erase(paths, row.id)
        except OSError as error:
            raise LaunchError("remove container", row.name, error) from error
        state.remove(row.id)
    events.note_container(paths, "destroy", row, labels)
    if anonymous:
        from launcher import volumes as rooms

        for name in anonymous:
            rooms.erase(paths, name)


def _end(paths: Paths, entry: Entry) -> None:
    """Kill what runs; returns when its supervisor has gone."""
    from launcher import lifecycle

    lifecycle.stop(paths, entry, 0)


def erase(paths: Paths, id: str) -> None:
    """Remove the directory of a container, whose row is the caller's. OSError where that fails."""
    treeremoval.remove(paths.container(id))


def orphans(paths: Paths) -> list[str]:
    """The ids of directories that no row points at: what a crash between the two leaves.

    One that is being made at this moment is among them only if it is older than `_YOUNG`.
    """
    import time

    with State(paths) as state:
        try:
            there = sorted(os.fsdecode(each) for each in os.listdir(paths.containers))
        except FileNotFoundError:
            return []
        known = {entry.row.id for entry in state.all()}
    found = []
    for id in there:
        if id in known:
            continue
        with contextlib.suppress(FileNotFoundError):
            if time.time() - os.stat(paths.container(id)).st_mtime > _YOUNG:
                found.append(id)
    return found


_YOUNG: Final = 60.0  # seconds
