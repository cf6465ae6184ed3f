# SPDX-License-Identifier: GPL-3.0-or-later
"""What is told of an image: the steps that made it."""

from __future__ import annotations

from launcher.image import config, layout
from launcher.image.catalog import ImageRow, LayerRow
from launcher.paths import Paths
from launcher.typed import NamedTuple

__all__ = ["Step", "history"]


class Step(NamedTuple):
    """One line of a history. `image` is the id for the last step, "" for those before."""

    image: str
    created: int
    created_by: str
    comment: str
    size: int


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
