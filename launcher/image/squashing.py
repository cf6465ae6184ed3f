# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina squash`: several layers of an image → one, with the same tree and the same settings."""

from __future__ import annotations

import time
from collections.abc import Sequence

from launcher.errors import LaunchError
from launcher.image import catalog, config, flat, layout
from launcher.image.reference import tagged
from launcher.image.store import Store
from launcher.image.tar import Damaged
from launcher.image.tarwrite import Writer
from launcher.rfc3339 import rfc3339
from launcher.typed import Any, NamedTuple
from unionfs import Flattened, UnionError

__all__ = ["Squashed", "squash"]


class Squashed(NamedTuple):
    """The new image's id, 64 hex digits; how many layers became one; what could not be kept."""

    id: str
    layers: int
    notes: tuple[str, ...]


def squash(
    store: Store,
    reference: str,
    name: str | None = None,
    count: int | None = None,
    message: str = "",
) -> Squashed:
    """Make an image whose topmost `count` layers (all, if None) are one. Raises LaunchError.

    The steps of its history stay as they were, but for the layers that they made; an image of which
    nothing is to be made one is only given the name.
    """
    names = [] if name is None else [tagged(name)]
    row = catalog.find_image(store.db, reference)
    layers = store.layers(row.id)
    most = len(layers) if count is None else min(count, len(layers))
    if most < 1:
        raise LaunchError("squash", reference, "at least one layer has to be named")
    document = layout.read_json(store.paths, row.id, "configuration of image")
    kept, merged = layers[: len(layers) - most], layers[len(layers) - most :]
    notes: dict[str, None] = {}
    try:
        with store.adding() as adding:
            if len(merged) == 1:
                id = adding.image(document, layers, names, parent=row.parent)
                return Squashed(id, 1, ())

            def fill(writer: Writer) -> None:
                upper = [layer.tree for layer in reversed(merged)]
                lower = [layer.tree for layer in reversed(kept)]
                userxattr = adding.marks.prefix.startswith(b"user.")
                with Flattened(upper, lower, userxattr=userxattr) as flattened:
                    notes.update(dict.fromkeys(flat.write(flattened, writer).notes))

            layer = adding.write(fill, kept)
            new = _document(document, [*kept, layer], len(kept), most, message)
            id = adding.image(new, [*kept, layer], names, parent=row.id)
            notes.update(dict.fromkeys(adding.notes))
    except (Damaged, OSError, UnionError) as error:
        why = error if isinstance(error, OSError) else str(error)
        raise LaunchError("squash", reference, why) from error
    return Squashed(id, most, tuple(notes))


def _document(
    base: dict[str, Any], layers: Sequence[Any], kept: int, merged: int, message: str
) -> dict[str, Any]:
    """The configuration with its last layers made one (config.md, "history")."""
    now = rfc3339(time.time_ns())
    history = []
    made = 0
    for step in config.history(base, kept + merged):
        if not step.get("empty_layer"):
            made += 1
            if made > kept:
                step = {**step, "empty_layer": True}
        history.append(step)
    text = message or f"squashed {merged} layers"
    history.append({"created": now, "created_by": "lamina squash", "comment": text})
    diff_ids = [f"sha256:{layer.diff_id}" for layer in layers]
    return {
        **base,
        "created": now,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": history,
    }
