# SPDX-License-Identifier: GPL-3.0-or-later
"""Adding to the store: layers, and the images that are made of them.

    with Store(paths) as store, store.adding() as adding:
        layer = adding.receive(file.read)              # a layer's archive, from anywhere
        layer = adding.write(lambda tar: …)            # or one that is written here, entry by entry
        id = adding.image(config, [*below, layer], ["name:latest"])

Everything is made in ROOT/incoming. `image` then has it on the disc (`durable`), renames it into
place, and enters it in the database, in that order: a crash leaves garbage, for `collect` to find,
and never a name that stands for something incomplete. Where files lie is known to `layout`, what is
entered to `catalog`.
"""

from __future__ import annotations

import os
import time

from launcher import database, treeremoval
from launcher.image import catalog, config, layermarks, layout, limits
from launcher.image.arrival import Arrival, Arrived
from launcher.image.catalog import ImageRow, LayerRow
from launcher.image.digest import Digest
from launcher.image.digest import of as digest_of
from launcher.image.durable import Flush
from launcher.image.tar import Damaged
from launcher.image.tarread import Reader, Whole
from launcher.image.tarwrite import Writer
from launcher.image.unpack import Unpacked, unpack
from launcher.paths import Paths
from launcher.sys import files
from launcher.typed import Any, Callable, Final, Iterator, NamedTuple, Sequence
from unionfs.light import contextlib, json

__all__ = ["Adding", "Layer", "NewImage", "Store", "chain_ids"]

_BUFFER: Final = 1 << 20


class Layer(NamedTuple):
    """A layer that an image can be made of: kept already, or complete and waiting to be.

    diff_id, digest -- of its archive, plain and as it is kept; 64 hex digits
    tree            -- where it is unpacked now: a directory
    row             -- as `catalog` will have it
    """

    diff_id: str
    digest: str
    tree: bytes
    row: LayerRow


class NewImage(NamedTuple):
    """An image to be made: see `Adding.image`.

    created -- when, as its document says (ns); None: to be looked up there
    """

    document: bytes
    layers: tuple[Layer, ...]
    names: tuple[str, ...] = ()
    manifest: bytes | None = None
    parent: str = ""
    created: int | None = None


