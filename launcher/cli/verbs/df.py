# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina df`: what images, containers and volumes take of the disc."""

from __future__ import annotations

import os
import sys
import time
from typing import Final, NamedTuple

from launcher.cli.context import Context
from launcher.cli.listing import Listing, show
from launcher.cli.ownership import become_owner
from launcher.cli.sizes import decimal_size
from launcher.cli.tables import aligned
from launcher.cli.times import ago
from launcher.diskuse import content_size
from launcher.documents import Row
from launcher.image.catalog import ImageRow, LayerRow
from launcher.paths import Paths
from launcher.state import Entry
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, Flag, UsageError

COMMAND = Command(
    "lamina df",
    "[-v] [--format TEMPLATE]",
    "show what images, containers and volumes take of the disc",
    (
        Flag(("-v", "--verbose"), None, "each image, layer, container and volume"),
        Flag(("--format",), "TEMPLATE", "table, json, or a template like {{.Type}} {{.Size}}"),
        HELP_FLAG,
        DEBUG_FLAG,
    ),
)

_LISTING: Final = Listing(
    {
        "Type": "TYPE",
        "TotalCount": "TOTAL",
        "Active": "ACTIVE",
        "Size": "SIZE",
        "Reclaimable": "RECLAIMABLE",
    },
    ("Type", "TotalCount", "Active", "Size", "Reclaimable"),
)


class _Image(NamedTuple):
    row: ImageRow
    names: list[str]
    layers: list[LayerRow]


class _Use(NamedTuple):
    """All that is counted. Sizes in bytes."""

    images: list[_Image]
    sharing: dict[str, int]
    containers: list[tuple[Entry, int]]
    volumes: list[tuple[str, int, int]]

    def shared(self, image: _Image) -> int:
        return sum(layer.size for layer in image.layers if self.sharing[layer.tree] > 1)

    def unique(self, image: _Image) -> int:
        return sum(layer.size for layer in image.layers if self.sharing[layer.tree] == 1)

    def users(self, image: _Image) -> int:
        return sum(entry.row.image_id == image.row.id for entry, _ in self.containers)


def run(arguments: Arguments, context: Context) -> int:
    """Print the table, or with -v the tables."""
    if arguments.operands:
        raise UsageError("show disc use", "", "it takes no names")
    become_owner()
    use = _use(context.paths)
    if arguments.has("--verbose"):
        sys.stdout.write("\n".join(_verbose(use)))
        return 0
    form = os.fsdecode(arguments.one("--format") or b"")
    sys.stdout.write(show(_LISTING, _rows(use), form))
    return 0


def _use(paths: Paths) -> _Use:
    from launcher import database, volumes
    from launcher.image import catalog
    from launcher.state import State

    db = database.connect(paths)
    try:
        images = [
            _Image(row, catalog.names_of(db, row.id), catalog.layers_of(db, row.id))
            for row in catalog.all_images(db)
        ]
    finally:
        db.close()
    sharing: dict[str, int] = {}
    for image in images:
        for tree in {layer.tree for layer in image.layers}:
            sharing[tree] = sharing.get(tree, 0) + 1
    with State(paths) as state:
        containers = [
            (entry, content_size(paths.container(entry.row.id) + b"/upper"))
            for entry in state.all()
        ]
    users = volumes.users(paths)
    kept = [
        (each.name, len(users.get(each.name, ())), content_size(volumes.data(paths, each.name)))
        for each in volumes.every(paths)
    ]
    return _Use(images, sharing, containers, kept)


def _rows(use: _Use) -> list[Row]:
    sizes = {layer.tree: layer.size for image in use.images for layer in image.layers}
    active = [image for image in use.images if use.users(image)]
    needed = {layer.tree for image in active for layer in image.layers}
    running = [each for each in use.containers if each[0].running is not None]
    mounted = [each for each in use.volumes if each[1]]
    total = sum(sizes.values())
    kept = sum(sizes[tree] for tree in needed)
    return [
        _row("Images", len(use.images), len(active), total, total - kept),
        _row(
            "Containers",
            len(use.containers),
            len(running),
            sum(size for _, size in use.containers),
            sum(size for entry, size in use.containers if entry.running is None),
        ),
        _row(
            "Local Volumes",
            len(use.volumes),
            len(mounted),
            sum(size for _, _, size in use.volumes),
            sum(size for _, users, size in use.volumes if not users),
        ),
    ]


def _row(kind: str, count: int, active: int, size: int, free: int) -> Row:
    part = f" ({free * 100 // size}%)" if size else ""
    return Row(
        {
            "Active": str(active),
            "Reclaimable": decimal_size(free, 4) + part,
            "Size": decimal_size(size, 4),
            "TotalCount": str(count),
            "Type": kind,
        }
    )


def _verbose(use: _Use) -> list[str]:
    now = time.time_ns()
    titles = (
        "REPOSITORY",
        "TAG",
        "IMAGE ID",
        "CREATED",
        "SIZE",
        "SHARED SIZE",
        "UNIQUE SIZE",
        "CONTAINERS",
    )
    images = [list(titles)]
    layers = [["LAYER", "SIZE", "ARCHIVE", "IMAGES"]]
    told: set[str] = set()
    for image in use.images:
        for name in image.names or [""]:
            repository, _, tag = name.rpartition(":")
            images.append(
                [
                    repository or "<none>",
                    tag or "<none>",
                    image.row.id[:12],
                    ago(image.row.created, now) if image.row.created else "N/A",
                    decimal_size(use.shared(image) + use.unique(image)),
                    decimal_size(use.shared(image)),
                    decimal_size(use.unique(image)),
                    str(use.users(image)),
                ]
            )
        for layer in image.layers:
            if layer.tree not in told:
                told.add(layer.tree)
                layers.append(
                    [
                        layer.tree[:12],
                        decimal_size(layer.size),
                        decimal_size(layer.blob_size),
                        str(use.sharing[layer.tree]),
                    ]
                )
    containers = [["CONTAINER ID", "IMAGE", "SIZE", "CREATED", "STATUS", "NAMES"]]
    containers += [
        [
            entry.row.id[:12],
            entry.row.image,
            decimal_size(size),
            ago(entry.row.created, now),
            entry.status,
            entry.row.name,
        ]
        for entry, size in use.containers
    ]
    volumes = [["VOLUME NAME", "LINKS", "SIZE"]]
    volumes += [[name, str(users), decimal_size(size)] for name, users, size in use.volumes]
    parts = (
        ("Images space usage:", images),
        ("Layers space usage:", layers),
        ("Containers space usage:", containers),
        ("Local Volumes space usage:", volumes),
    )
    return [f"{title}\n\n{aligned(table)}" for title, table in parts]
