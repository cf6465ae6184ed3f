# SPDX-License-Identifier: GPL-3.0-or-later
"""Throwing away: names, images, and then the files that nothing points at any more.

Rows go first, then index.json, then files: a crash in between leaves garbage, which the next
`collect` finds. Files go only while nobody adds to the store, who may count on any of them; where
somebody does, they stay for later.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from launcher import events, treeremoval
from launcher.errors import LaunchError
from launcher.image import catalog, layout
from launcher.image.catalog import ImageRow
from launcher.image.store import Store, chain_ids
from launcher.paths import Paths
from launcher.state import State
from launcher.typed import NamedTuple

__all__ = ["Collected", "Removed", "collect", "prune", "remove"]


class Removed(NamedTuple):
    """What `rmi` did, as docker says it: names taken away, digests of what is gone (hex)."""

    untagged: tuple[str, ...]
    deleted: tuple[str, ...]


class Collected(NamedTuple):
    """Files that were thrown away."""

    files: int
    size: int


def remove(store: Store, text: str, *, force: bool) -> Removed:
    """Take a name from an image, and remove the image with its last one; by id all at once.

    Without `force` an image of which there are containers stays, as does one that is meant by its
    id and has names in several repositories; with it, one that has a running container still does.
    Raises LaunchError, "cannot remove image …".
    """
    with store.change():
        row = catalog.find_image(store.db, text)
        names = catalog.names_of(store.db, row.id)
        meant = catalog.said_name(store.db, row.id, text)
        if meant and len(names) > 1:
            _untag(store, [meant])
            events.note_image(store.paths, "untag", row.id, meant)
            return Removed((meant,), ())
        if not meant and not force:
            repositories = {name.rpartition(":")[0] for name in names}
            if len(repositories) > 1:
                reason = "it has names in several repositories (-f removes it all the same)"
                raise LaunchError("remove image", text, reason)
        running, using = _users(store.paths, row.id)
        if using and not force:
            reason = f"container {using} is made of it (-f removes it all the same)"
            raise LaunchError("remove image", text, reason)
        if running and not meant:
            raise LaunchError("remove image", text, f"container {running} runs on it")
        _untag(store, names)
        for name in names:
            events.note_image(store.paths, "untag", row.id, name)
        if running:
            return Removed(tuple(names), ())
        gone = _drop(store, row)
        events.note_image(store.paths, "delete", row.id)
    collect(store, wait=False)
    return Removed(tuple(names), gone)


def prune(
    store: Store, fits: Callable[[ImageRow], bool], *, every: bool
) -> tuple[Removed, Collected]:
    """Remove the images without a name, or `every` image, that `fits` lets go and of which there is
    no container; and all files that nothing needs.
    """
    untagged: list[str] = []
    gone: list[str] = []
    with store.change():
        for row in catalog.all_images(store.db):
            names = catalog.names_of(store.db, row.id)
            if (names and not every) or not fits(row):
                continue
            if not _users(store.paths, row.id)[1]:
                _untag(store, names)
                untagged += names
                gone += _drop(store, row)
                events.note_image(store.paths, "delete", row.id)
    return Removed(tuple(untagged), tuple(gone)), collect(store, wait=True)


def collect(store: Store, *, wait: bool) -> Collected:
    """Throw away the files that no image and no container needs.

    Without `wait` only if nobody adds to the store at the moment.
    """
    files = size = 0
    paths = store.paths
    with layout.hold(paths, alone=True, wait=wait) as held:
        if not held:
            return Collected(0, 0)
        with store.change():  # so that index.json names nothing that goes now
            blobs, trees = _needed(store)
        used = _used_by_containers(paths)
        places = [(layout.blob(paths, ""), blobs)]
        if used is not None:
            places.append((layout.tree(paths, ""), trees | used))
        places.append((layout.incoming(paths) + b"/", set()))
        for directory, needed in places:
            for name in os.listdir(directory):
                if name.decode(errors="replace") not in needed:
                    files += 1
                    size += _throw_away(paths, directory + name)
    return Collected(files, size)


def _untag(store: Store, names: list[str]) -> None:
    for name in names:
        store.db.execute("DELETE FROM tags WHERE name = ?", (name,))


def _drop(store: Store, row: ImageRow) -> tuple[str, ...]:
    """Take an image out of the tables. Its id, and the chain ids of the layers only it had."""
    db = store.db
    layers = catalog.layers_of(db, row.id)
    db.execute("DELETE FROM image_layers WHERE image = ?", (row.id,))
    db.execute("DELETE FROM images WHERE id = ?", (row.id,))
    gone = [row.id]
    for chain, layer in zip(chain_ids([each.diff_id for each in layers]), layers, strict=True):
        shared = db.execute("SELECT 1 FROM image_layers WHERE tree = ?", (layer.tree,)).fetchone()
        if shared is None:
            gone.insert(1, chain)
    db.execute("DELETE FROM layers WHERE tree NOT IN (SELECT tree FROM image_layers)")
    return tuple(gone)


def _users(paths: Paths, image: str) -> tuple[str, str]:
    """A container of an image that runs, and one that is there at all; by name, "" for none."""
    running = using = ""
    with State(paths) as state:
        for row in state.of_image(image):
            using = using or row.name
            if not running and state.find(row.id).running is not None:
                running = row.name
    return running, using


def _needed(store: Store) -> tuple[set[str], set[str]]:
    """The blobs and the trees that rows point at."""
    blobs: set[str] = set()
    trees: set[str] = set()
    for row in store.db.execute("SELECT id, manifest FROM images"):
        blobs.update(row)
    for tree, blob in store.db.execute("SELECT tree, blob FROM image_layers"):
        trees.add(tree)
        blobs.add(blob)
    return blobs, trees


def _used_by_containers(paths: Paths) -> set[str] | None:
    """The trees that containers stand on, whatever became of their images.

    None if that cannot be told, since a container's record cannot be read.
    """
    found: set[str] = set()
    for id in os.listdir(paths.containers):
        try:
            with open(paths.containers + b"/" + id + b"/config.json", "rb") as file:
                layers = json.loads(file.read())["layers"]
            found.update(os.path.basename(layer) for layer in layers)
        except (FileNotFoundError, NotADirectoryError):
            continue  # being made or removed: its image has a row
        except (OSError, ValueError, KeyError, TypeError):
            return None
    return found


def _throw_away(paths: Paths, path: bytes) -> int:
    """Remove a file or a tree; a tree in one step out of sight first. Its size in bytes."""
    from launcher.diskuse import content_size

    if not os.path.isdir(path) or os.path.islink(path):
        size = os.lstat(path).st_size
        os.unlink(path)
        return size
    aside = layout.incoming(paths) + b"/gone-" + os.urandom(6).hex().encode()
    os.rename(path, aside)
    size = content_size(aside)
    treeremoval.remove_own(aside)
    return size
