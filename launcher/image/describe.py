# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of images: their sizes and histories, and what each layer costs."""

from __future__ import annotations

import sqlite3

from launcher.image import catalog, config, layout
from launcher.image.catalog import ImageRow, LayerRow
from launcher.paths import Paths
from launcher.typed import NamedTuple

__all__ = ["LayerUse", "Step", "history", "layer_uses", "size_of"]


class Step(NamedTuple):
    """One line of a history. `image` is the id for the last step, "" for those before."""

    image: str
    created: int
    created_by: str
    comment: str
    size: int


class LayerUse(NamedTuple):
    """An unpacked layer, and how many images have it."""

    row: LayerRow
    images: int


def size_of(layers: list[LayerRow]) -> int:
    """Bytes of the files in all layers, as docker counts an image."""
    return sum(layer.size for layer in layers)


def history(paths: Paths, row: ImageRow, layers: list[LayerRow]) -> list[Step]:
    """The steps that made an image, the last one first. Raises LaunchError."""
    document = layout.read_json(paths, row.id, "configuration of image")
    entries = document.get("history")
    steps: list[Step] = []
    rest = list(layers)
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        size = 0
        if not entry.get("empty_layer") and rest:
            size = rest.pop(0).size
        steps.append(
            Step(
                "",
                config.nanoseconds(entry.get("created")),
                str(entry.get("created_by") or ""),
                str(entry.get("comment") or ""),
                size,
            )
        )
    # Layers of which the history does not tell.
    steps += [Step("", row.created, "", "", layer.size) for layer in rest]
    if steps:
        steps[-1] = steps[-1]._replace(image=row.id)
    return steps[::-1]


def layer_uses(db: sqlite3.Connection) -> list[LayerUse]:
    """Every layer, the largest first."""
    counts: dict[str, set[str]] = {}
    rows: dict[str, LayerRow] = {}
    for image in catalog.all_images(db):
        for layer in catalog.layers_of(db, image.id):
            rows[layer.tree] = layer
            counts.setdefault(layer.tree, set()).add(image.id)
    uses = [LayerUse(rows[tree], len(images)) for tree, images in counts.items()]
    return sorted(uses, key=lambda use: (-use.row.size, use.row.tree))
