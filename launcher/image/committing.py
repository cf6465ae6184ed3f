# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina commit`: a container's changes → the next layer of its image.

The cost is that of the changes: the layers below are not looked at, but for what a renamed
directory holds. While they are read the container stands still.
"""

from __future__ import annotations

import os
import time

from launcher import events, rootunion
from launcher import record as records
from launcher.errors import LaunchError
from launcher.image import catalog, config, flat, layout
from launcher.image.reference import tagged
from launcher.image.store import Adding, Layer, Store
from launcher.image.tar import Damaged
from launcher.image.tarwrite import Writer
from launcher.paths import Paths
from launcher.record import Record
from launcher.rfc3339 import rfc3339
from launcher.state import Entry
from launcher.stillness import still
from launcher.typed import Any, NamedTuple, Sequence
from unionfs import Flattened, UnionError
from unionfs.light import contextlib

__all__ = ["Committed", "Wishes", "commit"]


class Wishes(NamedTuple):
    """What a commit was asked for beside its container.

    name    -- REPOSITORY[:TAG], or None
    changes -- instructions as in a Dockerfile
    pause   -- let the container stand still meanwhile
    """

    name: str | None = None
    author: str = ""
    message: str = ""
    changes: tuple[str, ...] = ()
    pause: bool = True


class Committed(NamedTuple):
    """The new image's id, 64 hex digits; and what could not be kept."""

    id: str
    notes: tuple[str, ...]


def commit(store: Store, entry: Entry, wishes: Wishes) -> Committed:
    """Make an image of a container as it is now. Raises LaunchError; nothing is left behind."""
    paths = store.paths
    names = [] if wishes.name is None else [tagged(wishes.name)]
    record = records.load(paths, entry.row.id)
    notes: dict[str, None] = {}
    try:
        with store.adding() as adding:
            if catalog.image(store.db, record.image_id) is None:
                reason = f"its image {record.image_id[:12]} has been removed"
                raise LaunchError("commit", entry.row.name, reason)
            below = store.layers(record.image_id)
            document = layout.read_json(paths, record.image_id, "configuration of image")
            settings = _changed(_settings(document, record), wishes.changes)
            config.read({"config": settings})
            layer = _layer(paths, entry, record, adding, below, wishes.pause, notes)
            layers = list(below) if layer is None else [*below, layer]
            now = time.time_ns()
            new = _document(document, settings, record, layers, wishes, now, empty=layer is None)
            id = adding.image(new, layers, names, parent=record.image_id, created=now)
            notes.update(dict.fromkeys(adding.notes))
    except (Damaged, OSError, UnionError) as error:
        why = error if isinstance(error, OSError) else str(error)
        raise LaunchError("commit", entry.row.name, why) from error
    events.note_container(paths, "commit", record)
    return Committed(id, tuple(notes))


def _layer(
    paths: Paths,
    entry: Entry,
    record: Record,
    adding: Adding,
    below: Sequence[Layer],
    pause: bool,
    notes: dict[str, None],
) -> Layer | None:
    """The layer of the changes; None if there are none."""
    union = rootunion.union(paths, record)
    assert union.upper is not None
    changed = 0

    def fill(writer: Writer) -> None:
        nonlocal changed
        with Flattened(
            (union.upper or b"",), union.lower, userxattr=union.userxattr, work=union.work
        ) as flattened:
            written = flat.write(flattened, writer)
        notes.update(dict.fromkeys(written.notes))
        changed = written.entries

    with still(paths, entry) if pause else contextlib.nullcontext("") as why:
        if why:
            notes[f"the container went on meanwhile: {why}"] = None
        arrived = adding.stage(fill)
    if changed <= 1 and _same_top(union.upper, union.lower):
        return None
    return adding.unpack(arrived, below)


def _same_top(upper: bytes, lower: tuple[bytes, ...]) -> bool:
    """Whether the top directory looks as it did: everything else that is changed has an entry."""
    if not lower:
        return False
    now, before = os.stat(upper), os.stat(lower[0])
    return (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, before.st_uid, before.st_gid)


# -- the configuration ----------------------------------------------------------------------------


def _settings(document: dict[str, Any], record: Record) -> dict[str, Any]:
    """The image's `config` as the container was told to be (docker commit: its Config)."""
    settings = dict(document.get("config") or {})
    entrypoint, command = record.args[: record.entrypoint], record.args[record.entrypoint :]
    said: dict[str, Any] = {
        "User": record.user,
        "Env": [_text(each) for each in record.env],
        "Entrypoint": [_text(each) for each in entrypoint],
        "Cmd": [_text(each) for each in command],
        "WorkingDir": "" if record.cwd == b"/" else _text(record.cwd),
        "Labels": dict(record.labels),
    }
    for key, value in said.items():
        if value:
            settings[key] = value
        else:
            settings.pop(key, None)
    if record.exposed:
        settings["ExposedPorts"] = {each: {} for each in record.exposed}
    return settings


def _changed(settings: dict[str, Any], instructions: Sequence[str]) -> dict[str, Any]:
    if not instructions:
        return settings
    from launcher.image import changes

    return changes.apply(settings, list(instructions))


def _document(
    base: dict[str, Any],
    settings: dict[str, Any],
    record: Record,
    layers: Sequence[Layer],
    wishes: Wishes,
    now: int,
    *,
    empty: bool,
) -> dict[str, Any]:
    step: dict[str, Any] = {
        "created": rfc3339(now),
        "created_by": " ".join(_text(each) for each in record.args),
    }
    if wishes.author:
        step["author"] = wishes.author
    if wishes.message:
        step["comment"] = wishes.message
    if empty:
        step["empty_layer"] = True
    new = config.new(
        settings,
        [layer.diff_id for layer in layers],
        now,
        [*config.history(base, len(layers) - (not empty)), step],
        author=wishes.author,
        comment=wishes.message,
    )
    for key in ("architecture", "variant", "os", "os.version", "os.features"):
        if key in base:
            new[key] = base[key]
    return new


def _text(value: bytes) -> str:
    return value.decode(errors="replace")
