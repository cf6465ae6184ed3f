# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina fsck`: whether the store is what its tables say, bit by bit; and mending it.

Each blob is read and hashed, each layer's archive is read beside its tree, and every object in the
tree must be what the archive says, marks included, with nothing missing and nothing added. A tree
that is wrong is made again from its archive. What cannot be mended is reported, and stays.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from itertools import islice

from launcher import treeremoval
from launcher.image import catalog, compression, config, layermarks, layout, limits
from launcher.image.catalog import LayerRow
from launcher.image.compare import differences
from launcher.image.store import Store, chain_ids
from launcher.image.tar import Damaged
from launcher.image.tarread import Reader, Whole
from launcher.image.unpack import unpack
from launcher.typed import Final, NamedTuple

__all__ = ["Fault", "check"]

_PIECE: Final = 1 << 20
# How many differences of one tree are told.
_TOLD: Final = 5


class Fault(NamedTuple):
    """Something wrong: with what, why, and whether it has been mended."""

    thing: str
    reason: str
    mended: bool = False


def check(store: Store, *, repair: bool) -> Iterator[Fault]:
    """Everything that is wrong with the store, as it is found. Nothing is added or thrown away
    meanwhile.
    """
    with layout.hold(store.paths, alone=True):
        yield from _index(store, repair)
        blobs: dict[str, Fault | None] = {}
        trees: set[str] = set()
        for row in catalog.all_images(store.db):
            layers = catalog.layers_of(store.db, row.id)
            yield from _image(store, row, layers, blobs)
            below: list[LayerRow] = []
            for layer in layers:
                if layer.tree not in trees:
                    trees.add(layer.tree)
                    yield from _layer(store, layer, below, blobs, repair)
                below.append(layer)
        yield from _rows(store, repair)


