# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina load`: the images of an archive or a directory → the store, all of them or none."""

from __future__ import annotations

from collections.abc import Callable

from launcher import events
from launcher.errors import LaunchError
from launcher.image import layout
from launcher.image.bundle import Bundle, open_bundle
from launcher.image.manifests import Found, FoundLayer, found_in
from launcher.image.store import Adding, Layer, NewImage, Store
from launcher.image.tar import Damaged
from launcher.paths import Paths
from launcher.typed import NamedTuple

__all__ = ["Loaded", "load"]

Watch = Callable[[int, int], None]


class Loaded(NamedTuple):
    """Ids (64 hex digits) with the names that came with each; and what could not be kept."""

    images: tuple[tuple[str, tuple[str, ...]], ...]
    notes: tuple[str, ...]


def load(paths: Paths, source: bytes, watch: Watch | None = None) -> Loaded:
    """Load from a directory (OCI image layout), an archive of docker's kind or of such a directory,
    compressed or not, or b"-", standard input.

    watch -- told how many bytes were taken in, and of about how many (0: not known)
    Raises LaunchError; the store is then as it was.
    """
    try:
        with Store(paths) as store, store.adding() as adding:
            where = layout.incoming(paths)
            with open_bundle(source, where, adding.limits, watch) as bundle:
                new = _Loading(store, adding, bundle, watch).images()
            ids = adding.images(new)
            named = tuple((id, each.names) for id, each in zip(ids, new, strict=True))
            for id, names in named:
                events.note_image(paths, "load", id, names[0] if names else "")
            return Loaded(named, tuple(adding.notes))
    except (Damaged, OSError) as error:
        reason = error if isinstance(error, OSError) else str(error)
        thing = "standard input" if source == b"-" else source
        raise LaunchError("load", thing, reason) from error


class _Loading:
    def __init__(self, store: Store, adding: Adding, bundle: Bundle, watch: Watch | None) -> None:
        self.store = store
        self.adding = adding
        self.bundle = bundle
        self.watch = watch
        self._done = 0
        self._layers: dict[tuple[str | None, str], Layer] = {}

    def images(self) -> list[NewImage]:
        return [self._image(each) for each in found_in(self.bundle, self.adding.limits)]

    def _image(self, found: Found) -> NewImage:
        layers: list[Layer] = []
        for each in found.layers:
            layers.append(self._layer(each, layers))
        return NewImage(found.document, tuple(layers), found.names, found.manifest)

    def _layer(self, found: FoundLayer, below: list[Layer]) -> Layer:
        key = (found.digest, found.diff_id)
        layer = self._layers.get(key) or self.store.known(found.diff_id, found.digest)
        if layer is None:
            try:
                layer = self._receive(found, below)
            except Damaged as error:
                raise Damaged(f"layer {found.diff_id[:12]}: {error}") from error
        if layer.row.tree == layer.diff_id:  # the same above any other layers
            self._layers[key] = layer
        return layer

    def _receive(self, found: FoundLayer, below: list[Layer]) -> Layer:
        with self.bundle.open(found.file) as file:
            if found.size is not None and file.size != found.size:
                raise Damaged(f"it has {file.size} bytes and should have {found.size}")
            return self.adding.receive(
                self._watched(file.read),
                below,
                size=file.size,
                digest=found.digest,
                diff_id=found.diff_id,
            )

    def _watched(self, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
        watch = self.watch
        if watch is None:
            return read

        def reading(length: int) -> bytes:
            piece = read(length)
            self._done += len(piece)
            watch(self._done, self.bundle.size)
            return piece

        return reading
