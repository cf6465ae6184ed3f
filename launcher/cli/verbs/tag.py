# SPDX-License-Identifier: GPL-3.0-or-later
"""`lamina tag`: another name for an image."""

from __future__ import annotations

import os

from launcher.cli.context import Context
from unionfs import DEBUG_FLAG, HELP_FLAG, Arguments, Command, UsageError

COMMAND = Command(
    "lamina tag",
    "IMAGE REPOSITORY[:TAG]",
    "give an image another name",
    (HELP_FLAG, DEBUG_FLAG),
)


def run(arguments: Arguments, context: Context) -> int:
    """Name the image; a name that another one had is taken from that."""
    from launcher import events
    from launcher.image import catalog
    from launcher.image.reference import tagged
    from launcher.image.store import Store

    if len(arguments.operands) != 2:
        raise UsageError("tag", "", "say an image and its new name")
    image, name = (os.fsdecode(each) for each in arguments.operands)
    name = tagged(name)
    if image in ("busybox", "busybox:latest"):
        from launcher.image import find

        find(context.paths, image)  # which makes it, if need be
    with Store(context.paths) as store, store.change():
        id = catalog.find_image(store.db, image).id
        catalog.add_name(store.db, name, id)
    events.note_image(context.paths, "tag", id, name)
    return 0
