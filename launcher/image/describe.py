# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of images: sizes, histories, docker's JSON of `inspect`, the cost of each layer."""

from __future__ import annotations

import sqlite3
from typing import Any, NamedTuple

from launcher.image import catalog, config, layout
from launcher.image.catalog import ImageRow, LayerRow
from launcher.paths import Paths

__all__ = ["LayerUse", "Step", "history", "inspect_image", "inspected", "layer_uses", "size_of"]


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


def inspected(paths: Paths, db: sqlite3.Connection, row: ImageRow) -> dict[str, Any]:
    """An image as `docker image inspect` has it. Raises LaunchError."""
    document = layout.read_json(paths, row.id, "configuration of image")
    layers = catalog.layers_of(db, row.id)
    names = catalog.names_of(db, row.id)
    digest = f"sha256:{row.manifest}"
    repositories = dict.fromkeys(name.rpartition(":")[0] for name in names)
    settings = document.get("config")
    lowers = [layout.tree(paths, layer.tree).decode("utf-8", "surrogateescape") for layer in layers]
    data = {"LowerDir": ":".join(reversed(lowers[:-1])), "UpperDir": lowers[-1]} if lowers else {}
    found: dict[str, Any] = {
        "Id": f"sha256:{row.id}",
        "RepoTags": names,
        "RepoDigests": [f"{name}@{digest}" for name in repositories],
        "Parent": f"sha256:{row.parent}" if row.parent else "",
        "Comment": _text(document.get("comment")),
        "Created": config.timestamp(row.created) if row.created else "0001-01-01T00:00:00Z",
        "Container": "",
        "DockerVersion": _text(document.get("docker_version")),
        "Author": _text(document.get("author")),
        "Config": settings if isinstance(settings, dict) else {},
        "Architecture": _text(document.get("architecture")),
        "Os": _text(document.get("os")),
        "Size": size_of(layers),
        "VirtualSize": size_of(layers),
        "GraphDriver": {"Name": "lamina", "Data": data},
        "RootFS": {"Type": "layers", "Layers": [f"sha256:{layer.diff_id}" for layer in layers]},
        "Metadata": {"LastTagTime": config.timestamp(row.added)},
    }
    if document.get("variant"):
        found["Variant"] = _text(document["variant"])
    if document.get("os.version"):
        found["OsVersion"] = _text(document["os.version"])
    return found


def inspect_image(paths: Paths, reference: str) -> dict[str, Any]:
    """An image by its name or id as `docker image inspect` has it. Raises LaunchError."""
    from launcher import database

    db = database.connect(paths)
    try:
        return inspected(paths, db, catalog.find_image(db, reference))
    finally:
        db.close()


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


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