def _image(
    store: Store,
    row: catalog.ImageRow,
    layers: list[LayerRow],
    blobs: dict[str, Fault | None],
) -> Iterator[Fault]:
    """Configuration and manifest: intact, and of the same layers as the table has."""
    thing = f"image {row.id[:12]}"
    faults = [_blob(store, digest, -1, blobs) for digest in (row.id, row.manifest)]
    found = [fault for fault in faults if fault is not None]
    yield from found
    if found:
        return
    try:
        document = json.loads(_read(store, row.id))
        config.read(document)
        manifest = json.loads(_read(store, row.manifest))
        diff_ids = (document.get("rootfs") or {}).get("diff_ids") or []
        described = [(each["digest"], each["size"]) for each in manifest["layers"]]
        configuration = manifest["config"]["digest"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield Fault(thing, f"its configuration or manifest is damaged ({error})")
        return
    if diff_ids != [f"sha256:{layer.diff_id}" for layer in layers]:
        yield Fault(thing, "its configuration names other layers than the database")
    if described != [(f"sha256:{layer.blob}", layer.blob_size) for layer in layers]:
        yield Fault(thing, "its manifest names other layers than the database")
    if configuration != f"sha256:{row.id}":
        yield Fault(thing, "its manifest names another configuration")
    wanted = chain_ids([layer.diff_id for layer in layers])
    for chain, layer in zip(wanted, layers, strict=True):
        if layer.tree not in (layer.diff_id, chain):
            yield Fault(thing, f"layer {layer.tree[:12]} is neither a diff id nor a chain id")


def _layer(
    store: Store,
    layer: LayerRow,
    below: list[LayerRow],
    blobs: dict[str, Fault | None],
    repair: bool,
) -> Iterator[Fault]:
    """A layer's archive and its tree."""
    fault = _blob(store, layer.blob, layer.blob_size, blobs)
    if fault is not None:
        yield fault
        return
    thing = f"layer {layer.tree[:12]}"
    with contextlib.ExitStack() as stack:
        try:
            archive = _plain(store, layer, stack)
        except Damaged as error:
            yield Fault(thing, str(error))
            return
        lowers = []
        for each in reversed(below):
            with contextlib.suppress(FileNotFoundError):
                path = layout.tree(store.paths, each.tree)
                lowers.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
                stack.callback(os.close, lowers[-1])
        # What the archive makes now, beside what was made of it then.
        fresh = layout.incoming(store.paths) + b"/fsck-" + os.urandom(6).hex().encode()
        os.mkdir(fresh, 0o700)
        stack.callback(_remove, fresh)
        try:
            made = os.open(fresh, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, made)
            unpack(Reader(Whole(archive)), made, layermarks.of_caller(), lowers, limits.chosen())
            found = differences(fresh, layout.tree(store.paths, layer.tree))
            reason = "; ".join(islice(found, _TOLD))
        except (Damaged, OSError) as error:
            reason = str(error)
            repair = False
        if not reason:
            return
        if repair:
            store.sync()
            _replace(store, layer, fresh)
        yield Fault(thing, reason, repair)


def _replace(store: Store, layer: LayerRow, fresh: bytes) -> None:
    place = layout.tree(store.paths, layer.tree)
    aside = layout.incoming(store.paths) + b"/bad-" + os.urandom(6).hex().encode()
    with contextlib.suppress(FileNotFoundError):
        os.rename(place, aside)
    os.rename(fresh, place)
    layout.sync_directory(layout.tree(store.paths, ""))
    _remove(aside)


def _remove(path: bytes) -> None:
    with contextlib.suppress(OSError):  # what is left is found by a collection
        treeremoval.remove_own(path)


def _plain(store: Store, layer: LayerRow, stack: contextlib.ExitStack) -> int:
    """The archive of a layer, decompressed; `Damaged` if it is not what its diff id says."""
    blob = os.open(layout.blob(store.paths, layer.blob), os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, blob)
    if not layer.compression:
        return blob
    flags = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
    plain = os.open(layout.incoming(store.paths), flags, 0o600)
    stack.callback(os.close, plain)
    digest = hashlib.sha256()
    for piece in compression.decompressed(layer.compression, _pieces(blob)):
        digest.update(piece)
        os.write(plain, piece)
    if digest.hexdigest() != layer.diff_id:
        raise Damaged("its archive has another content than its diff id says")
    return plain


def _blob(store: Store, digest: str, size: int, known: dict[str, Fault | None]) -> Fault | None:
    """What is wrong with a blob; a size of -1 is not known."""
    if digest not in known:
        known[digest] = _blob_fault(store, digest, size)
    return known[digest]


def _blob_fault(store: Store, digest: str, size: int) -> Fault | None:
    thing = f"blob {digest[:12]}"
    try:
        fd = os.open(layout.blob(store.paths, digest), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return Fault(thing, "it is missing")
    try:
        found = hashlib.sha256()
        for piece in _pieces(fd):
            found.update(piece)
        if found.hexdigest() != digest:
            return Fault(thing, "its content has another digest")
        if size >= 0 and os.fstat(fd).st_size != size:
            return Fault(thing, "it has another size than the database says")
    except OSError as error:
        return Fault(thing, str(error.strerror))
    finally:
        os.close(fd)
    return None


def _pieces(fd: int) -> Iterator[bytes]:
    at = 0
    while piece := os.pread(fd, _PIECE, at):
        at += len(piece)
        yield piece


def _read(store: Store, digest: str) -> bytes:
    with open(layout.blob(store.paths, digest), "rb") as file:
        return file.read()


def _index(store: Store, repair: bool) -> Iterator[Fault]:
    """index.json against the tables."""
    try:
        wanted = layout.index(store.paths, store.db)
    except FileNotFoundError:
        return  # a manifest is missing, which is reported with its image
    try:
        with open(store.paths.root + b"/index.json", "rb") as file:
            same = json.loads(file.read()) == wanted
    except (OSError, ValueError):
        same = False
    if not same:
        if repair:
            with store.change():
                pass
        yield Fault("index.json", "it does not say what the database does", repair)


def _rows(store: Store, repair: bool) -> Iterator[Fault]:
    """Rows that point at nothing, and layers that no image has."""
    db = store.db
    for table, rowid, parent, _ in db.execute("PRAGMA foreign_key_check").fetchall():
        yield Fault(f"table {table}", f"row {rowid} points at nothing in {parent}")
    for (result,) in db.execute("PRAGMA integrity_check").fetchall():
        if result != "ok":
            yield Fault("database", str(result))
    unused = "SELECT tree FROM layers WHERE tree NOT IN (SELECT tree FROM image_layers)"
    for (tree,) in db.execute(unused).fetchall():
        if repair:
            db.execute("DELETE FROM layers WHERE tree = ?", (tree,))
        yield Fault(f"layer {tree[:12]}", "no image has it", repair)
