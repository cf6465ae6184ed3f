# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina save`: images of the store → an archive of docker's kind, or an OCI layout in one.

The same images give the same bytes. Docker's archives hold layers plain, as docker and podman write
them; OCI ones as they are kept, or compressed anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence

from launcher import events
from launcher.errors import LaunchError
from launcher.image import catalog, compression, config, layout, tar
from launcher.image.catalog import ImageRow, LayerRow
from launcher.image.store import Store, chain_ids
from launcher.image.tar import Damaged, Entry
from launcher.image.tarwrite import Writer
from launcher.typed import Any, Final, NamedTuple

__all__ = ["FORMATS", "save"]

FORMATS: Final = ("docker-archive", "oci-archive", "oci-dir")
_PIECE: Final = 1 << 20
_DIRECTORY: Final = 0o755


class _Wanted(NamedTuple):
    row: ImageRow
    names: tuple[str, ...]
    layers: tuple[LayerRow, ...]


def save(
    store: Store,
    references: Sequence[str],
    target: int | bytes,
    form: str,
    compress: str | None = None,
    watch: Callable[[int, int], None] | None = None,
) -> None:
    """Write images.

    target   -- a descriptor for an archive; for `oci-dir` the path of a directory, made if need be
    form     -- one of FORMATS
    compress -- for OCI: "gzip", "zstd" or "" of every layer; None keeps each as it is
    watch    -- told how many bytes of layers were written, and of how many
    Raises LaunchError, or OSError of the target.
    """
    with layout.hold(store.paths, alone=False):
        wanted = _wanted(store, references)
        total = sum({row.blob: row.plain_size for each in wanted for row in each.layers}.values())
        saving = _Saving(store, wanted, compress, total, watch)
        try:
            if form == "oci-dir":
                assert isinstance(target, bytes)
                saving.directory(target)
            elif form == "oci-archive":
                assert isinstance(target, int)
                saving.oci_archive(target)
            else:
                assert isinstance(target, int)
                saving.docker_archive(target)
        except Damaged as error:
            raise LaunchError("save", references[0], f"{error} (see lamina fsck)") from error
    for each in wanted:
        events.note_image(store.paths, "save", each.row.id, *each.names[:1])


def _wanted(store: Store, references: Sequence[str]) -> list[_Wanted]:
    """The images, each once, with the names they were asked for by."""
    names: dict[str, list[str]] = {}
    rows: dict[str, ImageRow] = {}
    for text in references:
        row = catalog.find_image(store.db, text)
        rows[row.id] = row
        said = catalog.said_name(store.db, row.id, text)
        named = names.setdefault(row.id, [])
        if said and said not in named:
            named.append(said)
    return [
        _Wanted(row, tuple(names[row.id]), tuple(catalog.layers_of(store.db, row.id)))
        for row in rows.values()
    ]