class Store:
    """The store, open: a context manager. `db` is its database."""

    def __init__(self, paths: Paths) -> None:
        layout.ensure(paths)
        self.paths = paths
        self.db = database.connect(paths, durable=True)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.db.close()

    @contextlib.contextmanager
    def adding(self) -> Iterator[Adding]:
        """Add layers and images. Nothing is thrown away meanwhile; what was begun and not made
        part of an image is removed at the end.
        """
        with layout.hold(self.paths, alone=False):
            adding = Adding(self)
            try:
                yield adding
            finally:
                adding.close()

    def layers(self, image: str) -> tuple[Layer, ...]:
        """The layers of an image by its id, the lowest first."""
        return tuple(self._layer(row) for row in catalog.layers_of(self.db, image))

    def known(self, diff_id: str, digest: str | None = None) -> Layer | None:
        """A layer that is kept already, and does not depend on those below it."""
        row = catalog.known_layer(self.db, diff_id)
        if row is None or (digest is not None and row.blob != digest):
            return None
        layer = self._layer(row)
        whole = os.path.isdir(layer.tree) and os.path.exists(layout.blob(self.paths, row.blob))
        return layer if whole else None

    def sync(self) -> None:
        """Have everything that was written on the disc (syncfs(2))."""
        fd = os.open(self.paths.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            files.syncfs(fd)
        finally:
            os.close(fd)

    def _layer(self, row: LayerRow) -> Layer:
        return Layer(row.diff_id, row.blob, layout.tree(self.paths, row.tree), row)

    @contextlib.contextmanager
    def change(self, ready: Callable[[], object] | None = None) -> Iterator[None]:
        """One transaction, at the end of which index.json says the same as the database.

        ready -- called when the rest is done: what the new rows point at is there when it returns
        """
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
            layout.write_index(self.paths, self.db, ready)
            self.db.execute("COMMIT")
        except BaseException:
            self.db.execute("ROLLBACK")
            raise


class Adding:
    """What one command adds. `notes` are what could not be kept of it, for the person."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.paths = store.paths
        self.limits = limits.chosen()
        self.marks = layermarks.of_caller()
        self.notes: dict[str, None] = {}
        self._place = layout.incoming(store.paths)
        self._prefix = b"%s/%d-%s-" % (self._place, os.getpid(), os.urandom(6).hex().encode())
        self._count = 0
        self._made: dict[bytes, None] = {}
        self._trees: dict[str, bytes] = {}
        self._blobs: dict[str, bytes] = {}
        self._flush = Flush()

    def receive(
        self,
        read: Callable[[int], bytes],
        below: Sequence[Layer] = (),
        *,
        size: int | None = None,
        digest: str | None = None,
        diff_id: str | None = None,
    ) -> Layer:
        """Take in a layer's archive, compressed or not, and unpack it.

        read    -- gives up to so many bytes, b"" at the end; called in another thread
        below   -- the layers that it will lie upon, the lowest first
        size, digest, diff_id -- what it has to be. Without a digest its end must be marked.
        Raises `Damaged`, or OSError.
        """
        blob = self._new_file()
        try:
            arrival = Arrival(read, blob, self._place, self.limits, size)
            tree = self._new_directory()
            try:
                reader = Reader(arrival)
                unpacked = self._unpack(reader, tree, below)
                arrived = arrival.finish()
            finally:
                arrival.close()
        finally:
            os.close(blob)
        if digest is None and diff_id is None and not reader.ended:
            raise Damaged("it ends too early")
        for what, wanted, is_ in (
            ("digest", digest, arrived.digest),
            ("diff id", diff_id, arrived.diff_id),
        ):
            if wanted is not None and wanted != is_:
                raise Damaged(f"its {what} is sha256:{is_} and should be sha256:{wanted}")
        self._flush.begin(self._last_file)
        return self._layer(tree, self._last_file, arrived, unpacked, below)

    def write(self, fill: Callable[[Writer], None], below: Sequence[Layer] = ()) -> Layer:
        """Take in a layer that `fill` writes, entry by entry, in the order of a layer's archive."""
        return self.unpack(self.stage(fill), below)

    def stage(self, fill: Callable[[Writer], None]) -> Arrived:
        """The first half of `write`: the archive. What it was made from may change afterwards."""
        blob = self._new_file()
        digest = Digest()
        try:
            with open(blob, "wb", buffering=_BUFFER, closefd=False) as file:

                def write(data: bytes) -> None:
                    file.write(data)
                    digest.update(data)

                writer = Writer(write)
                fill(writer)
                writer.close()
                file.flush()
        finally:
            os.close(blob)
        self._flush.begin(self._last_file)
        name = digest.hexdigest()
        arrived = Arrived(name, writer.size, name, writer.size, "")
        self._staged = self._last_file
        return arrived

    def unpack(self, arrived: Arrived, below: Sequence[Layer] = ()) -> Layer:
        """The second half of `write`, for the archive that was staged last."""
        path = self._staged
        known = self.store.known(arrived.diff_id)
        if known is not None:
            self._remove(path)
            return known
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            tree = self._new_directory()
            unpacked = self._unpack(Reader(Whole(fd)), tree, below)
        finally:
            os.close(fd)
        return self._layer(tree, path, arrived, unpacked, below)

    def image(
        self,
        document: bytes | dict[str, Any],
        layers: Sequence[Layer],
        names: Sequence[str] = (),
        *,
        manifest: bytes | None = None,
        parent: str = "",
        created: int | None = None,
    ) -> str:
        """Make an image of layers, the lowest first: on the disc, in place, and entered.

        document -- its configuration, whose diff ids are those of `layers`
        names    -- REPOSITORY:TAG each, taken from the images that have them
        manifest -- as it came with the image; otherwise one is written
        created  -- when, as the document says (ns); None: to be looked up there
        Returns the image's id, 64 hex digits.
        """
        content = document if isinstance(document, bytes) else config.encoded(document)
        new = NewImage(content, tuple(layers), tuple(names), manifest, parent, created)
        (id,) = self.images([new])
        return id

    def images(self, new: Sequence[NewImage]) -> list[str]:
        """Make several images at once: all of them are there, or none. Their ids."""
        rows: list[ImageRow] = []
        now = time.time_ns()
        for each in new:
            id = self._put(each.document)
            described = [layer.row for layer in each.layers]
            manifest = each.manifest or layout.manifest(id, len(each.document), described)
            created = each.created
            if created is None:
                created = config.nanoseconds(json.loads(each.document).get("created"))
            rows.append(ImageRow(id, self._put(manifest), created, now, each.parent))
        self._settle()
        with self.store.change(self._flush.finish):
            for row, each in zip(rows, new, strict=True):
                layers = [layer.row for layer in each.layers]
                catalog.add_image(self.store.db, row, layers, each.names)
        return [row.id for row in rows]

    def close(self) -> None:
        """Remove what did not become part of an image."""
        for path in list(self._made):
            with contextlib.suppress(OSError):
                self._remove(path)

    # -- the files --------------------------------------------------------------------------------

    def _new_file(self) -> int:
        self._last_file = self._new_path()
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return os.open(self._last_file, flags, 0o600)

    def _new_directory(self) -> bytes:
        path = self._new_path()
        os.mkdir(path, 0o700)
        return path

    def _new_path(self) -> bytes:
        self._count += 1
        path = self._prefix + b"%d" % self._count
        self._made[path] = None
        return path

    def _remove(self, path: bytes) -> None:
        del self._made[path]
        if os.path.isdir(path) and not os.path.islink(path):
            treeremoval.remove_own(path)
        else:
            os.unlink(path)

    def _put(self, content: bytes) -> str:
        """Keep a blob that is small. Its digest."""
        digest = digest_of(content)
        fd = self._new_file()
        with open(fd, "wb") as file:
            file.write(content)
        self._blobs[digest] = self._last_file
        self._flush.begin(self._last_file)
        return digest

    def _unpack(self, reader: Reader, tree: bytes, below: Sequence[Layer]) -> Unpacked:
        root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        lowers: list[int] = []
        try:
            for layer in reversed(below):
                path = self._trees.get(layer.row.tree, layer.tree)
                lowers.append(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            unpacked = unpack(reader, root, self.marks, lowers, self.limits)
        finally:
            for fd in (root, *lowers):
                os.close(fd)
        self.notes.update(dict.fromkeys(unpacked.notes))
        return unpacked

    def _layer(
        self,
        tree: bytes,
        blob: bytes,
        arrived: Arrived,
        unpacked: Unpacked,
        below: Sequence[Layer],
    ) -> Layer:
        name = arrived.diff_id
        if unpacked.depends:
            name = chain_ids([*(layer.diff_id for layer in below), arrived.diff_id])[-1]
        row = LayerRow(
            name,
            arrived.diff_id,
            unpacked.size,
            arrived.plain_size,
            arrived.digest,
            arrived.size,
            arrived.compression,
        )
        if self._trees.setdefault(name, tree) == tree:
            self._flush.begin_tree(tree)
        self._blobs.setdefault(arrived.digest, blob)
        return Layer(arrived.diff_id, arrived.digest, self._trees[name], row)

    def _settle(self) -> None:
        """What was made here: on the disc, then in place, where another one may have been first.

        That the names are on the disc as well is known when `_flush` has finished.
        """
        self._flush.finish()
        for digest, path in self._blobs.items():
            os.rename(path, layout.blob(self.paths, digest))
            del self._made[path]
        for name, path in self._trees.items():
            # The same layer may have come in by another command: as complete as this one.
            with contextlib.suppress(FileExistsError), _not_empty():
                os.rename(path, layout.tree(self.paths, name))
                del self._made[path]
        self._blobs.clear()
        self._trees.clear()
        self._flush.begin(layout.blob(self.paths, ""), layout.tree(self.paths, ""))


@contextlib.contextmanager
def _not_empty() -> Iterator[None]:
    import errno

    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise


def chain_ids(diff_ids: Sequence[str]) -> list[str]:
    """The chain ids of layers, the lowest first (config.md, "Layer ChainID"); hex digits."""
    found: list[str] = []
    for diff_id in diff_ids:
        if found:
            text = f"sha256:{found[-1]} sha256:{diff_id}"
            found.append(digest_of(text.encode()))
        else:
            found.append(diff_id)
    return found
