# SPDX-License-Identifier: GPL-3.0-or-later
"""From a name to what can be run: the way of every `lamina run`, which loads little."""

from __future__ import annotations

from launcher import database
from launcher.errors import LaunchError
from launcher.image import catalog, config, layout
from launcher.image.model import Image
from launcher.paths import Paths

__all__ = ["find"]


def find(paths: Paths, reference: str) -> Image:
    """The image of the store that a name or id stands for. Raises LaunchError."""
    db = database.connect(paths)
    try:
        try:
            row = catalog.find_image(db, reference)
        except LaunchError:
            if reference not in ("busybox", "busybox:latest"):
                raise
            from launcher.image.builtin import make_busybox

            make_busybox(paths)
            row = catalog.find_image(db, reference)
        names = catalog.names_of(db, row.id)
        layers = catalog.layers_of(db, row.id)
    finally:
        db.close()
    document = layout.read_json(paths, row.id, "configuration of image")
    try:
        settings = config.read(document)
    except ValueError as error:
        raise LaunchError("use image", reference, str(error)) from error
    where = tuple(layout.tree(paths, layer.tree) for layer in reversed(layers))
    return Image(row.id, names[0] if names else "", where, settings)