class _Saving:
    def __init__(
        self,
        store: Store,
        wanted: list[_Wanted],
        compress: str | None,
        total: int,
        watch: Callable[[int, int], None] | None,
    ) -> None:
        self.paths = store.paths
        self.wanted = wanted
        self.compress = compress
        self.total = total
        self.watch = watch
        self._done = 0

    # -- docker's ---------------------------------------------------------------------------------

    def docker_archive(self, fd: int) -> None:
        """manifest.json, configurations, and layers named by their diff ids (docker's v1.2)."""
        writer = Writer(_writing(fd))
        listed: list[dict[str, Any]] = []
        written: set[str] = set()
        repositories: dict[str, dict[str, str]] = {}
        for each in self.wanted:
            files = [f"{layer.diff_id}.tar" for layer in each.layers]
            for layer in each.layers:
                if layer.diff_id not in written:
                    written.add(layer.diff_id)
                    self._plain_layer(writer, layer)
            name = f"{each.row.id}.json"
            if name not in written:
                written.add(name)
                writer.add_bytes(_file(name), self._blob(each.row.id))
            listed.append({"Config": name, "RepoTags": list(each.names) or None, "Layers": files})
            if each.layers:
                top = chain_ids([layer.diff_id for layer in each.layers])[-1]
                for full in each.names:
                    repository, _, tag = full.rpartition(":")
                    repositories.setdefault(repository, {})[tag] = top
        writer.add_bytes(_file("manifest.json"), config.encoded_list(listed))
        writer.add_bytes(_file("repositories"), config.encoded(repositories))
        writer.close()

    def _plain_layer(self, writer: Writer, layer: LayerRow) -> None:
        path = layout.blob(self.paths, layer.blob)
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            entry = _file(f"{layer.diff_id}.tar")._replace(size=layer.plain_size)
            if not layer.compression:
                writer.add(entry, fd)
                self._count(layer.plain_size)
                return
            pieces = compression.decompressed(layer.compression, _pieces(fd))
            writer.add_pieces(entry, self._counted(pieces))
        finally:
            os.close(fd)

    # -- OCI --------------------------------------------------------------------------------------

    def oci_archive(self, fd: int) -> None:
        """An OCI image layout (image-layout.md) as an archive."""
        writer = Writer(_writing(fd))
        directories = ("blobs", "blobs/sha256")
        for name in directories:
            writer.add(Entry(name.encode() + b"/", tar.DIRECTORY, _DIRECTORY))
        written: set[str] = set()

        def put(digest: str, size: int, content: int) -> None:
            if digest not in written:
                written.add(digest)
                writer.add(_file(f"blobs/sha256/{digest}")._replace(size=size), content)

        def put_bytes(name: str, content: bytes) -> None:
            if name not in written:
                written.add(name)
                writer.add_bytes(_file(name), content)

        index = self._blobs(put, put_bytes)
        put_bytes("index.json", index)
        put_bytes("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        writer.close()

    def directory(self, target: bytes) -> None:
        """An OCI image layout. In one that is there already the index is replaced."""
        os.makedirs(target + b"/blobs/sha256", exist_ok=True)

        def put(digest: str, size: int, content: int) -> None:
            path = target + b"/blobs/sha256/" + digest.encode()
            with open(path + b".new", "wb") as file:
                for piece in _pieces(content):
                    file.write(piece)
            os.rename(path + b".new", path)

        def put_bytes(name: str, content: bytes) -> None:
            layout.write_durably(target + b"/" + name.encode(), content, 0o644)

        index = self._blobs(put, put_bytes)
        put_bytes("oci-layout", json.dumps({"imageLayoutVersion": "1.0.0"}).encode())
        put_bytes("index.json", index)

    def _blobs(
        self, put: Callable[[str, int, int], None], put_bytes: Callable[[str, bytes], None]
    ) -> bytes:
        """Put every blob; the content of index.json."""
        entries: list[dict[str, Any]] = []
        for each in self.wanted:
            changed: list[LayerRow] = []
            for layer in each.layers:
                with self._layer(layer) as (as_saved, fd):
                    put(as_saved.blob, as_saved.blob_size, fd)
                    changed.append(as_saved)
            put_bytes(f"blobs/sha256/{each.row.id}", self._blob(each.row.id))
            manifest = self._blob(each.row.manifest)
            if changed != list(each.layers):
                size = len(self._blob(each.row.id))
                manifest = layout.manifest(each.row.id, size, changed)
            digest = hashlib.sha256(manifest).hexdigest()
            put_bytes(f"blobs/sha256/{digest}", manifest)
            entry: dict[str, Any] = {
                "mediaType": layout.MANIFEST,
                "digest": f"sha256:{digest}",
                "size": len(manifest),
            }
            entries += [
                {**entry, "annotations": {layout.REF_NAME: name}} for name in each.names
            ] or [entry]
        index = {"schemaVersion": 2, "mediaType": layout.INDEX, "manifests": entries}
        return config.encoded(index)

    @contextlib.contextmanager
    def _layer(self, layer: LayerRow) -> Iterator[tuple[LayerRow, int]]:
        """A layer's blob as it is to be saved, and a descriptor of it."""
        fd = os.open(layout.blob(self.paths, layer.blob), os.O_RDONLY | os.O_CLOEXEC)
        try:
            if self.compress is None or self.compress == layer.compression:
                yield layer, fd
                self._count(layer.plain_size)
                return
            flags = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC
            made = os.open(layout.incoming(self.paths), flags, 0o600)
            try:
                digest = hashlib.sha256()
                size = 0
                plain: Iterator[bytes] = _pieces(fd)
                if layer.compression:
                    plain = compression.decompressed(layer.compression, plain)
                for piece in compression.compressed(self.compress, self._counted(plain)):
                    digest.update(piece)
                    size += len(piece)
                    os.write(made, piece)
                yield (
                    layer._replace(
                        blob=digest.hexdigest(), blob_size=size, compression=self.compress
                    ),
                    made,
                )
            finally:
                os.close(made)
        finally:
            os.close(fd)

    # -- bytes ------------------------------------------------------------------------------------

    def _blob(self, digest: str) -> bytes:
        try:
            with open(layout.blob(self.paths, digest), "rb") as file:
                return file.read()
        except OSError as error:
            raise LaunchError("read blob", digest[:12], error) from error

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._count(len(piece))
            yield piece

    def _count(self, size: int) -> None:
        self._done += size
        if self.watch is not None:
            self.watch(self._done, self.total)


def _pieces(fd: int) -> Iterator[bytes]:
    at = 0
    while piece := os.pread(fd, _PIECE, at):
        at += len(piece)
        yield piece


def _file(name: str) -> Entry:
    return Entry(name.encode(), tar.FILE, 0o644)


def _writing(fd: int) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(fd, rest) :]

    return write
